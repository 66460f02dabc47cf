"""The embedding of the empty prompt beside the records: written with them, read bit for bit, refused when wrong."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from mmjax.encoders.build import make_text_encoder
from mmjax.errors import DataError
from mmjax.records.empty_prompt import FILE, read_unconditional_text, write_unconditional_text
from mmjax.records.schema import BFLOAT16
from mmjax.records.sources import find_sources
from mmjax.synthetic import builders
from mmjax.synthetic.builders import BUILDERS
from tests.records.test_pipeline import images

SHAPE = 20, 8


def text(seed=0):
    return np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)


def test_it_comes_back_as_the_bfloat16_that_records_have(tmp_path):
    path = write_unconditional_text(tmp_path, text())
    assert path == tmp_path / FILE and np.load(path).dtype == np.uint16
    found = read_unconditional_text(tmp_path, images(tmp_path))
    assert found.dtype == BFLOAT16 and found.tobytes() == text().astype(BFLOAT16).tobytes()
    write_unconditional_text(tmp_path, found)
    assert read_unconditional_text(tmp_path, images(tmp_path)).tobytes() == found.tobytes()


def not_finite():
    broken = text()
    broken[3, 4] = np.nan
    return broken


@pytest.mark.parametrize(
    "damage, complaint",
    [
        (lambda path: path.unlink(), "found no such file"),
        (lambda path: path.write_bytes(b""), "found a damaged file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-7]), "found a damaged file"),
        (lambda path: write_unconditional_text(path.parent, text()[:19]), r"found uint16\[19, 8\]"),
        (lambda path: np.save(path, text()), r"found float32\[20, 8\]"),
        (lambda path: write_unconditional_text(path.parent, not_finite()), "found inf or NaN"),
    ],
)
def test_what_is_missing_or_wrong_is_named(tmp_path, damage, complaint):
    damage(write_unconditional_text(tmp_path, text()))
    wanted = rf"{FILE}: expected .* empty prompt, .* bfloat16\[20, 8\], {complaint}.*; prepare the records again"
    with pytest.raises(DataError, match=wanted):
        read_unconditional_text(tmp_path, images(tmp_path))


def test_a_builder_writes_that_of_its_text_encoder(tmp_path):
    config = images(tmp_path, people=1, held_out_people=1)
    found = find_sources(config, BUILDERS)
    expected = make_text_encoder(config).encode_plain([""])[0]
    assert found.unconditional_text.tobytes() == expected.astype(BFLOAT16).tobytes()
    (Path(found.folders[0]) / FILE).unlink()
    with pytest.raises(DataError, match=f"drawn_images.*{FILE}: expected .*found no such file; prepare"):
        find_sources(config, BUILDERS)


def test_an_interrupted_builder_leaves_none(tmp_path, monkeypatch):
    """It stands in TFDS's temporary folder until all is there."""
    seen, make = [], builders.DrawnImages.records

    def interrupted(self, encoders, split):
        seen.extend(tmp_path.rglob(FILE))
        yield from itertools.islice(make(self, encoders, split), 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(builders.DrawnImages, "records", interrupted)
    with pytest.raises(KeyboardInterrupt):
        find_sources(images(tmp_path), BUILDERS)
    assert seen and not list(tmp_path.rglob(FILE))
