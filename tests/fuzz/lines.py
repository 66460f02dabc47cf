"""Command lines of the entry points: for each flag plausible and broken values, a few of them in every line."""

import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.fuzz.damage import damaged_copy

NUMBERS = (
    "nan",
    "inf",
    "-inf",
    "-1",
    "0",
    "1e400",
    "1e12",
    "4294967301",
    str(2**63),
    str(2**64),
    "x",
    "",
    "0x10",
    "1,5",
)
WORDS = ("", " ", "\udcff", "ä" * 300, "日本語の文", "a\nb", "--", "'", '"; rm', "$HOME", "\x00"[:0], "%s", "{}", "~")
INPUTS = (
    *("run", "adapter.safetensors", "published", "converted", "photomaker.bin", "faces", "faces/0.png"),
    *("faces/1.png", "photo.jpg", "photos", "clip.mp4", "prompts.txt", "manifest.csv", "manifest.jsonl", "shots.toml"),
    *("latents.npy", "wide.npy", "nan.npy", "train.py", "prepare.py", "published/transformer"),
    *("converted/transformer", "published/vae", "converted/tokenizer", "nowhere", "records", "photos/000.jpg"),
    *("videos", "run/config.json", "", "/dev/null", "/proc/self/mem", "zai-org/CogVideoX-5b"),
)


class Lines:
    """Draws command lines of one entry point.

    Args:
      inputs: folder of `workspace.make`.
      here: folder of the line's own, for outputs and damaged copies.
      draw: decides everything.
    """

    def __init__(self, inputs: Path, here: Path, draw: random.Random):
        self.inputs, self.here, self.draw = inputs, here, draw

    def input(self, *wanted: str, right: float = 0.75) -> str:
        """One of the wanted inputs, mostly; damaged, another one or a path of no use in the other cases."""
        draw = self.draw
        name = draw.choice(wanted) if draw.random() < right else draw.choice(INPUTS)
        path = self.inputs / name if name and not name.startswith("/") and not name.startswith("zai") else Path(name)
        if draw.random() < 0.4 and name and path.exists() and self.inputs in path.parents:
            return str(damaged_copy(path, self.here / f"damaged{draw.randrange(10**6)}" / path.name, draw))
        if draw.random() < 0.05:
            return str(path) + draw.choice(("/", "/..", "x", " ", "\\a"))
        return str(path) if name else ""

    def workdir(self) -> str:
        """A copy of a run, mostly whole: training goes on in it."""
        copy = self.here / "copy"
        shutil.copytree(self.inputs / "run", copy)
        if self.draw.random() < 0.7:
            return str(copy)
        return str(damaged_copy(copy, self.here / "damaged", self.draw))

    def output(self, suffix: str = "") -> str:
        """Mostly a path that can be written."""
        draw = self.draw
        if draw.random() < 0.7:
            return str(self.here / f"out{suffix}")
        broken = [self.inputs / "photo.jpg", self.inputs / "run", self.inputs / "faces", "/proc/out", "/dev/full"]
        broken += [self.here / ("n" * 300), self.here / "file" / f"a{suffix}", self.here / "ä b" / f"ü{suffix}", ""]
        broken += [f"~/../{self.here}/t{suffix}", self.inputs / "prompts.txt" / f"a{suffix}", self.here]
        return str(draw.choice(broken))

    def number(self, *plausible: object) -> str:
        return str(self.draw.choice(plausible)) if self.draw.random() < 0.6 else self.draw.choice(NUMBERS)

    def word(self, *plausible: str) -> str:
        return self.draw.choice(plausible) if self.draw.random() < 0.7 else self.draw.choice(WORDS)

    def some(self, flags: dict[str, Callable[[], str]], most: int, join: bool = False) -> list[str]:
        """A few of the flags with values; now and then one that does not exist, or one without its value."""
        parts = []
        for name in self.draw.sample(sorted(flags), self.draw.randrange(most + 1)):
            value = flags[name]()
            parts += [f"{name}={value}"] if join else [name, value]
        if self.draw.random() < 0.05:
            parts.append(self.draw.choice(("--nothing", "--help", "-", "--seed", "rest")))
        return parts


