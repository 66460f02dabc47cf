"""Settings of any training, whatever is trained: records, optimizer, run, devices. Part of `mmjax.config`; no JAX.

`mmjax.config.Experiment` trains a diffusion model with them, `mmjax.vae_experiment.VAEExperiment` a video autoencoder.
"""

import dataclasses
import re

import ml_collections

from mmjax.model_settings import FRAME_GROUP
from mmjax.validation import (
    COUNT,
    COUNT_OR_NONE,
    LARGEST_INT,
    SEED,
    SHARE,
    Number,
    free,
    off_grid,
    one_of,
    positive,
    validated_record,
    within,
)

# What settings and flags of one meaning take; the upper ends are far beyond what anybody trained with.
FRAMES = Number(int, 1, 4097, "8k + 1")
PIXELS = Number(int, 1, 8192, "of one side")
ABOVE_ZERO = Number(float, 0, 1, above=True)
INTERVAL = Number(int, 0, LARGEST_INT, "0 is off")
_BELOW_ONE = Number(float, 0, 1 - 2**-24)  # float32's last number below 1
_LONGEST_IN_BFLOAT16 = 0.99  # decay of an average that rests in bfloat16: 1 % a step, where numbers are 0.8 % apart


@dataclasses.dataclass(frozen=True)
class RecordSources:
    """Record sources, mixed by weight; each source has one shape (frames, height, width) and its own batch size.

    A source is the path of a prepared folder; a run that goes on finds the same records, wherever they lie now.
    """

    sources: tuple[str, ...] = free(())
    weights: tuple[float, ...] = ()
    batches: tuple[int, ...] = ()  # global batch of each source
    frames: tuple[int, ...] = ()  # pixel frames of each source: 1, or 8k + 1
    height: int = 480  # pixels
    width: int = 720
    workers: int = free(0)  # Grain worker processes; 0 reads in threads

    def problems(self):
        yield from within(self, height=PIXELS, width=PIXELS, workers=Number(int, 0, 1024))

        for name in ("weights", "batches", "frames"):
            if len(getattr(self, name)) != len(self.sources):
                yield name, getattr(self, name), f"one entry for each of the {len(self.sources)} sources"
        for frames in self.frames:
            if near := off_grid(frames, FRAME_GROUP, 1):
                yield "frames", frames, f"8k + 1 for a whole k (1, 9, 17, ..., 49, 81); nearest: {near}"
            elif not FRAMES.holds(frames):
                yield "frames", frames, str(FRAMES)
        yield from within(self, weights=Number(float, 0, 1e6, above=True), batches=COUNT)


@dataclasses.dataclass(frozen=True)
class Run:
    """How long, what is trained, and what is written when. An interval of 0 switches that thing off."""

    STARTS = ()  # names of the settings that say which weights a new run starts from

    steps: int = free(1000)
    accumulate: int = free(1)  # micro-batches a step; each source's batch is split into this many
    trainable: tuple[str, ...] = (".*",)  # what is trained: full-match patterns of paths
    ema_decay: float = 0.999  # 0: no EMA
    log_every: int = free(10)
    validate_every: int = free(200)
    validation_batches: int = free(2)
    checkpoint_every: int = free(500)
    checkpoint_minutes: float = free(30.0)
    keep_checkpoints: int = free(2)
    max_skipped: int = free(10)  # steps in a row whose loss or gradient is not finite, after which the run stops
    keep_best: str = free("")  # also keep the best checkpoint by a figure with this tag, such as validation/loss

    def problems(self):
        yield from positive(self, "steps", "accumulate", "keep_checkpoints", "validation_batches")
        yield from positive(self, "log_every", "max_skipped")

        yield from within(self, validate_every=INTERVAL, checkpoint_every=INTERVAL, ema_decay=_BELOW_ONE)
        yield from within(self, checkpoint_minutes=Number(float, 0, LARGEST_INT, "0 is off"))
        if not self.trainable:
            yield "trainable", self.trainable, "at least one path pattern, such as 'face_encoder/.*'"
        for pattern in self.trainable:
            try:
                re.compile(pattern)
            except re.error as error:
                yield "trainable", self.trainable, f"regular expressions; {pattern!r} is none ({error})"


