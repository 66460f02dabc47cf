"""Latents files that cannot be latents are refused before anything slow."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from mmjax import config as c
from mmjax.errors import DataError
from mmjax.sampling.latents import read_latents

VAE = c.Autoencoder("cogvideox")


def good():
    return np.random.default_rng(0).standard_normal((3, 4, 6, 16)).astype(np.float32)


def with_one(value):
    latents = good()
    latents[1, 2, 3, 4] = value
    return latents


def test_good_ones_are_read(tmp_path):
    for dtype in (np.float32, np.float16, np.float64):
        np.save(tmp_path / "a.npy", good().astype(dtype))
        found = read_latents(tmp_path / "a.npy", VAE, (3, 4, 6, 16))
        assert found.dtype == np.float32 and np.abs(found - good()).max() < 1e-2
    with open(tmp_path / "a.npy", "ab") as file:
        file.write(b"made with mmjax")  # what a latents file may end in
    assert read_latents(tmp_path / "a.npy", VAE).shape == (3, 4, 6, 16)


WRONG = {
    "NaN": (with_one(np.nan), "found NaN or infinity"),
    "infinity": (with_one(-np.inf), "found NaN or infinity"),
    "absurd": (with_one(1e30), r"found 1.0e\+30"),
    "nothing": (np.zeros((3, 4, 6, 16), np.float32), "found 0 everywhere"),
    "other size": (good()[:, :2], r"expected \[3, 4, 6, 16\] .* found \[3, 2, 6, 16\]"),
    "channels first": (good().transpose(0, 3, 1, 2), "expected"),
    "no axis of frames": (good()[0], r"found float32 \[4, 6, 16\]"),
    "whole numbers": (good().astype(int), "found int64"),
    "objects": (np.array([{}, 3], object), "expected latents saved with numpy"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_latents_is_named(tmp_path, case):
    values, message = WRONG[case]
    np.save(tmp_path / "a.npy", values, allow_pickle=True)
    with pytest.raises(DataError, match=message):
        read_latents(tmp_path / "a.npy", VAE, (3, 4, 6, 16))


class Program:
    def __reduce__(self):
        return Path.touch, (Path("ran"),)


def test_nothing_in_a_file_is_run(tmp_path, monkeypatch):
    """A pickle is a program, and numpy would run it."""
    monkeypatch.chdir(tmp_path)
    Path("a.npy").write_bytes(pickle.dumps(Program()))
    np.save("b.npy", np.array([Program()], object), allow_pickle=True)
    for name in ("a.npy", "b.npy"):
        with pytest.raises(DataError, match="expected latents saved with numpy"):
            read_latents(name, VAE)
    assert not Path("ran").exists()


def test_other_channels_and_empty_ones(tmp_path):
    for values in (good()[..., :3], good()[:0]):
        np.save(tmp_path / "a.npy", values)
        with pytest.raises(DataError, match="expected 16 channels, as the cogvideox autoencoder has"):
            read_latents(tmp_path / "a.npy", VAE)


def test_damaged_files_are_one_line(tmp_path):
    np.savez(tmp_path / "a.npz", good())
    np.save(tmp_path / "a.npy", good())
    raw = (tmp_path / "a.npy").read_bytes()
    huge = raw.replace(b"(3, 4, 6, 16)", b"(3, 4, 6, 9999999999)")
    rng = np.random.default_rng(0)
    flipped = [
        bytes(byte ^ (1 << int(rng.integers(8))) if i == at else byte for i, byte in enumerate(raw[:200])) + raw[200:]
        for at in rng.integers(0, 128, 60)
    ]
    for content in (b"", raw[:60], raw[:-7], huge, b"PK\x03\x04", b"\0" * 999, *flipped):
        (tmp_path / "b.npy").write_bytes(content)
        try:
            read_latents(tmp_path / "b.npy", VAE, (3, 4, 6, 16))
        except DataError as error:
            assert "\n" not in str(error)
    for path in (tmp_path / "a.npz", tmp_path, tmp_path / "nowhere.npy"):
        with pytest.raises(DataError, match="expected (a file of )?latents saved with numpy"):
            read_latents(path, VAE)