def sample(make: Lines) -> list[str]:
    """Mostly two steps of the tiny run."""
    line = ["--model", make.input("run", "run", "converted"), "--output", make.output(".mp4"), "--steps", "2"]
    prompt = lambda: make.word("A man img is smiling", "A woman img", "A cat", "img", "A man smiling")  # noqa: E731
    line += ["--prompts", make.input("prompts.txt")] if make.draw.random() < 0.15 else ["--prompt", prompt()]
    flags = {
        "--reference": lambda: make.input("faces/0.png", "faces/1.png", "photo.jpg"),
        "--seed": lambda: make.number(0, 7, 2**32 - 1),
        "--fps": lambda: make.number(8, 16, 0.5),
        "--guidance": lambda: make.number(1, 6, 0),
        "--identity-scale": lambda: make.number(0, 0.5, 1),
        "--frames": lambda: make.number(1, 9, 8),
        "--height": lambda: make.number(16, 32, 7),
        "--width": lambda: make.number(16, 64),
        "--videos": lambda: make.number(1, 2),
        "--sampler": lambda: make.word("ddim", "dpm", "dpmpp_2m"),
        "--precision": lambda: make.word("float32", "bfloat16"),
        "--mesh": lambda: make.word("data=1", "context=1,data=1", "data=2", "tensor"),
        "--adapter": lambda: make.input("run", "adapter.safetensors"),
        "--photomaker": lambda: make.input("photomaker.bin"),
        "--face-models": lambda: make.input("faces", "nowhere"),
        "--init-latents": lambda: make.input("latents.npy", "wide.npy", "nan.npy"),
        "--save-latents": lambda: make.output(".npy"),
        "--decode": lambda: make.input("latents.npy", "wide.npy"),
        "--shots": lambda: make.input("shots.toml", "shots.txt", "prompts.txt"),
        "--embedder": lambda: make.word("nothing:at_all", make.input("photomaker.bin")),
        "--c2pa-cert": lambda: make.input("photo.jpg", "nowhere"),
        "--c2pa-key": lambda: make.input("photo.jpg", "nowhere"),
        "--negative-prompt": prompt,
        "--step": lambda: make.word("best") if make.draw.random() < 0.2 else make.number(2, 3),
        "--text-cache": lambda: make.output(),
    }
    return line + make.some(flags, 4) + make.draw.choice(([], [], ["--low-memory"], ["--lenient"], ["--overwrite"]))


def convert(make: Lines) -> list[str]:
    """Small published weights, an adapter, and anything else."""
    of_runs = ("adapter", "pretrained")
    component = make.word("cogvideox", "transformer", "vae", "text-encoder", "photomaker", "arcface", "clip", *of_runs)
    wanted = ("published", "published/transformer", "published/vae", "photomaker.bin", "converted")
    source = make.input(*(("run", "adapter.safetensors") if component in of_runs else wanted))
    flags = {
        "--dtype": lambda: make.word("float32", "bfloat16", "float16"),
        "--tokenizer": lambda: make.input("converted"),
        "--step": lambda: make.number(2, 3),
        "--licence": lambda: make.word("research only"),
        "--about": lambda: make.input("nowhere"),
    }
    output = make.output(".safetensors" if component == "adapter" else "")
    line = [component, "--source", source, "--output", output]
    return line + make.some(flags, 2) + make.draw.choice(([], [], [], ["--reverse"], ["--overwrite"]))


def train(make: Lines) -> list[str]:
    """Two steps of a run of a few thousand weights."""
    config, workdir = make.input("train.py", right=0.85), make.output()
    if workdir == str(make.inputs / "faces"):  # any folder may become a workdir, and would then be no input any more
        workdir = str(make.here)
    line = [
        f"--config={config}",
        f"--workdir={workdir}",
        "--config.train.steps=2",
        "--config.train.validate_every=0",
    ]
    setting = lambda *values: lambda: make.number(*values)  # noqa: E731
    flags = {
        "--config.optim.learning_rate": setting(1e-3, 0.1),
        "--config.train.log_every": setting(1, 5),
        "--config.train.checkpoint_every": setting(0, 1, 5),
        "--config.train.accumulate": setting(1, 2, 3),
        "--config.seed": setting(0, 3),
        "--config.mesh.data": setting(1, 2),
        "--config.data.batches": lambda: make.word("(8,)", "(7,)", "(8,8)", "8", "(nan,)"),
        "--config.data.sources": lambda: make.word("('drawn_images',)", "('nowhere',)", "()", make.input("records")),
        "--config.data.frames": lambda: make.word("(1,)", "(8,)", "(9,)", "()"),
        "--config.train.trainable": lambda: make.word("('.*',)", "('(',)", "('nothing',)"),
        "--config.train.base": lambda: make.input("converted/transformer", "nowhere"),
        "--config.train.adapter": lambda: make.input("run", "adapter.safetensors"),
        "--config.train.photomaker": lambda: make.input("photomaker.bin"),
        "--config.precision.compute": lambda: make.word("float32", "bfloat16", "float16"),
        "--config.runtime.remat": lambda: make.word("none", "full", "dots"),
        "--config.nothing": lambda: "3",
        "--processes": setting(1, 2),
        "--process": setting(0, 1),
        "--start_timeout": setting(5, 20),
        "--coordinator": lambda: make.word("127.0.0.1:1", "localhost", "auto", "nowhere.invalid:99999"),
        "--compilation_cache": lambda: make.output(),
    }
    if make.draw.random() < 0.25:
        line = [f"--workdir={make.workdir()}", "--config.train.steps=3"]
    return line + make.some(flags, 3, join=True)


