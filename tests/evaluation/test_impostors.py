"""What a likeness means beside that to others, and whether a video pastes its reference: on vectors that are known."""

import dataclasses
import math

import numpy as np
import pytest

from mmjax.evaluation.metrics import copy_paste, identity, impostors
from mmjax.evaluation.metrics.interface import Score, VideoToScore
from mmjax.evaluation.metrics.registry import known_metrics
from mmjax.evaluation.metrics.unembedded import FramesNotEmbedded
from mmjax.evaluation.observation import FacesSeen, Observation, Subject


def faces(embeddings):
    embeddings = np.asarray(embeddings, float)
    n, found = len(embeddings), np.isfinite(embeddings).all(axis=1)
    nowhere = [np.full(shape, np.nan) for shape in ((n, 4), (n, 5, 2), (n,))]
    return FacesSeen(found.astype(int), *nowhere, np.zeros((n, 0, 2)), {"e": embeddings})


def subject(name, embeddings, given=None):
    return Subject(name, [str(n) for n in range(len(embeddings))], [(8, 8)] * len(embeddings), faces(embeddings), given)


def case(video, people, who="a"):
    seen = Observation((8, 8), np.arange(len(video)) / 8.0, np.arange(len(video)), len(video), faces(video))
    return VideoToScore(seen, people.get(who), people)


X, Y, Z, NOBODY = [1, 0, 0], [0, 1, 0], [0, 0, 1], [math.nan] * 3
PEOPLE = {"a": subject("a", [X]), "b": subject("b", [Y]), "c": subject("c", [Z])}


def test_identity_is_over_the_frames_with_a_face_and_to_the_mean_of_the_references():
    people = {"a": subject("a", [X, Y, NOBODY])}
    score = identity.Identity("e").score(case([[2, 2, 0], X, NOBODY], people))
    assert score.value == pytest.approx((1 + math.sqrt(0.5)) / 2)
    np.testing.assert_allclose(score.series, [1, math.sqrt(0.5), math.nan])
    assert identity.FramesWithoutFace().score(case([X, NOBODY, NOBODY, Y], people)).value == 0.5


def test_frames_in_which_an_embedder_finds_nobody_are_counted_of_it():
    observation = case([X, NOBODY, NOBODY, Y], PEOPLE).observation
    all_found = dataclasses.replace(observation.faces, counts=np.ones(4, int))  # by the detector
    observation = dataclasses.replace(observation, faces=all_found)
    score = FramesNotEmbedded("e").score(VideoToScore(observation))
    assert score.value == 0.5 and score.series == [0, 1, 1, 0]
    assert identity.FramesWithoutFace().score(VideoToScore(observation)).value == 0
    assert "no_face/e" in known_metrics(["e"])


def test_decay_is_what_the_last_quarter_has_lost():
    score = identity.SimilarityDecay("e").score(case([X, X, Y, Y, Y, Y, Y, [1, 1, 0]], PEOPLE))
    assert score.value == pytest.approx(1 - math.sqrt(0.5) / 2)
    assert "one frame" in identity.SimilarityDecay("e").score(case([X], PEOPLE)).why
    assert "first or in the last" in identity.SimilarityDecay("e").score(case([NOBODY, X, X, X], PEOPLE)).why


def test_others_are_the_mean_and_the_nearest_decides_rank_1():
    near_a, near_b = [0.9, 0.3, 0.1], [0.3, 0.9, 0.1]
    length = np.linalg.norm(near_a)
    assert impostors.ImpostorSimilarity("e").score(case([near_a], PEOPLE)).value == pytest.approx(0.4 / length / 2)
    ranks = [impostors.Rank1("e").score(case([video], PEOPLE)).value for video in (near_a, near_b, [1, 1, 0], NOBODY)]
    assert ranks == [1, 0, 0, 0]  # a tie is no recognition, and neither is a video without a face


def test_auc_is_over_all_videos_together():
    metric = impostors.VerificationAUC("e")
    scores = [metric.score(case([video], PEOPLE)) for video in ([3, 0.1, 0], [1, 2, 0], NOBODY)]
    assert scores[2].value is None and "no face" in scores[2].why
    own = [score.value for score in scores[:2]]
    others = np.concatenate([score.details["others"] for score in scores[:2]])
    expected = np.mean([np.mean([(one > other) + (one == other) / 2 for other in others]) for one in own])
    assert metric.statistic(scores) == pytest.approx(expected)
    assert 0.5 < expected < 1 and math.isnan(metric.statistic([Score(None)]))


def test_area_under_roc_of_known_cases():
    assert impostors.area_under_roc(np.array([2.0, 3]), np.array([0.0, 1])) == 1
    assert impostors.area_under_roc(np.array([1.0]), np.array([1.0])) == 0.5
    assert impostors.area_under_roc(np.array([0.0, 2]), np.array([1.0])) == 0.5


def test_pasting_the_reference_shows_and_being_a_person_does_not():
    rng, metric = np.random.default_rng(0), copy_paste.CopyPaste("e")
    honest, pasted = [], []
    for _ in range(100):
        person = rng.normal(size=64)
        pictures = [person + 0.7 * rng.normal(size=64) for _ in range(8)]
        people = {"a": subject("a", pictures, given=0)}
        honest.append(metric.score(case([person + 0.7 * rng.normal(size=64)], people)).value)
        pasted.append(metric.score(case([pictures[0] + 0.1 * rng.normal(size=64)], people)).value)
    assert abs(np.mean(honest)) < 0.02  # measured 0.00002 over 400 people, deviation 0.048
    assert np.mean(pasted) > np.mean(honest) + 5 * np.std(honest)  # measured 0.329


@pytest.mark.parametrize(
    ("people", "video", "why"),
    [
        ({}, [X], "no person is known"),
        ({"a": subject("a", [X, Y, Z])}, [X], "which picture the generator was given is not known"),
        ({"a": subject("a", [NOBODY, Y, Z], 0)}, [X], "no face was found on the picture that the generator was given"),
        ({"a": subject("a", [X, Y], 0)}, [X], "a has 1 other pictures with a face; give two more"),
        ({"a": subject("a", [X, Y, Z], 0)}, [NOBODY], "no face was found in any frame"),
    ],
)
def test_what_copy_paste_lacks_is_said(people, video, why):
    score = copy_paste.CopyPaste("e").score(case(video, people))
    assert score.value is None and why in score.why


@pytest.mark.parametrize("metric", [impostors.ImpostorSimilarity, impostors.VerificationAUC, impostors.Rank1])
def test_what_a_comparison_with_others_lacks_is_said(metric):
    assert "nobody else is there" in metric("e").score(case([X], {"a": PEOPLE["a"]})).why
    assert "no person is known" in metric("e").score(case([X], PEOPLE, who="d")).why
    assert (
        "no face was found on the references of a"
        in metric("e").score(case([X], {"a": subject("a", [NOBODY]), "b": PEOPLE["b"]})).why
    )
