"""What a metric is. One small file each; begin with `identity.py`.

A metric says what it needs, scores a video, and has a statistic over scores. Scores are of single videos, so that a
table can have intervals over people and paired differences between systems, and a page can show the worst cases. What
cannot be computed is a score without a value that says why and what to give: never zero, never left out.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mmjax.errors import MMJaxError, error_text
from mmjax.evaluation.observation import DecodedVideo, Observation, Subject

PIXELS, FACES, EMBEDDER, REFERENCES = "pixels", "faces", "embedder", "references"
OTHERS, TEXT = "others", "text"
NEEDS = {  # what a metric may ask for, and what to give where it is missing
    PIXELS: "the video's frames",
    FACES: "a face pack (--face-models)",
    EMBEDDER: "somebody who recognises faces (--embedder, or a face pack)",
    REFERENCES: "pictures of the person (--references)",
    OTHERS: "references of two people or more",
    TEXT: "the video's prompt (--prompts)",
}
BETTER = "higher", "lower", "zero", ""  # see `Metric`
NO_PERSON = "no person is known for this video; give --references with a folder or row of their name"
NO_FACE = "no face was found in any frame"


@dataclasses.dataclass(frozen=True)
class Score:
    """Of one video.

    value: None where it is not computed.
    series: one number for each frame that was looked at (or each pair of neighbours, as the metric says), NaN for none.
    why: what is missing and what to give, where there is no value.
    details: what the statistic over videos needs beside the value, plain JSON values.
    """

    value: float | None
    series: Sequence[float] = ()
    why: str = ""
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def not_computed(why: str) -> Score:
    """A score without a value; `why` says what is missing and what to give."""
    return Score(None, why=why)


def no_reference_face(subject: Subject) -> Score:
    """A score without a value, for a person on whose pictures there is no face."""
    return not_computed(f"no face was found on the references of {subject.name}; give other pictures")


@dataclasses.dataclass(frozen=True, eq=False)
class VideoToScore:
    """A video as a metric sees it. `video` is there for metrics that need `PIXELS` alone.

    `scores` is for totals, which are made of other metrics' scores: what those before it in the table found.
    """

    observation: Observation
    subject: Subject | None = None  # who should be in it
    people: Mapping[str, Subject] = dataclasses.field(default_factory=dict)  # everybody of the set, by name
    prompt: str = ""
    video: DecodedVideo | None = None
    scores: Mapping[str, Score] = dataclasses.field(default_factory=dict)  # of this video so far, by the metric's name


class Metric(Protocol):
    """A metric. `name` is that of its column and unique in an evaluation ("identity/mbf").

    title: what it is, for the reader of a table, in a few words with its unit.
    better: one of `BETTER`: "higher" or "lower"; "zero" where real clips have 0, and what is nearer to it is better; ""
      where no side is better by itself, and the value of real clips is what to be near to.
    needs: some of `NEEDS`. Metrics that need `PIXELS` are taken in a worker, which sees one video and its subject and
      no `people`; the others at the end, when everybody has been seen.
    version: raised when its numbers change; kept scores of another version are computed anew.
    rate: whether it says yes or no of a video (1 or 0), so that its mean is a rate.
    share: whether its statistic is no mean and lies between 0 and 1, as an area under the ROC does.
    """

    name: str
    title: str
    better: str
    needs: frozenset[str]
    version: int
    rate: bool
    share: bool

    def score(self, case: VideoToScore) -> Score: ...

    def statistic(self, scores: Sequence[Score]) -> float:
        """One figure of many videos, each with a value; NaN for none."""


@runtime_checkable
class HasWeights(Protocol):
    """A metric that reads weights from files of its own: what to write down of them, and to try before a long run."""

    def fingerprint(self) -> str:
        """Changes with the weights. Opens them: raises `CheckpointError` or `ConversionError` for what cannot be."""


def described(metric: Metric) -> str:
    """Name, version and settings of a metric in a line that is the same in every process: what kept scores go by.

    Settings are the fields of a dataclass; with weights of its own, their fingerprint stands behind them.
    """
    parts = [metric.name, f"version={metric.version}"]
    if dataclasses.is_dataclass(metric):
        values = ((field.name, getattr(metric, field.name)) for field in dataclasses.fields(metric))
        parts += [f"{name}={_plain(value)}" for name, value in values if name not in ("name", "version")]
    if isinstance(metric, HasWeights):
        parts.append(metric.fingerprint())
    return " ".join(parts)


def _plain(value: Any) -> str:
    """Without addresses of memory, and sets in order."""
    if isinstance(value, frozenset | set):
        return str(sorted(value))
    if not dataclasses.is_dataclass(value) and (callable(value) or type(value).__repr__ is object.__repr__):
        return getattr(value, "__qualname__", type(value).__qualname__)
    return repr(value)


def scored(metric: Metric, case: VideoToScore) -> Score:
    """The metric's score; whatever goes wrong with it is why there is no value, and costs no other metric anything."""
    try:
        score = metric.score(case)
    except MMJaxError as error:
        return not_computed(str(error))
    except Exception as error:  # of a plug-in, which may raise anything
        return not_computed(f"it failed with {type(error).__name__}: {error_text(error)}")
    if score.value is not None and not math.isfinite(score.value):
        return not_computed("it has no finite value for this video")
    return score


class MeanOverVideos:
    """The statistic of most metrics, to inherit."""

    rate, share = False, False

    def statistic(self, scores: Sequence[Score]) -> float:
        values = [score.value for score in scores if score.value is not None]
        return float(np.mean(values)) if values else math.nan
