"""Videos from a trained model in a few lines of Python.

    sampler = load_sampler("runs/tiny")
    clip = sampler.sample([Request("A man img is smiling", references=["face.png"], seed=3)])[0]
    media.write_video("smiling.mp4", clip.frames, fps=8)

A clip depends on its own prompt, references and seed alone, not on the requests sampled beside it nor on the mesh, but
for rounding: its noise is the same to the bit, the products of the model are summed in another order.
Below the requests stands `Denoiser`, which turns a batch of prepared features into latents; the previews during
training use it on held-out records.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from mmjax import config as c
from mmjax import media, partition, trees
from mmjax.data import encoders, pipeline
from mmjax.data.schema import record_fields
from mmjax.diffusion import guidance, samplers
from mmjax.diffusion.schedule import make_schedule
from mmjax.errors import CheckpointError, ConfigError, DataError
from mmjax.nn.autoencoder import make_autoencoder
from mmjax.training import checkpoint
from mmjax.training.start import check_same_model
from mmjax.training.state import MODEL_FIELDS, Params, make_model

Batch = dict[str, np.ndarray]  # fields of `mmjax.data.schema`, leading axis: samples
Size = tuple[int, int, int]  # frames, height, width of a video in pixels
Progress = Callable[[int, int], None]  # (steps done, steps in all)


@dataclasses.dataclass(frozen=True)
class Request:
    """One video to make.

    With references the prompt holds the class word and the trigger ("A man img ..."); without them it is plain text and
    the identity is withheld. The references are pictures of one person: paths or opened pictures.
    """

    prompt: str
    references: Sequence[str | os.PathLike | Image.Image] = ()
    seed: int = 0
    negative_prompt: str = ""


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A request with what the encoders make of it; `features` are `MODEL_FIELDS` and `keep_identity`."""

    request: Request
    features: Batch
    negative: Float[np.ndarray, "L text_dim"]
    pictures: Sequence[UInt8[np.ndarray, "h w 3"]]


@dataclasses.dataclass(frozen=True)
class Clip:
    """A video with what it was made from; `references` are the pictures as the encoder saw them."""

    frames: UInt8[np.ndarray, "frames height width 3"]
    references: Sequence[UInt8[np.ndarray, "h w 3"]]
    request: Request


class Denoiser:
    """The denoising loop of one experiment on one mesh, compiled once for each shape of its input."""

    def __init__(self, config: c.Experiment, mesh: jax.sharding.Mesh | None = None):
        self.config, self.mesh = config, mesh or partition.make_mesh(config.mesh)
        self.autoencoder = make_autoencoder(config.autoencoder)
        self._plan = samplers.make_plan(make_schedule(config.schedule), config.sampling)
        self._model = make_model(config)
        self._encode = jax.jit(self._encode_traced)
        self._advance = jax.jit(self._advance_traced)

    def __call__(
        self,
        params: Params,
        batch: Batch,
        null_text: Float[np.ndarray, "*b L text_dim"],
        seeds: Sequence[int],
        size: Size,
        progress: Progress | None = None,
    ) -> Float[np.ndarray, "b T h w C"]:
        """Clean latents, float32, of a batch of conditions. They are not checked to be finite.

        Args:
          params: the model's parameter tree.
          batch: `MODEL_FIELDS`, and `keep_identity` [b] where some samples are to go without it.
          null_text: embedding of what to steer away from, one for all samples or one for each.
          seeds: one for each sample.
          size: of the videos, from `checked_size`.
          progress: called after each denoising step; without it all steps are one call to the device.
        """
        positive, negative = _conditions(batch, np.asarray(null_text))
        steps = len(self._plan.step)
        keys = jnp.stack([samplers.sample_keys(seed, np.arange(1))[0] for seed in seeds])
        shape = self.config.autoencoder.latent_shape(*size)
        extra = -shape[0] % self.config.model.transformer.patch_t  # 1.5 denoises whole temporal patches
        with partition.use_mesh(self.mesh):
            positive, negative = (self._encode(params, self._put(half)) for half in (positive, negative))
            noise = samplers.starting_noise(keys, (shape[0] + extra, *shape[1:]))
            state = samplers.start(self._put(noise))
            for done, piece in enumerate(samplers.split(self._plan, 1 if progress else steps), 1):
                state = self._advance(params, piece, state, positive, negative, keys)
                if progress:
                    jax.block_until_ready(state)
                    progress(done, steps)
            latents = jax.device_put(state.latents, partition.replicated(self.mesh))
        return np.asarray(latents)[:, extra:]

    def _encode_traced(self, params, batch):
        return self._model.apply({"params": params}, batch, method="encode")

    def _advance_traced(self, params, plan, state, positive, negative, keys):
        def predict(latents, timesteps, conditions):
            return self._model.apply({"params": params}, latents, timesteps, conditions, method="denoise")

        denoise = guidance.guided(predict, negative, positive, self.config.sampling)
        return samplers.advance(denoise, plan, state, samplers.keyed_noise(keys, state.latents.shape[1:]))

    def _put(self, tree):
        return jax.device_put(tree, partition.batch_sharding(self.mesh, len(jax.tree.leaves(tree)[0])))


