"""The embedder that judges samples: the largest face of each frame, embedded as the references' q_id are."""

import numpy as np
import pytest

from mmjax import config as c
from mmjax import sharding
from mmjax.encoders.recogniser import load_recogniser
from mmjax.errors import CheckpointError, ConfigError
from mmjax.faces.detection import align
from mmjax.faces.embeddings import cosine_similarity
from tests.helpers import face_pictures as fp

pytestmark = fp.needs_pack


def test_it_finds_and_embeds_the_largest_face_of_each_frame():
    picture = fp.astronaut()
    mirrored = np.ascontiguousarray(picture[:, ::-1])
    found = load_recogniser(fp.PACK).embed(np.stack([picture, np.zeros_like(picture), mirrored]))
    assert found[1] is None
    for embedding, shown in ((found[0], picture), (found[2], mirrored)):
        expected = fp.embed(align(shown, fp.main_face(shown).landmarks)[None])
        assert cosine_similarity(embedding[None], expected).item() > 0.99999


def test_a_recogniser_alone_takes_the_detector_of_the_face_models():
    with pytest.raises(ConfigError, match="train.identity_embedder = .*onnx: expected a detector beside a recogniser"):
        load_recogniser(fp.RECOGNISER)
    alone = load_recogniser(fp.RECOGNISER, str(fp.PACK))
    assert alone.fingerprint == load_recogniser(fp.PACK).fingerprint
    assert alone.embed(np.zeros((2, 32, 32, 3), np.uint8)) == [None, None]


def test_it_serves_a_run_on_any_mesh():
    picture, recogniser = fp.astronaut()[None], load_recogniser(fp.PACK)
    with sharding.use_mesh(sharding.make_mesh(c.Mesh(data=4, fsdp=2))):
        found = recogniser.embed(picture)[0]
    np.testing.assert_array_equal(found, recogniser.embed(picture)[0])


def test_a_pack_that_is_not_there_is_named():
    with pytest.raises(CheckpointError, match="face models nowhere: expected a folder with"):
        load_recogniser("nowhere")
