"""The recogniser of drawn people as an embedder of `mmjax.evaluate`: a plug-in by the workdir of a run."""

import json

import numpy as np
import pytest

from mmjax.encoders.embedders import open_embedder
from mmjax.errors import CheckpointError
from mmjax.faces.embeddings import cosine_similarity
from mmjax.synthetic import galleries
from mmjax.weights.runs import as_json
from tests.helpers import tiny_run

PLUGIN = "mmjax.synthetic.embedder:fisherfaces"


@pytest.mark.slow
def test_it_knows_held_out_people_without_a_detector(tmp_path):
    config = tiny_run.experiment()
    (tmp_path / "config.json").write_text(json.dumps(as_json(config)))
    embed = open_embedder(f"{PLUGIN}:{tmp_path}")
    people = galleries.held_out_people(config, 4, frames=8)
    found = embed([frame for person in people for frame in person.frames], [None] * 32)
    means = found.reshape(4, 8, -1).mean(axis=1)
    cosines = cosine_similarity(found, means).reshape(4, 8, 4).mean(axis=1)
    print(cosines.round(2))
    assert embed.detects and embed.name == "fisherfaces" and len(embed([], [])) == 0
    assert embed.fingerprint.startswith("fisherfaces/1 height=") and np.isfinite(found).all()
    assert (cosines.argmax(axis=1) == range(4)).all()


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="expected the workdir of a training run"):
        open_embedder(f"{PLUGIN}:{tmp_path}")
