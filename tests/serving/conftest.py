"""A served model of a few thousand weights, with drawn people; and a browser where there is one."""

import shutil
from pathlib import Path

import pytest

from mmjax import demo
from mmjax.models.build import abstract_params
from mmjax.sampling import Sampler
from mmjax.synthetic import portraits
from tests.helpers import tiny, tiny_run

_ARGUMENTS = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def sampler():
    """With drawn weights: nothing in it is zero."""
    changes = {"model": {"transformer": tiny_run.transformer(text_length=40)}, "data": {"frames": (9,)}}
    config = tiny_run.experiment(adapter=True, sampling={"steps": 4, "guidance": 2.0}, **changes)
    mesh = tiny_run.mesh_of(config)
    params = tiny.redrawn(abstract_params(config, mesh), seed=1, scale=0.1)
    return Sampler(config, params, mesh, {"model": "/home/somebody/secret/tiny"})


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Two pictures of drawn people, and a photograph, which this model cannot take."""
    folder = tmp_path_factory.mktemp("faces")
    people = [portraits.save_portrait(folder / f"{n}.png", portraits.draw_portrait(1_000_000 + n, 64)) for n in (0, 1)]
    return [Path(each) for each in people]


@pytest.fixture(scope="module")
def server(sampler):
    pytest.importorskip("gradio", reason='the page needs pip install "mmjax[demo]"')
    with demo(sampler, block=False) as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine (apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        yield chromium
        chromium.close()
