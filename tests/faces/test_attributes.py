"""Gender and age, through a network of the published one's shapes whose answers can be worked out by hand."""

import dataclasses

import numpy as np
import pytest

from mmjax.errors import CheckpointError
from mmjax.faces.attributes import load_attributes
from mmjax.faces.detection import Face
from tests.helpers.onnx_models import Graph, mobilefacenet

FACE = Face(np.array([32.0, 32.0, 96.0, 96.0], np.float32), np.zeros((5, 2), np.float32), 0.9)


def mean_colour(path, outputs=3, side=96):
    """Answers with the mean of red, green and blue, after the wrapper's (x - 127.5) / 128."""
    graph = Graph()
    mean = graph.node("Flatten", graph.node("GlobalAveragePool", "input.1"))
    answer = graph.node("Gemm", mean, np.eye(3)[:, :outputs])
    return graph.save(path, answer, outputs, side=side)


def picture(red, green, blue):
    return np.broadcast_to(np.array([red, green, blue], np.uint8), (128, 128, 3))


def test_a_pack_without_such_a_network_has_no_attributes(tmp_path):
    assert load_attributes(tmp_path) is None
    mobilefacenet(tmp_path / "recogniser.onnx")
    mean_colour(tmp_path / "two.onnx", outputs=2)
    mean_colour(tmp_path / "large.onnx", side=192)
    assert load_attributes(tmp_path) is None


def test_it_is_found_by_its_shapes_and_named(tmp_path):
    mobilefacenet(tmp_path / "a.onnx")
    mean_colour(tmp_path / "some_name.onnx")
    assert load_attributes(tmp_path).fingerprint.startswith("some_name.onnx ")


@pytest.mark.parametrize(
    "colour, gender, age", [((200, 100, 166), "woman", 30), ((100, 200, 191), "man", 50), ((100, 200, 0), "man", 0)]
)
def test_logits_and_age_are_read_right(tmp_path, colour, gender, age):
    """Red is the first channel: the picture is not seen in the wrong order. 166 is 0.30 after scaling, 191 is 0.50."""
    mean_colour(tmp_path / "genderage.onnx")
    assert load_attributes(tmp_path)(picture(*colour), FACE) == (gender, age)


def test_it_looks_at_the_face(tmp_path):
    mean_colour(tmp_path / "genderage.onnx")
    attributes, mixed = load_attributes(tmp_path), picture(100, 200, 166).copy()
    mixed[:, :20] = (255, 0, 0)  # left of 1.5 times the box, which begins at 16, but for 4 columns
    mixed[:, 112:] = (255, 0, 0)
    assert attributes(mixed, FACE)[0] == "man"
    assert attributes(mixed, dataclasses.replace(FACE, box=np.array([112.0, 32.0, 126.0, 48.0])))[0] == "woman"


def test_a_damaged_file_is_told(tmp_path):
    (tmp_path / "genderage.onnx").write_bytes(b"no network")
    with pytest.raises(CheckpointError, match="genderage.onnx: expected an ONNX network, found 10 bytes"):
        load_attributes(tmp_path)