@dataclasses.dataclass(frozen=True)
class Optim:
    """AdamW, warm-up then cosine decay to `final_fraction` of the peak, clipping by the global norm."""

    learning_rate: float = 1e-5
    warmup_steps: int = 100
    final_fraction: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.01  # matrices only
    clip_norm: float = 1.0
    moments: str = "float32"  # float32 | bfloat16: in which the moments rest; see `mmjax.training.optimizer`

    def problems(self):
        yield from positive(self, "clip_norm")
        yield from one_of(self, moments=("float32", "bfloat16"))
        for name in ("beta1", "beta2"):
            if self.moments == "bfloat16" and getattr(self, name) > _LONGEST_IN_BFLOAT16:
                allowed = f"at most {_LONGEST_IN_BFLOAT16} with optim.moments = bfloat16, which rounds slower ones off"
                yield name, getattr(self, name), allowed
        yield from within(self, learning_rate=ABOVE_ZERO, eps=ABOVE_ZERO, warmup_steps=COUNT_OR_NONE)
        yield from within(self, beta1=_BELOW_ONE, beta2=_BELOW_ONE, final_fraction=SHARE)
        yield from within(self, weight_decay=Number(float, 0, 1000))


@dataclasses.dataclass(frozen=True)
class Mesh:
    """Devices along each mesh axis; -1 on one of them takes what is left. `context` shards the token axis."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    context: int = 1

    def problems(self):
        sizes = dataclasses.astuple(self)
        for field, size in zip(dataclasses.fields(self), sizes, strict=True):
            if size != -1 and not COUNT.holds(size):
                yield field.name, size, "a positive number of devices, or -1 for what is left"
        if sizes.count(-1) > 1:
            yield "data", sizes, "-1 on one axis at most"


@dataclasses.dataclass(frozen=True)
class Precision:
    """Dtypes by role. float16 is not offered: CogVideoX-5B overflows in it and gives black videos."""

    compute: str = "bfloat16"
    trained: str = "float32"
    frozen: str = "bfloat16"
    encode: str = "float32"  # of the autoencoder, pixels to latents
    decode: str = "bfloat16"
    float32_products: str = "high"  # highest | high | default: what a float32 product means, see `mmjax.precision`

    def problems(self):
        yield from one_of(self, float32_products=("highest", "high", "default"))
        for name in ("compute", "trained", "frozen", "encode", "decode"):
            value = getattr(self, name)
            if value == "float16":
                yield name, value, "bfloat16 or float32: CogVideoX overflows in float16 and gives black videos"
            elif value not in ("float32", "bfloat16"):
                yield name, value, "float32 or bfloat16"
            elif name == "trained" and value == "bfloat16":
                yield name, value, "float32: at these learning rates most updates are smaller than a step of bfloat16"


@dataclasses.dataclass(frozen=True)
class Runtime:
    """How the same numbers are computed. Weights do not depend on it, and a resumed run may change it."""

    attention: str = "auto"  # auto | xla | cudnn | splash
    remat: str = "full"  # none | full | dots: what the backward pass computes again
    stream: bool = False  # blocks' weights that are not trained stay on the host, and come to the device pair by pair
    offload: tuple[str, ...] = ()  # of the training state, what waits in host memory between steps: ema, moments
    fsdp_min_size: int = 2**20  # numbers of a parameter, below which every device of `mesh.fsdp` holds it whole

    def problems(self):
        yield from one_of(self, attention=("auto", "xla", "cudnn", "splash"), remat=("none", "full", "dots"))
        yield from within(self, fsdp_min_size=COUNT_OR_NONE)
        for name in self.offload:
            if name not in ("ema", "moments"):
                yield "offload", self.offload, "some of ema, moments"


@dataclasses.dataclass(frozen=True)
class TrainingExperiment:
    """What experiments of all kinds have and can do; each adds what is trained, its `loss`, `data` and `train`."""

    name: str = "unnamed"
    seed: int = 0
    optim: Optim = Optim()
    runtime: Runtime = free(Runtime())
    mesh: Mesh = free(Mesh())
    precision: Precision = free(Precision())

    def problems(self):
        yield from within(self, seed=SEED)
        for batch in self.data.batches:
            if batch % self.train.accumulate:
                yield "data.batches", batch, f"a multiple of train.accumulate = {self.train.accumulate}"

    def to_config_dict(self) -> ml_collections.ConfigDict:
        """The experiment as a ConfigDict, the form that flags override."""
        return ml_collections.ConfigDict(dataclasses.asdict(self))

    @classmethod
    def from_config_dict(cls, values):
        """Records from nested dictionaries; raises `ConfigError` that lists everything wrong with them."""
        if isinstance(values, ml_collections.ConfigDict):
            values = values.to_dict()
        return validated_record(cls, values)

    def validated(self):
        """Itself, after the checks of `from_config_dict`."""
        return type(self).from_config_dict(dataclasses.asdict(self))
