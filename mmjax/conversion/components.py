"""The components that can be converted, by name. A new one is an entry here and a module with its table."""

import dataclasses
import difflib
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mmjax import config as c
from mmjax.conversion import cogvideox
from mmjax.conversion.engine import Leaf, Misfit, Row, expand
from mmjax.conversion.source import Source, open_diffusers
from mmjax.errors import ConversionError
from mmjax.nn.dit import CogVideoXTransformer
from mmjax.partition import unbox
from mmjax.precision import FLOAT32
from mmjax.trees import Tree, flatten


@dataclasses.dataclass(frozen=True)
class Component:
    """What conversion needs to know of a component."""

    name: str
    record: type  # of mmjax.config
    open: Callable[[str], Source]
    published_config: Callable[[Any], dict[str, Any]]  # record -> the config.json of the other side
    abstract: Callable[[Any], Tree]  # record -> the parameter tree's shapes, boxed with their logical axes
    rows: Callable[[Any], list[Row]]
    causes: Callable[[Any], tuple[Callable[[Misfit], str | None], ...]]

    def leaves(self, config: Any) -> list[Leaf]:
        """Every leaf of the component's tree and where it comes from."""
        return expand(self.rows(config), {path: leaf.shape for path, leaf in flatten(self.shapes(config)).items()})

    def shapes(self, config: Any) -> Tree:
        """The parameter tree as `jax.ShapeDtypeStruct`s."""
        return unbox(self.abstract(config))


@functools.cache  # tracing takes a second, and every direction asks more than once
def abstract_transformer(config: c.Transformer) -> Tree:
    """The base transformer's parameter tree, of shapes boxed with logical axes; nothing is allocated.

    `mmjax.partition.param_shardings` makes the shardings for `load_component` from it.
    """
    one_patch = (1, config.patch_t, config.patch, config.patch, config.latent_channels)
    inputs = (
        jax.ShapeDtypeStruct(one_patch, jnp.float32),
        jax.ShapeDtypeStruct((1,), jnp.int32),
        jax.ShapeDtypeStruct((1, 1, config.text_dim), jnp.float32),
    )
    return jax.eval_shape(CogVideoXTransformer(config, FLOAT32).init, jax.random.key(0), *inputs)["params"]


COMPONENTS = {
    component.name: component
    for component in (
        Component(
            name="transformer",
            record=c.Transformer,
            open=lambda source: open_diffusers(source, "transformer", cogvideox.read_config),
            published_config=cogvideox.write_config,
            abstract=abstract_transformer,
            rows=cogvideox.table,
            causes=cogvideox.causes,
        ),
    )
}


def component(name: str) -> Component:
    """The component of this name. Raises `ConversionError` that says which there are."""
    if name in COMPONENTS:
        return COMPONENTS[name]
    near = difflib.get_close_matches(name, COMPONENTS, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ConversionError(f"component {name!r} is unknown; {hint}There are: {', '.join(COMPONENTS)}")
