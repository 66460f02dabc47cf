"""What a protocol is: a record of what a publication fixes, and of what of it cannot be had here."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Int

from mmjax.evaluation.frames import FrameSampling, union
from mmjax.evaluation.metrics.interface import Metric
from mmjax.evaluation.metrics.registry import known_metrics
from mmjax.evaluation.protocols.lacking import Lacking, in_place_of

EACH_EMBEDDER = "{embedder}"  # in the name of a column that there is for each embedder


@dataclasses.dataclass(frozen=True)
class Given:
    """What the user brought: places on this machine, "" for none.

    face_models: name or folder of a pack. embedders: their names. curricularface: CurricularFace IR-101 as an ONNX
    file. clip: a folder that `mmjax.convert clip` wrote. aesthetic: LAION's head as a file.
    """

    face_models: str = ""
    embedders: Sequence[str] = ()
    curricularface: str = ""
    clip: str = ""
    aesthetic: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluationProtocol:
    """An evaluation as it was published, or with its known slips mended.

    columns: names of the table's metrics in their order, a total behind its parts; none of them: all that are known.
      "{embedder}" in a name stands for each embedder, the protocol's own first.
    samplings: the frames that its metrics ask for; a video is decoded at all of them.
    embedders: names that it asks for, beside those that the user names.
    own: what the user gave -> the metrics that are built as this publication has them.
    instead: by column, what stands there where nobody brings that metric.
    notes: plain sentences: what is as published, what was mended, what cannot be had.
    """

    name: str
    version: str  # of the publication's evaluation; "" where it has none
    fixed: bool
    columns: tuple[str, ...]
    samplings: tuple[FrameSampling, ...]
    embedders: tuple[str, ...] = ()
    own: Callable[[Given], Sequence[Metric]] = lambda given: ()
    instead: Mapping[str, Lacking] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    published: bool = True  # false of our own

    @property
    def label(self) -> str:
        """Name, version and whether slips were mended, such as "opens2v-human 1.1 as published"."""
        form = ("mended" if self.fixed else "as published") if self.published else ""
        return " ".join(filter(None, (self.name, self.version, form)))

    def frames(self, total: int) -> Int[np.ndarray, " n"]:
        """Numbers of the frames to decode of a video that has `total` of them, ascending, each once."""
        return union(self.samplings, total)

    def metrics(self, given: Given, known: Mapping[str, Metric]) -> list[Metric]:
        """The table's metrics in its order; what nobody brings is there as `Lacking`.

        Args:
          known: metrics by name that there are already, plug-ins among them. The protocol's own go before them.
        """
        if not self.columns:
            return list(known.values())
        available = {**known, **{metric.name: metric for metric in self.own(given)}}
        names = dict.fromkeys(name for column in self.columns for name in self._expanded(column, given))
        return [available[name] if name in available else self._lacking(name) for name in names]

    def _expanded(self, column: str, given: Given) -> list[str]:
        if EACH_EMBEDDER not in column:
            return [column]
        return [column.replace(EACH_EMBEDDER, name) for name in dict.fromkeys((*self.embedders, *given.embedders))]

    def _lacking(self, name: str) -> Lacking:
        if name in self.instead:
            return self.instead[name]
        embedder = name.partition("/")[2]
        if embedder and embedder in self.embedders:
            why = f"the protocol asks for the embedder {embedder}; give it with --embedder {embedder}"
            return in_place_of(known_metrics([embedder])[name], why)
        return Lacking(name, name, f"there is no metric {name}; give one of this name with --plugin FILE.py")
