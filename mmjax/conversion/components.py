"""The components that can be converted, by name. A new one is an entry here and a module with its table."""

import difflib

from mmjax.conversion import transformer
from mmjax.conversion.component import Component
from mmjax.errors import ConversionError

COMPONENTS = {each.name: each for each in (transformer.COMPONENT,)}


def component(name: str) -> Component:
    """The component of this name. Raises `ConversionError` that says which there are."""
    if name in COMPONENTS:
        return COMPONENTS[name]
    near = difflib.get_close_matches(name, COMPONENTS, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ConversionError(f"component {name!r} is unknown; {hint}There are: {', '.join(COMPONENTS)}")
