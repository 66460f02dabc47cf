"""The fixture of tests that run `mmjax.sample` round a sampler that computes nothing."""

import pytest

from mmjax import sample
from tests.helpers.fake_sampler import Fake


@pytest.fixture
def sampler(monkeypatch, tmp_path):
    """The commands' sampler; they run in a folder of their own."""
    fake = Fake()
    monkeypatch.setattr(sample, "load_sampler", lambda *_, **__: fake)
    monkeypatch.chdir(tmp_path)
    return fake
