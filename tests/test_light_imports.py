"""Entry points import light: what reads videos, records, faces or prompts is brought by the function that needs it.

A GPU machine that only samples from features, or benchmarks, needs jax, flax, optax and orbax (and pillow), no more.
"""

import subprocess
import sys

import pytest

import mmjax
from tests.test_config import ROOT

BLOCKED = (
    *("av", "tensorflow_datasets", "grain", "array_record", "tensorboardX", "tqdm"),  # videos, records, logs
    *("insightface", "onnxruntime", "onnx", "cv2", "scenedetect"),  # faces
    *("transformers", "sentencepiece", "safetensors", "huggingface_hub", "torch", "diffusers"),  # published weights
)
ENTRY_POINTS = ("train", "sample", "convert", "prepare", "quickstart", "bench", "sampling")
BLOCK = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ImportError("blocked: " + name)

sys.meta_path.insert(0, Blocked())
"""


def run(code):
    return subprocess.run([sys.executable, "-c", BLOCK + code], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_an_entry_point_imports_without_what_it_may_not_need(name):
    done = run(f"import mmjax.{name}")
    assert done.returncode == 0, done.stderr[-800:]


def test_importing_the_package_starts_nothing():
    done = run(
        "import mmjax; print([name for name in ('jax', 'flax', 'optax', 'orbax', 'numpy') if name in sys.modules])"
    )
    assert done.stdout.strip() == "[]", done.stderr[-800:]


def test_the_block_blocks():
    """A rule that never fires holds nothing."""
    done = run(
        "from mmjax import media; import numpy; media.write_video('x.mp4', numpy.zeros((1, 2, 2, 3), 'uint8'), 8)"
    )
    assert done.returncode and "blocked: av" in done.stderr


@pytest.mark.parametrize("before", ["", "import mmjax.train, mmjax.prepare, mmjax.convert, mmjax.bench;"])
def test_the_public_names_work_whatever_was_imported_before(before):
    code = f"""
{before}
import mmjax
from mmjax.errors import MMJaxError
assert mmjax.Experiment().name == "unnamed" and mmjax.Request("a").seed == 0 and callable(mmjax.load_sampler)
assert callable(mmjax.train) and callable(mmjax.prepare) and callable(mmjax.convert)
try:
    mmjax.train(mmjax.Experiment(), "nowhere")
except MMJaxError as error:
    print(error)
assert set(mmjax.__all__) <= set(dir(mmjax))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-800:]
    assert "data.sources" in done.stdout  # the function was called: this experiment has no records


def test_an_unknown_public_name_is_named():
    with pytest.raises(AttributeError, match="mmjax has no 'trian'; it offers Experiment"):
        mmjax.trian  # noqa: B018