class Sampler:
    """A model ready to sample; see `load_sampler`. `source` says which weights it holds."""

    def __init__(
        self, config: c.Experiment, params: Params, mesh: jax.sharding.Mesh | None = None, source: dict | None = None
    ):
        self.config, self.params, self.source = config, params, source or {}
        self.denoiser = Denoiser(config, mesh)
        self._text = encoders.make_text_encoder(config)

    @functools.cached_property
    def _faces(self):
        return encoders.make_face_encoder(self.config)

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
        if not self.config.model.adapter.enabled and any(request.references for request in requests):
            raise ConfigError("references: expected none, since this model has no adapter; leave them out")
        return [self._encode(request) for request in requests]

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
        size = checked_size(self.config, *(size or (None, None, None)))
        counts = sorted({len(each.features["id_embedding"]) for each in encoded})
        if len(counts) > 1:
            raise DataError(f"references: expected equally many for each request of a batch, found {counts}")
        batch = pipeline.collate([each.features for each in encoded])
        seeds = [each.request.seed for each in encoded]
        videos = self.videos(batch, np.stack([each.negative for each in encoded]), seeds, size, progress)
        return [Clip(frames, each.pictures, each.request) for frames, each in zip(videos, encoded, strict=True)]

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
        latents = self.denoiser(self.params, batch, negative, seeds, size, progress)
        if not np.all(np.isfinite(latents)):
            raise CheckpointError(
                f"sampling: expected finite latents, found inf or NaN; the weights ({self.source}) are broken, use "
                "another checkpoint"
            )
        return self.denoiser.autoencoder.decode(latents)

    def _encode(self, request: Request) -> Encoded:
        if request.references:
            text, mask = self._text.encode([request.prompt], len(request.references))
            faces = self._faces.encode(list(request.references))
            found, pictures = (faces.id_embedding, faces.clip_last, faces.clip_penultimate), list(faces.picture)
        else:
            adapter, references, pictures = self.config.model.adapter, self.config.data.references, []
            text = self._text.encode_plain([request.prompt])
            mask = np.zeros(text.shape[:2])
            patches = np.zeros((references, adapter.clip_tokens, adapter.clip_dim))
            found = np.zeros((references, adapter.id_dim)), patches, patches
        fields = record_fields(self.config, 1)  # the dtypes that training saw
        named = zip(MODEL_FIELDS, (text[0], mask[0], *found), strict=True)
        features = {name: np.asarray(value, fields[name].dtype) for name, value in named}
        features["keep_identity"] = np.asarray(bool(pictures))
        return Encoded(request, features, self._text.encode_plain([request.negative_prompt])[0], pictures)


