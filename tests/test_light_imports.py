"""The public face and the entry points: what they offer, and that they import light.

What reads videos, records, faces or published weights brings its libraries when it is called: a GPU machine that only
samples from features, or benchmarks, needs JAX's stack alone (`tests.helpers.blocked.ALLOWED`). `tests.test_bench` runs
a whole bench in that way.
"""

import inspect
import json
import subprocess
import sys

import pytest

import mmjax
from mmjax.preparation import run as preparation_run
from tests.helpers.blocked import ALLOWED, BLOCKED, ROOT, requirements, run

COMMANDS = ("train", "prepare", "sample", "convert", "bench", "evaluate", "quickstart", "tiny", "inspect", "demo")


def test_entry_points_import_without_what_they_may_not_need():
    """One process tries all: what one of them cannot import is out of reach for the next one too."""
    done = run(f"""
import importlib
import mmjax
for name in {[*COMMANDS, "sampling", "media", "evaluation", "records.pipeline"]!r}:
    try:
        importlib.import_module("mmjax." + name)
    except ImportError as error:
        print("mmjax." + name, error)
print([name for name in mmjax.__all__ if not callable(getattr(mmjax, name))])
""")
    assert done.stdout.strip() == "[]", done.stdout + done.stderr[-800:]


def test_importing_the_package_starts_nothing():
    """Nothing but Python's own library is loaded; and nothing by asking what there is."""
    code = """
import sys
before = set(sys.modules)
import mmjax
dir(mmjax), mmjax.__all__
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(new - set(sys.stdlib_module_names)), [name for name in sys.modules if name.startswith("mmjax.")])
"""
    done = run(code, block=False)
    assert done.stdout.strip() == "['mmjax'] []", done.stderr[-800:]


def test_the_block_blocks():
    """A rule that never fires holds nothing."""
    done = run(
        "from mmjax import media; import numpy; media.write_video('x.mp4', numpy.zeros((1, 2, 2, 3), 'uint8'), 8)"
    )
    assert done.returncode and "blocked: av" in done.stderr
    assert requirements() >= ALLOWED
    assert {"av", "tensorflow_datasets", "grain", "insightface", "onnxruntime", "cv2", "scenedetect"} < set(BLOCKED)
    assert {"transformers", "tensorboardX", "tqdm", "safetensors", "huggingface_hub", "torch"} < set(BLOCKED)


@pytest.mark.parametrize("before", ["", "from mmjax import prepare; import mmjax.train"])
def test_commands_can_be_called_whatever_was_imported_before(before):
    """`import mmjax.train` sets the attribute `train` of the package to that module; it stays callable."""
    code = f"""
{before}
import inspect, json, mmjax
from mmjax.errors import MMJaxError
modules = []
for again in range(2):
    said = []
    for name in {COMMANDS!r}:
        said.append([name, list(inspect.signature(getattr(mmjax, name)).parameters)[:1]])
        modules.append(getattr(mmjax, name))
    try:
        mmjax.train(mmjax.Experiment(), "nowhere")
    except MMJaxError as error:
        said.append(str(error))
    import mmjax.train, mmjax.prepare, mmjax.sample, mmjax.convert, mmjax.bench, mmjax.evaluate, mmjax.quickstart
    import mmjax.tiny, mmjax.inspect, mmjax.demo
assert modules[:10] == modules[10:] and mmjax.train.train and mmjax.train.main
print(json.dumps(said))
"""
    done = run(code, block=False)
    assert done.returncode == 0, done.stderr[-800:]
    *signatures, refused = json.loads(done.stdout)
    first = {"train": "config", "prepare": "config", "sample": "sampler", "convert": "component", "bench": "config"}
    first |= {"evaluate": "output", "quickstart": "output", "tiny": "workdir", "inspect": "path", "demo": "model"}
    assert dict(signatures) == {name: [argument] for name, argument in first.items()}
    assert "data.sources" in refused  # the function was called: this experiment has no records


def test_an_unknown_public_name_is_named():
    with pytest.raises(AttributeError, match="mmjax has no 'trian'; it offers .*Experiment.*train"):
        mmjax.trian  # noqa: B018


def test_prepare_takes_what_the_preparation_takes():
    """The function beside the command says its arguments itself, so that it can be read without the preparation."""
    ours, its = (
        inspect.signature(function).parameters.values() for function in (mmjax.prepare, preparation_run.prepare)
    )
    assert [(each.name, each.kind, each.default) for each in ours] == [(p.name, p.kind, p.default) for p in its]


HELP = {
    "train": [
        "--workdir: Folder of the run",
        "--coordinator: HOST:PORT",
        "--processes: How many",
        "--process: This pro",
    ],
    "prepare": ["--input: Folder, tar", "--face-models: insightface", "--settings: What is kept", "--text-cache: Fold"],
    "bench": ["--repeats: Timed repeats", "--only: <text|faces|", "--output: JSON file"],
}


@pytest.mark.parametrize("name", HELP)
def test_help_lists_every_flag_with_its_text(name):
    done = subprocess.run([sys.executable, "-m", f"mmjax.{name}", "--help"], cwd=ROOT, capture_output=True, text=True)
    text = " ".join(done.stdout.split())
    shared = ["--config: Experiment: a Python file with get_config()", "--compilation_cache: Folder in which JAX keeps"]
    assert not [flag for flag in HELP[name] + shared if flag not in text], text
    assert done.returncode == 0


def test_flags_of_several_entry_points_are_defined_in_no_module():
    """Importing them defines none, so that the flags of one cannot meet those of another."""
    code = """
from absl import flags
import mmjax.train, mmjax.prepare, mmjax.bench
print([name for name in ("config", "compilation_cache", "workdir", "process", "output", "only") if name in flags.FLAGS])
"""
    done = run(code, block=False)
    assert done.stdout.strip() == "[]", done.stderr[-800:]
