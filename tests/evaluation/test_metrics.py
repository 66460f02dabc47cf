"""Retrieval, its interval, and the recogniser of drawn people."""

import numpy as np
import pytest
import scipy.stats

from mmjax.errors import DataError
from mmjax.evaluation.retrieval import retrieval, wilson_interval
from mmjax.faces.embeddings import cosine_similarity, mean_embedding
from mmjax.synthetic.fisherfaces import fit_fisherfaces


@pytest.mark.parametrize("correct, count", [(0, 10), (10, 10), (5, 10), (1, 3), (81, 100)])
@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_wilson_interval_is_scipys(correct, count, confidence):
    reference = scipy.stats.binomtest(correct, count).proportion_ci(confidence, method="wilson")
    assert wilson_interval(correct, count, confidence) == pytest.approx(tuple(reference), abs=1e-12)


@pytest.mark.parametrize("correct, count", [(1, 0), (3, 2), (-1, 2)])
def test_impossible_counts_are_refused(correct, count):
    with pytest.raises(DataError, match="interval of a rate"):
        wilson_interval(correct, count)


def test_wilson_interval_covers_the_truth_as_often_as_it_says():
    trials = np.random.default_rng(0).binomial(24, 0.3, size=4000)
    bounds = np.array([wilson_interval(int(correct), 24) for correct in trials])
    covered = np.mean((bounds[:, 0] <= 0.3) & (bounds[:, 1] >= 0.3))
    print(f"coverage {covered:.3f}")
    assert 0.93 < covered < 0.98


def test_retrieval_counts_hand_made_cases():
    gallery = np.eye(4)
    probes = np.array([[1, 0.1, 0, 0], [0, 2, 0, 0], [0, 1, 0.9, 0], [0, 0, 0, 1]])
    found = retrieval(probes, gallery, [0, 1, 2, 3])
    assert (found.correct, found.count, found.rate, found.chance) == (3, 4, 0.75, 0.25)
    assert (found.low, found.high) == wilson_interval(3, 4)
    assert found.own_cosine > found.other_cosine
    assert "3/4 = 75.0%" in str(found)


def test_a_tie_is_no_recognition():
    assert retrieval(np.ones((3, 5)), np.ones((3, 5)), [0, 1, 2]).correct == 0
    assert retrieval(np.zeros((3, 5)), np.eye(5)[:3], [0, 1, 2]).correct == 0


def test_guesses_score_chance():
    rng = np.random.default_rng(0)
    found = retrieval(rng.normal(size=(2000, 16)), rng.normal(size=(10, 16)), rng.integers(0, 10, 2000))
    assert found.low <= 0.1 <= found.high


@pytest.mark.parametrize("probes, people, own", [(2, 1, [0, 0]), (2, 3, [0]), (1, 3, [3]), (0, 3, [])])
def test_arrays_that_do_not_fit_are_refused(probes, people, own):
    with pytest.raises(DataError, match="retrieval: expected"):
        retrieval(np.ones((probes, 2)), np.ones((people, 2)), own)


def test_cosine_and_mean_are_about_directions():
    a = np.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(cosine_similarity(a, 7 * a), [[1, 0], [0, 0]])
    mean = mean_embedding(np.array([[100.0, 0.0], [0.0, 1.0]]))  # one loud frame weighs no more than a quiet one
    np.testing.assert_allclose(mean, [0.5**0.5, 0.5**0.5])


def noisy_people(rng, people, frames, nuisance):
    """Pictures whose people differ little and whose lighting, common to all people, differs much."""
    looks = rng.normal(size=(people, 12))
    lights = rng.normal(size=(people, frames, 6)) * 6
    basis_look, basis_light = nuisance
    pixels = looks[:, None] @ basis_look + lights @ basis_light + rng.normal(size=(people, frames, 192)) * 0.3
    pictures = np.clip(128 + 8 * pixels, 0, 255).astype(np.uint8).reshape(people * frames, 8, 8, 3)
    return pictures, np.repeat(np.arange(people), frames)


def rank_one(embed, pictures, people):
    each = [embed(pictures[people == person]) for person in range(people.max() + 1)]
    gallery = np.stack([mean_embedding(frames[::2]) for frames in each])
    probes = np.stack([mean_embedding(frames[1:2]) for frames in each])
    return retrieval(probes, gallery, np.arange(len(each)))


def test_fisherfaces_recognise_people_they_never_saw_where_pixels_do_not():
    rng = np.random.default_rng(0)
    nuisance = rng.normal(size=(12, 192)), rng.normal(size=(6, 192))
    fisher = fit_fisherfaces(*noisy_people(rng, 60, 8, nuisance))
    pictures, people = noisy_people(rng, 20, 8, nuisance)
    trained, pixels = (
        rank_one(embed, pictures, people)
        for embed in (fisher.embed, lambda frames: frames.reshape(len(frames), -1) - 128.0)
    )
    print(f"Fisherfaces {trained.rate:.2f}, pixels {pixels.rate:.2f}")
    assert trained.rate >= 0.9 and pixels.rate <= 0.5
    embedded = fisher.embed(pictures)
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, atol=1e-6)


def test_fisherfaces_fit_when_pixels_outnumber_frames_and_the_other_way_round():
    rng = np.random.default_rng(1)
    nuisance = rng.normal(size=(12, 192)), rng.normal(size=(6, 192))
    for people in (10, 80):
        pictures, labels = noisy_people(rng, people, 5, nuisance)
        fisher = fit_fisherfaces(pictures, labels + 100)
        assert np.all(np.isfinite(fisher.projection)) and fisher.projection.shape[1] <= people - 1
        assert rank_one(fisher.embed, pictures, labels).rate > 0.9


def test_fisherfaces_refuse_what_they_cannot_learn_from():
    frames = np.zeros((4, 2, 2, 3), np.uint8)
    for people in ([0, 0, 0, 0], [0, 1, 2, 3]):
        with pytest.raises(DataError, match="Fisherfaces: expected two people"):
            fit_fisherfaces(frames, np.array(people))


def test_fisherfaces_compare_large_pictures_at_a_small_size():
    rng = np.random.default_rng(2)
    nuisance = rng.normal(size=(12, 192)), rng.normal(size=(6, 192))
    pictures, people = noisy_people(rng, 12, 6, nuisance)
    large = np.repeat(np.repeat(pictures, 8, axis=1), 8, axis=2)
    fisher = fit_fisherfaces(large, people)
    assert fisher.projection.shape[0] == 32 * 32 * 3
    assert rank_one(fisher.embed, large, people).rate > 0.9