class Preview:
    """The contact sheet that shows how far a training run has come: `train`'s `sample_fn`.

    The same held-out people, prompts and seeds at every step, so that two sheets differ by the weights alone.
    """

    def __init__(self, config: c.Experiment, mesh: jax.sharding.Mesh | None = None):
        self.config, self.denoiser = config, Denoiser(config, mesh)
        self.size = checked_size(config)
        source = config.data.sources[int(np.argmax(config.data.frames))]
        self._by_heart = source == "clip"
        self._records = pipeline.validation_records(config, source, config.train.sample_count)
        self._null_text = encoders.make_text_encoder(config).encode_plain([""])[0]

    def __call__(self, params: Params, step: int) -> UInt8[np.ndarray, "h w 3"]:
        """Samples with `params` and draws one row for each person: reference, frames, a frame of the real clip."""
        batch, count = pipeline.collate(self._records), len(self._records)
        latents = self.denoiser(params, batch, self._null_text, range(count), self.size)
        videos, real = (self.denoiser.autoencoder.decode(each) for each in (latents, batch["latents"]))
        rows = []
        for record, video, seen in zip(self._records, videos, real, strict=True):
            cells = [("reference", record["reference"][0]), *frame_cells(video), ("real", seen[len(seen) // 2])]
            rows.append(media.Row(cells, str(record["caption"])))
        shown = (
            f"learned by heart, {media.psnr(videos, real):.1f} dB PSNR" if self._by_heart else "people not trained on"
        )
        return media.contact_sheet(rows, title=f"{self.config.name}, step {step}: {shown}")


def load_sampler(
    folder: str | os.PathLike,
    *,
    adapter: str | os.PathLike | None = None,
    weights: str = "ema",
    step: int | None = None,
    mesh: c.Mesh | None = None,
    **settings,
) -> Sampler:
    """The model of a training workdir, ready to sample.

    Args:
      folder: a workdir of `mmjax.train`.
      adapter: another workdir, whose adapter takes the place of this one's.
      weights: "ema", the averaged ones where the run kept an average, or "raw".
      step: of the checkpoint; by default the last one.
      mesh: by default all devices along `data`, whatever mesh the model was trained on.
      **settings: fields of `config.Sampling` that are to differ from the run's, such as `steps=25`.

    Raises:
      CheckpointError: no run, no checkpoint, or one that cannot be read; an adapter of another model.
      ConfigError: a setting that cannot work.
    """
    config = checkpoint.read_config(folder)
    config = dataclasses.replace(config, mesh=mesh or c.Mesh())
    config = dataclasses.replace(config, sampling=dataclasses.replace(config.sampling, **settings)).validated()
    if weights not in ("ema", "raw"):
        raise ConfigError(f"weights = {weights!r}: expected ema or raw")
    step = checkpoint.latest_step(folder) if step is None else step
    devices = partition.make_mesh(config.mesh)
    params = checkpoint.load_params(folder, step, weights == "ema", devices)
    averaged = weights == "ema" and config.train.ema_decay > 0
    source = {"model": str(folder), "step": step, "weights": "ema" if averaged else "raw"}
    if adapter is not None:
        params = _with_adapter(params, config, Path(adapter), weights == "ema")
        source["adapter"] = str(adapter)
    return Sampler(config, params, devices, source)


def checked_size(
    config: c.Experiment, frames: int | None = None, height: int | None = None, width: int | None = None
) -> Size:
    """The size of a video in pixels, by default that of the experiment's longest source.

    Raises:
      ConfigError: a size off the model's grid, with the nearest ones that are on it.
    """
    frames = max(config.data.frames, default=1) if frames is None else frames
    size = frames, config.data.height if height is None else height, config.data.width if width is None else width
    unit = config.autoencoder.spatial * config.model.transformer.patch
    for name, value, multiple, rest in zip(
        ("frames", "height", "width"), size, (8, unit, unit), (1, 0, 0), strict=True
    ):
        if value < 1 or value % multiple != rest:
            below = (value - rest) // multiple * multiple + rest
            near = " or ".join(str(each) for each in (below, below + multiple) if each > 0)
            kind = "8k + 1 (1, 9, 17, ...)" if rest else f"a multiple of {unit} pixels (autoencoder x patch)"
            raise ConfigError(f"{name} = {value}: expected {kind}, nearest {near}")
    return size


def frame_cells(video: UInt8[np.ndarray, "frames h w 3"], count: int = 4) -> list[tuple[str, np.ndarray]]:
    """Cells of a contact sheet: `count` frames from the first to the last, with their numbers."""
    return [(f"frame {index}", video[index]) for index in media.spread(count, len(video))]


def _conditions(batch: Batch, null_text: np.ndarray) -> tuple[Batch, Batch]:
    """The batch as it is, and the same without its prompt and its identity (SPEC 2)."""
    positive = {name: np.asarray(batch[name]) for name in MODEL_FIELDS}
    positive["keep_identity"] = np.asarray(batch.get("keep_identity", np.ones(len(batch["text"]), bool)))
    nothing = {
        "text": np.broadcast_to(null_text, positive["text"].shape).astype(positive["text"].dtype),
        "class_mask": np.zeros_like(positive["class_mask"]),
        "keep_identity": np.zeros_like(positive["keep_identity"]),
    }
    return positive, positive | nothing


def _with_adapter(params: Params, config: c.Experiment, folder: Path, ema: bool) -> Params:
    check_same_model(checkpoint.read_config(folder).model, config.model, f"adapter {folder}")
    old, rest = trees.split(params, trees.ADAPTER_PATTERNS)
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), old)
    return trees.merge(checkpoint.load_trained(folder, abstract, None, ema), rest)