def prepare(make: Lines) -> list[str]:
    """Three photographs, lists of them, or a clip."""
    line = [f"--config={make.input('prepare.py', right=0.95)}", f"--output={make.output()}", "--workers=0"]
    if make.draw.random() < 0.75:
        line.append(f"--input={make.input('photos', 'photo.jpg', 'clip.mp4')}")
    setting = lambda *values: lambda: make.number(*values)  # noqa: E731
    flags = {
        "--manifest": lambda: make.input("manifest.csv", "manifest.jsonl"),
        "--references": lambda: make.input("photos"),
        "--face-models": lambda: make.input("faces", "nowhere"),
        "--tfds": lambda: make.word("lfw", "nothing"),
        "--settings.min_face": setting(10, 48),
        "--settings.min_sharpness": setting(0, 0.2),
        "--settings.class_word": lambda: make.word("woman", "person", "cat"),
        "--settings.caption_template": lambda: make.word("A {class_word} img", "A img", "{nothing}"),
        "--settings.captioner": lambda: make.word("module:function", "os:getcwd"),
        "--settings.nothing": lambda: "3",
        "--process": setting(0, 1),
        "--processes": setting(1, 2),
        "--text-cache": lambda: make.output(),
    }
    return line + make.some(flags, 3, join=True)


def bench(make: Lines) -> list[str]:
    """Mostly lines that end before anything is measured."""
    line = [f"--config={make.input('train.py')}", f"--only={make.word('text', 'faces', 'nothing', 'text,nothing')}"]
    flags = {
        "--repeats": lambda: make.number(1, 2),
        "--output": lambda: make.output(".json"),
        "--config.data.height": lambda: make.number(16, 32),
        "--config.nothing": lambda: "3",
    }
    return line + make.some(flags, 3, join=True) + make.draw.choice(([], [], [], ["--plan"], ["--topology=v6e:2x2"]))


def evaluate(make: Lines) -> list[str]:
    """Pictures as references, a clip and whatever else as videos; now and then videos of the tiny run, made first."""
    line = ["--output", make.output(), "--workers=0"]
    if make.draw.random() < 0.2:
        line += ["--model", make.input("run"), "--people", make.input("faces", "photos"), "--steps=2"]
        line += ["--prompts", make.input("prompts.txt")]
    else:
        name = make.draw.choice(("", "", "ours=", "a/b=", "=", "ä b="))
        line += ["--videos", name + make.input("videos", "videos", "videos", "photos")]
    flags = {
        "--videos": lambda: make.input("videos", "faces"),
        "--references": lambda: make.input("photos", "faces", "manifest.csv", "manifest.jsonl"),
        "--prompts": lambda: make.input("prompts.txt", "manifest.csv"),
        "--face-models": lambda: make.input("faces", "nowhere"),
        "--embedder": lambda: make.word("dlib", "os:getcwd", "nothing:at_all", make.input("photomaker.bin")),
        "--protocol": lambda: make.word("mmjax", "magicmirror", "consisid", "opens2v-human", "opens2v-human-1.0"),
        "--plugin": lambda: make.input("train.py", "nowhere"),
        "--clip": lambda: make.input("photomaker.bin", "converted"),
        "--seeds": lambda: make.word("0", "1,2", "-1", "a"),
        "--seconds": lambda: make.number(10, 300),
        "--batch": lambda: make.number(1, 2),
        "--name": lambda: make.word("mine", "a/b"),
    }
    return line + make.some(flags, 2) + make.draw.choice(([], [], ["--fixed"]))


def inspect(make: Lines) -> list[str]:
    """One file or a few, of any kind."""
    made = ("clip.mp4", "latents.npy", "adapter.safetensors", "run", "photo.jpg", "converted", "videos", "records")
    line = [make.input(*made) for _ in range(make.draw.randint(1, 3))]
    return line + make.some({}, 0) + make.draw.choice(([], ["--json"]))


def demo(make: Lines) -> list[str]:
    """Mostly a page that is interrupted as soon as it stands."""
    line = ["--model", make.input("run", "run", "converted", right=0.85)]
    flags = {
        "--adapter": lambda: make.input("run", "adapter.safetensors"),
        "--step": lambda: make.word("best") if make.draw.random() < 0.2 else make.number(2, 3),
        "--face-models": lambda: make.input("faces", "nowhere"),
        "--precision": lambda: make.word("float32", "bfloat16"),
        "--mesh": lambda: make.word("data=1", "data=2", "tensor"),
        "--text-encoder": lambda: make.word("auto", "resident", "released"),
        "--host": lambda: make.word("127.0.0.1", "localhost", "0.0.0.0", "nowhere.invalid"),
        "--port": lambda: make.number(*range(20000, 60000, 97)),
        "--auth": lambda: make.word("me:long enough", "me:short", "me", ":"),
        "--keep-minutes": lambda: make.number(1, 60),
        "--c2pa-cert": lambda: make.input("photo.jpg", "nowhere"),
        "--c2pa-key": lambda: make.input("photo.jpg", "nowhere"),
    }
    return line + make.some(flags, 2) + make.draw.choice(([], [], ["--low-memory"], ["--lenient"], ["--share"]))


ENTRY_POINTS: dict[str, Callable[[Lines], Sequence[str]]] = {
    "sample": sample,
    "convert": convert,
    "train": train,
    "prepare": prepare,
    "bench": bench,
    "evaluate": evaluate,
    "inspect": inspect,
    "demo": demo,
}
