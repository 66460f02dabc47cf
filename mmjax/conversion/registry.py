"""The components that can be converted, by name. A new one is an entry here and a module with its table."""

import difflib

from mmjax.conversion import arcface, clip, photomaker, t5, transformer, vae
from mmjax.conversion.component import Component
from mmjax.conversion.recognise import ADAPTER, PIPELINE, PRETRAINED
from mmjax.errors import ConversionError

_ALL = (transformer, vae, t5, photomaker, clip, arcface)  # each module ends in its COMPONENT
COMPONENTS = {table.COMPONENT.name: table.COMPONENT for table in _ALL}


def component(name: str) -> Component:
    """The component of this name. Raises `ConversionError` that says which there are."""
    if name in COMPONENTS:
        return COMPONENTS[name]
    names = (*COMPONENTS, PIPELINE, ADAPTER, PRETRAINED)
    if name == PIPELINE:
        raise ConversionError(f"{name} is no single component but a pipeline of several: use convert_pipeline")
    if name == ADAPTER:
        raise ConversionError(f"an {name} is ours and not published: use mmjax.weights.export.convert_adapter")
    if name == PRETRAINED:
        raise ConversionError(f"a {name} model is ours and not published: use mmjax.pretrained.packing")
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ConversionError(f"component {name!r} is unknown; {hint}There are: {', '.join(names)}")
