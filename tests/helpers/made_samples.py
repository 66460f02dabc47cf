"""Samples and stills for tests that care for a few of their fields."""

import numpy as np

from mmjax.preparation.framing import Framing
from mmjax.preparation.items import Sample, Still

SCORES = {"confidence": 0.9, "face": 120.0, "sharpness": 0.57, "yaw": 0.0}


def sample(key: str, **fields) -> Sample:
    """A photo of 64 x 64, or with "#FIRST" in its key a window of a video."""
    usual = dict(person=None, collection="photos", caption=None, frames=(0,), times=(0.0, 0.0), shot=0, scores={})
    usual |= dict(item=key.partition("#")[0], framing=Framing(0, 0, 64, 64, 64, 64))
    usual |= dict(boxes=np.zeros((1, 4), np.float32), landmarks=np.zeros((1, 5, 2), np.float32))
    return Sample(key, **usual | fields)


def still(key: str, **fields) -> Still:
    usual = dict(item=key.partition("#")[0], person=None, role="both", frame=0, time=0.0, shot=0, scores=SCORES)
    usual |= dict(aligned=np.zeros((112, 112, 3), np.uint8), portrait=np.zeros((32, 32, 3), np.uint8))
    return Still(key, **usual | fields)
