"""What a server needs of a sampler: the look at pictures, and a video whose files say how it was made and no path."""

import collections
import copy
import json

import numpy as np
import pytest

from mmjax import inspect, media
from mmjax.errors import ConfigError, DataError
from mmjax.sampling import Request
from mmjax.serving.engine import Engine
from mmjax.serving.form import asked_videos, checked_form, offer_of
from mmjax.serving.jobs import FILES, Cancelled
from mmjax.serving.limits import Limits
from mmjax.serving.residency import chosen_residency
from tests.serving.fakes import VALUES

SIZE = (9, 16, 16)


class Watch:
    def __init__(self, stop_at=None):
        self.told, self.steps, self.seen, self._stop_at = [], [], [], stop_at

    def doing(self, what):
        self.told.append(what)

    def step(self, done, total):
        self.steps.append((done, total))
        if done == self._stop_at:
            raise Cancelled

    def preview(self, frame):
        self.seen.append(frame)


@pytest.fixture(scope="module")
def engine(sampler):
    return Engine(sampler)


def asked(sampler, faces, **changes):
    form = checked_form(VALUES | changes, offer_of(sampler.config, Limits()))
    return form, asked_videos(form, {"a": faces[:1]})


@pytest.mark.slow
def test_a_video_with_files_that_hold_no_path(engine, sampler, faces, tmp_path):
    form, [video] = asked(sampler, faces, steps=3, seed=7, likeness=0.5)
    watch = Watch()
    made = engine.make(form, video, tmp_path / "0", watch)
    assert watch.steps == [(1, 3), (2, 3), (3, 3)] and watch.told[-1] == "decoding"
    assert watch.seen and watch.seen[0].shape == (16, 16, 3) and watch.seen[0].dtype == np.uint8
    for name in FILES:
        content = (tmp_path / "0" / name).read_bytes()
        assert b"secret" not in content and str(faces[0]).encode() not in content and b"/tmp" not in content
        settings = inspect.settings_of(tmp_path / "0" / name)
        assert settings["prompt"] == "A man img is smiling" and settings["seed"] == 7
        assert settings["sampling"]["identity_scale"] == 0.5 and settings["sampling"]["steps"] == 3
        assert len(settings["reference_hashes"]) == 1 and settings["source"] == {"model": "tiny"}
    record = json.loads((tmp_path / "0" / "video.json").read_text())
    assert record["notice"] == media.AI_NOTICE and "note" not in inspect.inspect(tmp_path / "0" / "video.json").more
    assert inspect.inspect(tmp_path / "0" / "video.mp4").notice == media.AI_NOTICE
    assert made.settings["size"] == dict(zip(("frames", "height", "width"), SIZE, strict=True))


def test_settings_change_the_video_and_programs_are_shared(sampler, faces):
    request = Request("A man img is smiling", faces[:1], 7)
    frames = lambda **settings: sampler.with_settings(**settings).sample([request], SIZE)[0].frames  # noqa: E731
    first, compiled = frames(identity_scale=0.5), len(sampler.denoiser._programs)
    assert np.any(first != frames(identity_scale=1.5)) and np.any(first != frames(identity_scale=0.5, guidance=4.0))
    assert np.any(first != frames(identity_scale=0.5, steps=2))
    np.testing.assert_array_equal(first, frames(identity_scale=0.5))
    assert len(sampler.denoiser._programs) == compiled
    with pytest.raises(ConfigError, match="steps"):
        sampler.with_settings(steps=0)


def test_a_video_that_nobody_wants_any_more_ends_after_its_step(engine, sampler, faces, tmp_path):
    form, [video] = asked(sampler, faces, likeness=0.5)
    watch = Watch(stop_at=2)
    with pytest.raises(Cancelled):
        engine.make(form, video, tmp_path / "0", watch)
    assert len(watch.steps) == 2 and not (tmp_path / "0").exists()


def test_pictures_are_looked_at_in_the_words_of_the_command_line(engine, faces, tmp_path):
    assert engine.look(faces[:1])[0].box is None  # drawn people have no face to be found
    media.write_png(tmp_path / "photo.png", np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(DataError, match="this model knows drawn people only"):
        engine.look([tmp_path / "photo.png"])


def test_encoders_stay_where_they_fit(sampler, tmp_path, monkeypatch):
    assert chosen_residency(sampler, "auto", SIZE) == (True, "")
    monkeypatch.setattr("mmjax.serving.residency.encoder_bytes", lambda _: 9 * 2**30)
    for free, choice, resident, said in (
        (100, "auto", True, "stay on the device, which takes 9.0 GiB of it."),
        (10, "auto", False, "since both would take 9.0 GiB of 5.0 GiB: each video reads 9.0 GiB first"),
        (10, "resident", True, "which is more than fits"),
        (100, "released", False, "make room for the model: each video reads 9.0 GiB first"),
    ):
        monkeypatch.setattr("mmjax.serving.residency._free_memory", lambda free=free: free * 2**30)
        found, text = chosen_residency(sampler, choice, SIZE)
        assert found is resident and said in text, text
    with pytest.raises(ConfigError, match="expected one of auto, resident, released"):
        chosen_residency(sampler, "always", SIZE)


def test_resident_encoders_are_not_freed(sampler, faces, monkeypatch):
    freed = []
    monkeypatch.setattr(type(sampler._text), "free", lambda self: freed.append("text"))
    monkeypatch.setattr(type(sampler._faces), "free", lambda self: freed.append("faces"))
    other = sampler.with_settings(steps=2)
    other.resident = True
    other.encode([Request("A man img", faces[:1])])
    assert not freed
    other.resident = False
    other.encode([Request("A man img", faces[:1])])
    assert freed == ["text", "faces"]


def test_the_program_that_was_not_used_for_the_longest_goes(sampler, monkeypatch):
    monkeypatch.setattr("mmjax.sampling.denoiser._KEPT", 2)
    denoiser = copy.copy(sampler.denoiser)
    denoiser._programs, denoiser._advance_traced = collections.OrderedDict(), lambda values: values + 1
    first, _ = (denoiser._compiled(np.zeros(length)) for length in (1, 2))
    assert denoiser._compiled(np.zeros(1)) is first
    denoiser._compiled(np.zeros(3))
    assert len(denoiser._programs) == 2 and denoiser._compiled(np.zeros(1)) is first
