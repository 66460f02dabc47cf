"""What conversion needs to know of a component: the record that each table's module ends in; `registry` lists them."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmjax.conversion.engine import Leaf, Misfit, Row, expand
from mmjax.conversion.source import DIFFUSERS, Source
from mmjax.sharding import unbox
from mmjax.trees import Tree, flatten


@dataclasses.dataclass(frozen=True)
class Component:
    """A network that can be converted: how to open its source, its table, and how to write it back.

    name: on the command line.
    summary: what it is and who publishes it, one line of the command's help.
    record: class of its configuration, a frozen dataclass of plain values; `validated_record` makes it from JSON.
    open: a path or hub id as `Source`.
    published_config: record -> the config.json of the other side.
    abstract: record -> the parameter tree's shapes, boxed with their logical axes where it has any.
    rows: record -> the table.
    causes: record -> guesses of what went wrong when tensors do not fit.
    unused: source key -> why mmjax has no use for that tensor, or None when it is part of the table. What is unused
      is named in the report and the manifest, never dropped in silence.
    stem: of the names of the files that are written back, before the number and `.safetensors`.
    write: (record, {source key: tensor}, path) -> one file of another format, where it is not published as safetensors.
    tokenizer: (folder of the tokenizer that is published beside it, record) -> what is wrong with it, "" for nothing;
      where texts cannot be encoded without one.
    """

    name: str
    record: type
    open: Callable[[str], Source]
    published_config: Callable[[Any], dict[str, Any]]
    abstract: Callable[[Any], Tree]
    rows: Callable[[Any], list[Row]]
    causes: Callable[[Any], tuple[Callable[[Misfit], str | None], ...]] = lambda record: ()
    unused: Callable[[str], str | None] = lambda key: None
    summary: str = ""
    stem: str = DIFFUSERS
    tokenizer: Callable[[Path, Any], str] | None = None
    write: Callable[[Any, Mapping[str, Any], Path], None] | None = None

    def leaves(self, config: Any) -> list[Leaf]:
        """Every leaf of the component's tree and where it comes from."""
        return expand(self.rows(config), {path: leaf.shape for path, leaf in flatten(self.shapes(config)).items()})

    def shapes(self, config: Any) -> Tree:
        """The parameter tree as `jax.ShapeDtypeStruct`s."""
        return unbox(self.abstract(config))

    def used(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """The entries of `{source key: ...}` that are not unused."""
        return {key: value for key, value in found.items() if self.unused(key) is None}
