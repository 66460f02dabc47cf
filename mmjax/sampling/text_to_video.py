"""Requests in, clips out: a model with its encoders and its autoencoder, ready to sample.

The parts take turns on the device: text encoder, face encoder, transformer, decoder. Each is read when its turn comes,
and the encoders' weights leave the device before the transformer's arrive, unless they are to stay.
"""

import copy
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from mmjax import config as c
from mmjax import device_memory, sharding
from mmjax.encoders import interface
from mmjax.encoders.build import make_autoencoder, make_face_encoder, make_text_encoder
from mmjax.encoders.fingerprints import agrees
from mmjax.encoders.prompts import check_trigger
from mmjax.errors import CheckpointError, ConfigError, DataError
from mmjax.models.build import Params
from mmjax.models.magicmirror.inputs import CONDITION_FIELDS
from mmjax.records import pipeline
from mmjax.records.schema import record_fields
from mmjax.sampling import devices, estimate
from mmjax.sampling.denoiser import Batch, Denoiser, Glimpse, Progress
from mmjax.sampling.size import Size, checked_size
from mmjax.validation import SEED

if TYPE_CHECKING:
    from mmjax.faces.reference_check import CheckedReference


@dataclasses.dataclass(frozen=True)
class Request:
    """One video to make.

    With references the prompt holds the class word and the trigger ("A man img ..."); without them it is plain text and
    the video is of nobody in particular. The references are pictures of one person: paths or opened pictures.
    """

    prompt: str
    references: Sequence[str | os.PathLike | Image.Image] = ()
    seed: int = 0
    negative_prompt: str = ""


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A request with what the encoders make of it; `features` are `CONDITION_FIELDS` and `keep_identity`.

    warnings: what `Sampler.check` says of the references.
    """

    request: Request
    features: Batch
    negative: Float[np.ndarray, "L text_dim"]
    pictures: Sequence[UInt8[np.ndarray, "h w 3"]]
    warnings: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Clip:
    """A video with what it was made from; `references` are the pictures as the encoder saw them.

    warnings: what was said of them, such as that one was turned upright.
    """

    frames: UInt8[np.ndarray, "frames height width 3"]
    references: Sequence[UInt8[np.ndarray, "h w 3"]]
    request: Request
    warnings: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class PromisedParams:
    """Parameters that are read when they are first needed: `abstract` has their shapes, dtypes and shardings."""

    abstract: Params
    read: Callable[[], Params]


class Sampler:
    """A model ready to sample; see `load_sampler`.

    Args:
      config: model, encoders, autoencoder and sampling settings.
      params: the parameter tree, or `PromisedParams` that are read later.
      mesh: by default the one that `config.mesh` asks for.
      source: which weights these are, for the records beside the videos.
      tiling: decode in tiles, for less memory.
      text_cache: folder in which prompts' embeddings are kept.
      strict: refuse reference pictures of poor quality; otherwise warn of them.
      trained_with: fingerprints of the encoders that the adapter was trained with, where they are known.
      resident: text and face encoders stay on the device between requests, which then read no weights again.
    """

    def __init__(
        self,
        config: c.Experiment,
        params: Params | PromisedParams,
        mesh: jax.sharding.Mesh | None = None,
        source: dict | None = None,
        *,
        tiling: bool = False,
        text_cache: str | os.PathLike | None = None,
        strict: bool = True,
        trained_with: Mapping[str, str] | None = None,
        resident: bool = False,
    ):
        self.resident = resident
        self.config, self.source = config, source or {}
        self._weights = params if isinstance(params, PromisedParams) else PromisedParams(params, lambda: params)
        self._read = functools.cache(self._weights.read)  # of those who share them the first reads
        self._tiling, self._text_cache, self._strict = tiling, text_cache, strict
        self._trained_with = trained_with or {}
        self.denoiser = Denoiser(config, mesh)
        self.seconds: dict[str, float] = {}  # that each part took the last time

    def with_settings(self, **settings) -> "Sampler":
        """The same model with other fields of `config.Sampling`; weights, encoders and programs are shared.

        Raises `ConfigError` for settings that cannot work.
        """
        _ = self.autoencoder, self._text, self.config.model.adapter.enabled and self._faces  # made once, for all
        made = copy.copy(self)
        sampling = dataclasses.replace(self.config.sampling, **settings)
        made.config = dataclasses.replace(self.config, sampling=sampling).validated()
        made.denoiser = self.denoiser.with_sampling(sampling)
        return made

    @property
    def at_once(self) -> int:
        """How many videos to denoise together, so that no device does another's work."""
        return devices.at_once(sharding.batch_shares(self.denoiser.mesh), self.config.sampling.guidance)

    @functools.cached_property
    def params(self) -> Params:
        """The model's parameters, read at the first use."""
        with self._timed("loading"):
            return self._read()

    @functools.cached_property
    def autoencoder(self):
        return make_autoencoder(self.config, self.denoiser.mesh, self._tiling)

    @functools.cached_property
    def _text(self):
        return make_text_encoder(self.config, self.denoiser.mesh, self._text_cache)

    @functools.cached_property
    def _faces(self):
        return make_face_encoder(self.config, self.denoiser.mesh, self._strict)

    def check(self, references: Sequence[str | os.PathLike | Image.Image]) -> list[str]:
        """What is to be said of reference pictures, in sentences; nothing for good ones. Reads no large weights.

        Raises:
          DataError: pictures that cannot serve: no face, several, different people, unreadable ones.
          ConfigError: references for a model without an adapter.
        """
        if references and not self.config.model.adapter.enabled:
            raise ConfigError(
                "references: expected none, since this model has no adapter; leave them out, or name the workdir of an "
                "adapter's training run (--adapter DIR)"
            )
        if not references:
            return []
        warnings = self._faces.warnings(list(references))
        trained = self._trained_with.get("face", self._faces.fingerprint)
        if not agrees(self._faces.fingerprint, trained, but=("dtype",)):
            warnings.append(
                "the face models are not those that the adapter was trained with, so the likeness will suffer: found "
                f"{self._faces.fingerprint}, expected {trained}"
            )
        return warnings

    def find_faces(self, references: Sequence[str | os.PathLike | Image.Image]) -> "list[CheckedReference]":
        """Where the face is in each reference, of which `check` had nothing against; [] for encoders that find none."""
        is_finder = self.config.model.adapter.enabled and self.config.encoders.face in c.OF_PHOTOGRAPHS
        return self._faces.check(list(references)) if is_finder and references else []

    def conditioned_by(self) -> list[str]:
        """Fingerprints of the face encoders that show people to the model, now and in training; none for a bare one."""
        if not self.config.model.adapter.enabled:
            return []
        return sorted({self._faces.fingerprint, self._trained_with.get("face", self._faces.fingerprint)})

    def check_prompts(self, requests: Sequence[Request]) -> list[str]:
        """What is to be said of the requests' prompts, in sentences. Reads no large weights.

        Raises:
          PromptError: a trigger without references. ConfigError: a seed that is none.
        """
        for request in requests:
            SEED.checked("seed", request.seed)
            check_trigger(request.prompt, request.negative_prompt, len(request.references))
        return self._text.warnings([text for each in requests for text in (each.prompt, each.negative_prompt)])

    def estimate(self, size: Size | None = None, references: int = 1) -> estimate.Estimate:
        """Compiles for one video of this size and says what it will hold and how long it may take; reads no weights."""
        size, began = checked_size(self.config, *(size or (None, None, None))), time.monotonic()
        program = self.denoiser.program(self._weights.abstract, size, references)
        denoise = decode = device_memory.held_bytes(program)
        decoder = self.autoencoder.decoder_program((1, *self.config.autoencoder.latent_shape(*size)))
        if decoder is not None:
            decode = program.memory_analysis().argument_size_in_bytes + device_memory.held_bytes(decoder)
        seconds = estimate.denoising_seconds(self.config, self._weights.abstract, size)
        steps, spent = self.config.sampling.steps, time.monotonic() - began
        return estimate.Estimate(denoise, decode, device_memory.device_limit(), steps, seconds, spent)

    def sample(
        self, requests: Sequence[Request], size: Size | None = None, progress: Progress | None = None
    ) -> list[Clip]:
        """One clip for each request, denoised together: `denoise(encode(requests))`."""
        return self.denoise(self.encode(requests), size, progress)

    def encode(self, requests: Sequence[Request]) -> list[Encoded]:
        """Runs the text and face encoders, so that what is wrong with a request shows before any denoising.

        Raises:
          PromptError: a prompt that does not say whom the references show. DataError: a reference that cannot be used.
          ConfigError: references for a model without an adapter.
        """
        warnings = [self.check(request.references) for request in requests]
        self.check_prompts(requests)
        with self._timed("text"):
            texts = [self._encode_text(request) for request in requests]
            if not self.resident:
                self._text.free()
        with self._timed("faces"):
            faces = [self._encode_faces(request) for request in requests]
            if any(request.references for request in requests) and not self.resident:
                self._faces.free()
        encoded = (self._encoded(*each) for each in zip(requests, texts, faces, strict=True))
        return [dataclasses.replace(each, warnings=said) for each, said in zip(encoded, warnings, strict=True)]

    def denoise(
        self, encoded: Sequence[Encoded], size: Size | None = None, progress: Progress | None = None
    ) -> list[Clip]:
        """One clip for each encoded request, denoised together.

        Args:
          encoded: all of one batch must have as many references.
          size: (frames, height, width); by default the longest that the model was trained on.
          progress: called after each denoising step.

        Raises:
          ConfigError: a size off the grid. DataError: unequal numbers of references.
          CheckpointError: weights that give no finite video.
        """
        videos = self.decode(self.latents(encoded, size, progress))
        return [
            Clip(frames, each.pictures, each.request, each.warnings)
            for frames, each in zip(videos, encoded, strict=True)
        ]

    def latents(
        self,
        encoded: Sequence[Encoded],
        size: Size | None = None,
        progress: Progress | None = None,
        noise: Float[np.ndarray, "b T h w C"] | None = None,
        glimpse: Glimpse | None = None,
    ) -> Float[np.ndarray, "b T h w C"]:
        """The first half of `denoise`: clean latents, from the requests' own noise or from the `noise` given.

        glimpse: called after each step with what they will be like.
        """
        size = checked_size(self.config, *(size or (None, None, None)))
        counts = sorted({len(each.features["id_embedding"]) for each in encoded})
        if len(counts) > 1:
            raise DataError(f"references: expected equally many for each request of a batch, found {counts}")
        batch = pipeline.collate([each.features for each in encoded])
        seeds = [each.request.seed for each in encoded]
        return self._finite(batch, np.stack([each.negative for each in encoded]), seeds, size, progress, noise, glimpse)

    def decode(self, latents: Float[np.ndarray, "b T h w C"]) -> UInt8[np.ndarray, "b frames height width 3"]:
        """The second half of `denoise`: videos of clean latents."""
        with self._timed("decoding"):
            return self.autoencoder.decode(latents)

    def videos(
        self,
        batch: Batch,
        negative: Float[np.ndarray, "*b L text_dim"] | None,
        seeds: Sequence[int],
        size: Size,
        progress: Progress | None = None,
    ) -> UInt8[np.ndarray, "b frames height width 3"]:
        """Videos of a batch of prepared features, such as held-out records; arguments as for `Denoiser`.

        `negative` None steers away from the empty prompt. Raises `CheckpointError` where a video is not finite.
        """
        negative = self._text.encode_plain([""])[0] if negative is None else negative
        return self.decode(self._finite(batch, negative, seeds, size, progress))

    def _finite(self, batch, negative, seeds, size, progress, noise=None, glimpse=None):
        params = self.params
        with self._timed("denoising"):
            latents = self.denoiser(params, batch, negative, seeds, size, progress, noise, glimpse)
        if not np.all(np.isfinite(latents)):
            raise CheckpointError(
                f"sampling: expected finite latents, found inf or NaN; the weights ({self.source}) are broken, use "
                "another checkpoint"
            )
        return latents

    def _encode_text(self, request: Request):
        """(text, mask, negative) of a request."""
        if request.references:
            text, mask = self._text.encode([request.prompt], len(request.references))
            return text[0], mask[0], self._text.encode_plain([request.negative_prompt])[0]
        text, negative = self._text.encode_plain([request.prompt, request.negative_prompt])
        return text, np.zeros(len(text)), negative

    def _encode_faces(self, request: Request) -> interface.FaceFeatures:
        if request.references:
            return self._faces.encode(list(request.references))
        adapter, references = self.config.model.adapter, self.config.data.references
        patches = np.zeros((references, adapter.clip_tokens, adapter.clip_dim))
        return interface.FaceFeatures(np.zeros((references, adapter.id_dim)), patches, patches, picture=np.zeros(0))

    def _encoded(self, request: Request, text: tuple, faces: interface.FaceFeatures) -> Encoded:
        text, mask, negative = text
        fields = record_fields(self.config, 1)  # the dtypes that training saw
        found = (text, mask, faces.id_embedding, faces.clip_last, faces.clip_penultimate)
        features = {
            name: np.asarray(value, fields[name].dtype) for name, value in zip(CONDITION_FIELDS, found, strict=True)
        }
        features["keep_identity"] = np.asarray(bool(request.references))
        return Encoded(request, features, negative, list(faces.picture))

    def _timed(self, part: str) -> "_Timer":
        return _Timer(self.seconds, part)


class _Timer:
    """Writes the seconds of a block under a name."""

    def __init__(self, seconds: dict[str, float], part: str):
        self._seconds, self._part = seconds, part

    def __enter__(self):
        self._began = time.monotonic()

    def __exit__(self, *_):
        self._seconds[self._part] = time.monotonic() - self._began
