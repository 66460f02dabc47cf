"""Labeled Faces in the Wild: its pairs, its photos as aligned faces, and the accuracy of verification on them."""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest

from mmjax.pictures import read_picture
from tests.helpers.face_pictures import LFW, PACK

FOLDS = 10
needs_lfw = pytest.mark.skipif(not (LFW / "pairs.txt").is_file(), reason="no MMJAX_TEST_DATA with faces/lfw")


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two photos of LFW, and whether they show one person."""

    fold: int
    photos: tuple[Path, Path]
    same: bool


def photo(name: str, number: str) -> Path:
    return LFW / name / f"{name}_{int(number):04d}.jpg"


def read_pairs() -> list[Pair]:
    """The pairs of `pairs.txt` whose photos are at hand: each fold has as many of one person as of two."""
    first, *lines = (LFW / "pairs.txt").read_text().splitlines()
    folds, each = map(int, first.split())
    assert folds == FOLDS and len(lines) == 2 * folds * each
    pairs = []
    for row, line in enumerate(lines):
        words = line.split()
        name, number, *others = words
        photos = photo(name, number), photo(*([name, *others] if len(words) == 3 else others))
        if all(path.is_file() for path in photos):
            pairs.append(Pair(row // (2 * each), photos, len(words) == 3))
    return pairs


@functools.cache
def detector():
    from insightface.model_zoo import get_model

    found = get_model(str(PACK / "scrfd_500m_bnkps.onnx"), providers=["CPUExecutionProvider"])
    found.prepare(ctx_id=-1, input_size=(320, 320))
    return found


def aligned_faces(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(112 x 112 RGB crops of the faces in a picture, their distances from its middle)."""
    import cv2
    from insightface.utils.face_align import norm_crop

    picture = cv2.imread(str(path))
    boxes, landmarks = detector().detect(picture)
    crops = [norm_crop(picture, points)[:, :, ::-1] for points in landmarks]
    middles = (boxes[:, :2] + boxes[:, 2:4]) / 2 - np.array(picture.shape[1::-1]) / 2
    return np.array(crops), np.linalg.norm(middles, axis=1)


def aligned(path: Path) -> np.ndarray:
    """The crop of the face nearest to the middle; the middle itself, as LFW has it, where the detector finds none."""
    crops, distances = aligned_faces(path)
    return crops[distances.argmin()] if len(crops) else np.asarray(read_picture(path))[69:181, 69:181]


def accuracy(pairs: list[Pair], scores: np.ndarray) -> tuple[float, float]:
    """(mean over the folds, its standard error): each fold at the threshold that is best on the others."""
    folds, same = np.array([pair.fold for pair in pairs]), np.array([pair.same for pair in pairs])
    rates = []
    for fold in np.unique(folds):
        others, candidates = folds != fold, np.unique(scores[folds != fold])
        best = max(candidates, key=lambda at: ((scores[others] >= at) == same[others]).mean())
        rates.append(((scores[~others] >= best) == same[~others]).mean())
    return float(np.mean(rates)), float(np.std(rates) / np.sqrt(len(rates)))
