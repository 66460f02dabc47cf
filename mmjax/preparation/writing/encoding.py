"""From pairs to records: pixels come from the workers, the accelerator encodes them in batches.

Latents are most of the work; captions and references are encoded a shard at a time, each of them once. The rows of a
batch are always as many, whatever is left over: few programs are compiled, and a record does not depend on how a run
was cut up.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8

from mmjax.config import Experiment
from mmjax.encoders.batching import run_filled
from mmjax.encoders.interface import FaceFeatures
from mmjax.errors import PromptError, UnreadableError
from mmjax.faces.masks import face_masks
from mmjax.preparation.analysis.chunks import still_name
from mmjax.preparation.captions import Captioner, caption_for
from mmjax.preparation.items import Dropped, SampleFrames, Still
from mmjax.preparation.pairing.pairs import Pair
from mmjax.preparation.reasons import Rejected
from mmjax.preparation.settings import Settings
from mmjax.records.making import EncoderSet, Footage, record_of
from mmjax.records.schema import BFLOAT16, Record

_PHOTOS, _CLIPS = 16, 1  # that the autoencoder sees at once
_FACES, _CAPTIONS = 64, 8


def with_portraits(pairs: Sequence[Pair], whole: Mapping[str, Still]) -> list[Pair]:
    """Pairs with the stills of `whole`, by `still_name`, in place of those whose portraits were left on disk."""
    return [
        dataclasses.replace(pair, stills=tuple(whole[still_name(still)] for still in pair.stills)) for pair in pairs
    ]


class _Text(NamedTuple):
    """What the text encoder says of a caption."""

    embedding: Shaped[np.ndarray, "L text_dim"]
    class_mask: Bool[np.ndarray, " L"]  # m of eq. 5


@dataclasses.dataclass(frozen=True, eq=False)
class _Ready:
    """A sample that has all but its latents."""

    pair: Pair
    shown: SampleFrames
    caption: str
    text: _Text


class RecordMaker:
    """Makes the records of shards.

    Args:
      encoders: of the experiment; the face encoder has `encode_crops`.
      captioner: the user's, or None where samples carry their final captions.
    """

    def __init__(
        self, config: Experiment, encoders: EncoderSet, settings: Settings, captioner: Captioner | None = None
    ):
        self._references, self._encoders = config.data.references, encoders
        self._settings, self._captioner = settings, captioner

    def records(
        self, pairs: Sequence[Pair], frames: Iterable[SampleFrames | Rejected], dropped: list[Dropped]
    ) -> Iterator[tuple[Pair, Record]]:
        """Records of the pairs, in their order; what cannot be one is added to `dropped`.

        Args:
          pairs: with whole stills, of samples with as many frames each.
          frames: of the samples, or why there are none.
        """
        faces = self._faces(pairs)
        texts = {} if self._captioner else self._texts([pair.sample.caption for pair in pairs])
        with ThreadPoolExecutor(1) as accelerator:  # encodes a batch while the records of the last one are put together
            under_way = None
            for batch in self._batches(pairs, frames, texts, dropped):
                latents = accelerator.submit(self._latents, [ready.shown.pixels for ready in batch])
                if under_way:
                    yield from self._finished(*under_way, faces)
                under_way = batch, latents
            if under_way:
                yield from self._finished(*under_way, faces)

    def _batches(self, pairs, frames, texts, dropped) -> Iterator[list[_Ready]]:
        waiting: list[_Ready] = []
        for pair, shown in zip(pairs, frames, strict=True):
            try:
                waiting.append(self._ready(pair, shown, texts))
            except Rejected as error:
                dropped.append(Dropped(pair.sample.key, error.reason, error.detail, error.value))
                continue
            if len(waiting) == _rows(shown.pixels):
                yield waiting
                waiting = []
        if waiting:
            yield waiting

    def _latents(self, videos: Sequence[UInt8[np.ndarray, "F h w 3"]]) -> Float[np.ndarray, "n T H W C"]:
        return run_filled(self._encoders.autoencoder.encode, np.stack(videos), _rows(videos[0]))

    def _finished(
        self, batch: list[_Ready], latents: Future, faces: Mapping[str, FaceFeatures]
    ) -> Iterator[tuple[Pair, Record]]:
        footages = []
        for ready in batch:
            shown = ready.shown
            masks = face_masks(shown.landmarks, shown.boxes, *shown.pixels.shape[1:3])
            footages.append(Footage(shown.pixels, masks, shown.boxes, shown.landmarks))
        for ready, footage, own in zip(batch, footages, latents.result(), strict=True):
            pair = ready.pair
            references = _joined([faces[still_name(still)] for still in pair.stills])
            names = {"caption": ready.caption, "person": pair.sample.person or pair.sample.item}
            source = f"{pair.sample.collection}: {pair.sample.key}"
            yield pair, record_of(footage, own, *ready.text, references, **names, source=source)

    def _ready(self, pair: Pair, shown: SampleFrames | Rejected, texts: Mapping[str, _Text | Rejected]) -> _Ready:
        if isinstance(shown, Rejected):
            raise shown
        sample, caption = pair.sample, pair.sample.caption
        if self._captioner:
            attributes = None
            if "age" in sample.scores:
                attributes = ("man" if sample.scores["male"] else "woman", sample.scores["age"])
            caption = caption_for(sample, lambda: shown.pixels, self._settings, attributes, self._captioner)
        text = texts[caption] if caption in texts else self._texts([caption])[caption]
        if isinstance(text, Rejected):
            raise text
        return _Ready(pair, shown, caption, text)

    def _texts(self, captions: Sequence[str]) -> dict[str, _Text | Rejected]:
        """Of each caption, or why it has none."""
        unique, found = list(dict.fromkeys(captions)), {}
        for start in range(0, len(unique), _CAPTIONS):
            found |= self._text(unique[start : start + _CAPTIONS])
        return found

    def _text(self, captions: list[str]) -> dict[str, _Text | Rejected]:
        try:
            embeddings, masks = self._encoders.text.encode(captions, self._references)
        except PromptError as error:
            if len(captions) == 1:
                reason = "unreadable_caption" if isinstance(error, UnreadableError) else "long_caption"
                return {captions[0]: Rejected(reason, str(error))}
            return {caption: found for each in captions for caption, found in self._text([each]).items()}
        texts = map(_Text, embeddings.astype(BFLOAT16), masks)
        return dict(zip(captions, texts, strict=True))

    def _faces(self, pairs: Sequence[Pair]) -> dict[str, FaceFeatures]:
        """Features of each still, by its name."""
        stills = list({still_name(still): still for pair in pairs for still in pair.stills}.values())
        found = {}
        for start in range(0, len(stills), _FACES):
            group = stills[start : start + _FACES]
            embeddings, portraits = [still.embedding for still in group], [still.portrait for still in group]
            features = self._encoders.face.encode_crops(np.stack(embeddings), np.stack(portraits))
            for number, still in enumerate(group):
                found[still_name(still)] = FaceFeatures(
                    features.id_embedding[number],
                    features.clip_last[number].astype(BFLOAT16),
                    features.clip_penultimate[number].astype(BFLOAT16),
                    features.picture[number],
                )
        return found


def _rows(frames: np.ndarray) -> int:
    return _PHOTOS if len(frames) == 1 else _CLIPS


def _joined(rows: Sequence[FaceFeatures]) -> FaceFeatures:
    names = [field.name for field in dataclasses.fields(FaceFeatures)]
    return FaceFeatures(**{name: np.stack([getattr(row, name) for row in rows]) for name in names})
