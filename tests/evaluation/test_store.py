"""What was seen is kept bit for bit, under a name that changes with all that it depends on."""

import math

import numpy as np
import pytest

from mmjax.evaluation.metrics.interface import Score
from mmjax.evaluation.observation import FacesSeen, Observation
from mmjax.evaluation.store import Kept, Store, plain


def kept(seed=0):
    rng = np.random.default_rng(seed)
    embeddings = {"a": rng.normal(size=(3, 5)).astype(np.float32), "b/c": rng.normal(size=(3, 2)).astype(np.float32)}
    embeddings["a"][1] = np.nan
    faces = FacesSeen(
        np.array([1, 0, 2]),
        rng.normal(size=(3, 4)),
        rng.normal(size=(3, 5, 2)),
        rng.normal(size=3),
        rng.normal(size=(3, 68, 2)),
        embeddings,
    )
    seen = Observation((48, 64), np.arange(3) / 8, np.array([0, 5, 9]), 10, faces, (b"one", b"two"))
    return Kept(seen, {"m": Score(0.1, [0.25, math.nan], "", {"x": [1, 2.5]}), "n": Score(None, why="no")})


def test_what_was_kept_comes_back_bit_for_bit(tmp_path):
    store, given = Store(tmp_path / "seen", {"frames": 3}), kept()
    store.write("k", given)
    found = store.read("k")
    assert found.problem == "" and found.observation.size == (48, 64) and found.observation.total == 10
    for name in ("counts", "boxes", "landmarks", "scores", "points"):
        np.testing.assert_array_equal(getattr(found.observation.faces, name), getattr(given.observation.faces, name))
    for name, values in given.observation.faces.embeddings.items():
        np.testing.assert_array_equal(found.observation.faces.embeddings[name], values)
        assert found.observation.faces.embeddings[name].dtype == values.dtype
    assert list(found.observation.faces.embeddings) == ["a", "b/c"] and found.observation.strip == (b"one", b"two")
    assert found.scores["n"] == Score(None, why="no") and found.scores["m"].details == {"x": [1, 2.5]}
    np.testing.assert_array_equal(found.scores["m"].series, [0.25, math.nan])


def test_what_cannot_be_read_was_not_kept(tmp_path):
    store = Store(tmp_path, {})
    assert store.read("k") is None
    store.write("k", kept())
    whole = (tmp_path / "k.npz").read_bytes()
    for damaged in (
        b"",
        whole[:100],
        whole[:-30],
        whole[: len(whole) // 2] + b"\0" * 200 + whole[len(whole) // 2 + 200 :],
    ):
        (tmp_path / "k.npz").write_bytes(damaged)
        assert store.read("k") is None, len(damaged)


def test_the_name_changes_with_content_settings_and_subject(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"one")
    (tmp_path / "b.mp4").write_bytes(b"one")
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "0.png").write_bytes(b"one")
    first, second = Store(tmp_path, {"frames": 3}), Store(tmp_path, {"frames": 4})
    assert first.key(tmp_path / "a.mp4") == first.key(tmp_path / "b.mp4")
    keys = {first.key(tmp_path / "a.mp4"), second.key(tmp_path / "a.mp4"), first.key(tmp_path / "a.mp4", "anna")}
    keys |= {first.key(folder)}
    (folder / "1.png").write_bytes(b"")
    keys |= {first.key(folder)}
    (tmp_path / "a.mp4").write_bytes(b"two")
    assert len(keys | {first.key(tmp_path / "a.mp4")}) == 6
    (tmp_path / "endless.mp4").symlink_to("/dev/zero")
    for name in ("nowhere", "endless.mp4"):
        with pytest.raises(OSError):
            first.key(tmp_path / name)


def test_plain_values_are_json_without_what_is_not_finite():
    values = {"a": np.float32(0.5), "b": [math.nan, np.inf, 1], "c": np.array([[1.0, np.nan]]), "d": ("x", None, True)}
    assert plain(values) == {"a": 0.5, "b": [None, None, 1], "c": [[1.0, None]], "d": ["x", None, True]}
