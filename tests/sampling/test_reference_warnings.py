"""What is said of references lands beside the clip, and several bad ones are all named at once."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mmjax import config as c
from mmjax.errors import DataError
from mmjax.sampling import Request, Sampler, products
from mmjax.sampling.text_to_video import Clip
from mmjax.synthetic import portraits


@pytest.fixture
def pictures(tmp_path):
    portraits.save_portrait(tmp_path / "good.png", portraits.draw_portrait(1_000_000, 16))
    Image.new("RGB", (20, 20), (200, 160, 140)).save(tmp_path / "unlabelled.png")
    (tmp_path / "broken.png").write_bytes(b"this is no picture")
    return [str(tmp_path / f"{name}.png") for name in ("good", "unlabelled", "broken", "lost")]


@pytest.mark.parametrize("encoder, bad", [("drawn", [1, 2, 3]), ("pixels", [2, 3])])
def test_all_bad_references_are_named_in_one_message(pictures, encoder, bad):
    """Each encoder has its own idea of a bad one; that of photographs is tested in `tests/faces/test_references.py`."""
    config = c.Experiment(encoders=c.Encoders(face=encoder)) if encoder != "drawn" else c.Experiment()
    with pytest.raises(DataError) as error:
        Sampler(config, {}).check(pictures)
    text = str(error.value)
    assert text.startswith(f"references: {len(bad)} of 4 pictures cannot be used: ") and "\n" not in text
    assert [number for number, picture in enumerate(pictures) if picture in text] == bad
    with pytest.raises(DataError, match=f"^(?!references: ).*{pictures[3]}"):
        Sampler(config, {}).check([pictures[0], pictures[3]])


def test_what_is_said_of_references_is_written_beside_the_clip(tmp_path):
    said = ("reference a.jpg: does not stand upright and was turned by 180 degrees; use another one",)
    sampler = SimpleNamespace(seconds={}, config=c.Experiment(), source={})
    request = Request("A man img", ["a.jpg"])
    made = products.video(sampler, request, tmp_path / "a.mp4", (9, 16, 16), 8)
    products.write(made, Clip(np.zeros((9, 16, 16, 3), np.uint8), [], request, said), sampler)
    assert json.loads((tmp_path / "a.json").read_text())["warnings"] == list(said)
