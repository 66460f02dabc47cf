"""What protocols fix: frames, columns, totals; and that nothing is silently left out."""

import math

import numpy as np
import pytest

from mmjax.errors import ConfigError, DataError
from mmjax.evaluation.frames import FrameSampling, chosen
from mmjax.evaluation.metrics import motion
from mmjax.evaluation.metrics.face_sim import FaceSim
from mmjax.evaluation.metrics.identity import FramesWithoutFace, Identity, SimilarityDecay
from mmjax.evaluation.metrics.interface import NEEDS, Score, VideoToScore, described, not_computed
from mmjax.evaluation.metrics.total import Part
from mmjax.evaluation.observation import DecodedVideo
from mmjax.evaluation.protocols import magicmirror, opens2v
from mmjax.evaluation.protocols.protocol import Given, Lacking
from mmjax.evaluation.protocols.registry import DEFAULT, NAMES, find_protocol

EVERYTHING = Given("buffalo_l", ("dlib", "edgeface"), "ir101.onnx", "clip", "head.pth")


def known(*names):
    """Metrics of the lead's and of plug-ins, as far as names matter."""
    return {name: Lacking(name, f"known {name}", "a stand-in") for name in names}


def names_of(protocol, given=EVERYTHING, **others):
    return [metric.name for metric in protocol.metrics(given, known(*others.get("known", ())))]


# What kept scores go by


def test_metrics_are_described_with_all_that_changes_their_numbers():
    one, same = FaceSim("arc", "mbf", sampling=FrameSampling(16)), FaceSim("arc", "mbf", sampling=FrameSampling(16))
    others = (
        FaceSim("arc", "mbf", sampling=FrameSampling(32)),
        FaceSim("arc", "mbf", sampling=FrameSampling(16), fixed=True),
    )
    found = [_without_weights(metric) for metric in (one, same, *others)]
    assert found[0] == found[1] and len(set(found)) == 3
    assert "needs=['pixels', 'references']" in found[0], "sets are in order: the line is every process's"


def test_functions_are_described_by_their_names():
    lines = [described(metric) for metric in (*motion.metrics(), *motion.metrics(full_size=True))]
    assert len(set(lines)) == len(lines) and all("flow=farneback" in line and " at 0x" not in line for line in lines)


def _without_weights(metric):
    """The line without the fingerprint, for which there would have to be a pack."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FaceSim, "fingerprint", lambda self: "weights")
        return described(metric)


# Frames


@pytest.mark.parametrize("total", [1, 5, 16, 49, 81, 1000])
def test_frames_are_numpys(total):
    assert FrameSampling(16, "linspace")(total).tolist() == np.linspace(0, total - 1, 16, dtype=int).tolist()
    assert FrameSampling(16, "steps")(total).tolist() == [int(i * total / 16) for i in range(16)]
    assert FrameSampling(None)(total).tolist() == list(range(total))
    spread = FrameSampling(16)(total)
    assert len(set(spread)) == len(spread) == min(16, total) and spread[-1] == total - 1 and spread[0] == 0


def test_a_rule_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="rule of frames = 'seek': expected one of spread, linspace, steps"):
        FrameSampling(16, "seek")
    with pytest.raises(ConfigError, match="count of frames = 0"):
        FrameSampling(0)


def test_each_metric_finds_its_frames_among_those_of_the_protocol():
    protocol = find_protocol("consisid")
    numbers = protocol.frames(49)
    assert numbers.tolist() == sorted({*np.linspace(0, 48, 16, dtype=int).tolist(), *(i * 49 // 16 for i in range(16))})
    video = DecodedVideo(np.zeros((len(numbers), 1, 1, 3), np.uint8), numbers / 8, numbers, 49)
    for sampling in protocol.samplings:
        assert numbers[chosen(video, sampling)].tolist() == sampling(49).tolist()
    assert chosen(video, None).tolist() == list(range(len(numbers)))
    with pytest.raises(DataError, match="expected all frames of 49, found .* not decoded"):
        chosen(video, FrameSampling(None))


# Protocols


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_every_protocol_is_whole(name, fixed):
    """Without anything given, every column is there and says what to give; with everything, names stay the same."""
    protocol = find_protocol(name, fixed)
    bare = protocol.metrics(Given(), {})
    assert len({metric.name for metric in bare}) == len(bare)
    for metric in bare:
        assert metric.needs <= set(NEEDS) and metric.title
        if isinstance(metric, Lacking):
            why = metric.score(VideoToScore(None)).why
            assert "give" in why and metric.score(VideoToScore(None)).value is None and math.isnan(metric.statistic([]))
    assert [metric.name for metric in bare] == [n for n in names_of(protocol) if not n.endswith("/edgeface")]
    assert protocol.notes and all(note.endswith(".") for note in protocol.notes)
    assert protocol.frames(49)[-1] <= 48 and len(protocol.frames(1)) == 1


LABELS = {
    ("opens2v-human", False): "opens2v-human 1.1 as published",
    ("opens2v-human", True): "opens2v-human 1.1 mended",
    ("opens2v-human-1.0", False): "opens2v-human 1.0 as published",
    ("consisid", True): "consisid mended",
    ("magicmirror", True): "magicmirror as published",
    ("mmjax", True): "mmjax",
}


@pytest.mark.parametrize("name, fixed", LABELS)
def test_labels(name, fixed):
    assert find_protocol(name, fixed).label == LABELS[name, fixed]


def test_another_name_is_refused():
    with pytest.raises(ConfigError, match="'opens2v': expected one of mmjax, .*did you mean opens2v-human"):
        find_protocol("opens2v")


def test_ours_is_every_known_metric():
    protocol = find_protocol()
    assert DEFAULT == protocol.name == "mmjax"
    assert names_of(protocol, known=("b", "a")) == ["b", "a"]
    assert len(protocol.frames(81)) == 49 and len(protocol.frames(33)) == 33


def test_magicmirrors_columns_are_table_1s():
    mine = {metric.name: metric for metric in (Identity("dlib"), SimilarityDecay("dlib"), FramesWithoutFace())}
    metrics = find_protocol("magicmirror").metrics(Given(embedders=("edgeface",)), mine)
    assert [metric.name for metric in metrics] == [
        "dynamic_degree/farneback",
        "text_alignment",
        "inception_score",
        "smoothness/farneback",
        "identity/dlib",
        "identity/edgeface",
        "decay/dlib",
        "decay/edgeface",
        "fm_ref",
        "fm_inter",
        "impostors/dlib",
        "impostors/edgeface",
        "no_face",
        "no_face/dlib",
    ]
    assert metrics[4] is mine["identity/dlib"]
    assert "give it with --embedder dlib" in find_protocol("magicmirror").metrics(Given(), {})[4].why


BETTER = {  # as the publications have them
    "magicmirror": {"text_alignment": "higher", "inception_score": "higher", "identity/dlib": "higher"},
    "consisid": {"face_sim/arc": "higher", "face_sim/cur": "higher", "clip_score": "higher", "face_fid": "lower"},
    "opens2v-human": {"aesthetic": "higher", "gme": "higher", "natural": "higher", "face_sim/cur": "higher"},
}


@pytest.mark.parametrize("name", BETTER)
def test_a_column_has_its_better_side_whether_it_is_computed_or_not(name):
    lacking = {metric.name: metric for metric in find_protocol(name).metrics(Given(), {})}
    assert BETTER[name].items() <= {name: metric.better for name, metric in lacking.items()}.items()
    mine = {metric.name: metric for metric in (Identity("dlib"), SimilarityDecay("dlib"))}
    for metric in find_protocol(name).metrics(EVERYTHING, mine):
        if metric.name in lacking and not isinstance(metric, Lacking):
            assert (metric.better, metric.title) == (lacking[metric.name].better, lacking[metric.name].title)


def test_consisids_slips_are_there_or_mended():
    face, cur, clip, fid = find_protocol("consisid").metrics(EVERYTHING, {})
    assert (face.sampling.count, cur.zeros_dropped, clip.own_scale) == (16, False, True)
    assert not face.fixed and clip.colours_exchanged and isinstance(fid, Lacking)
    face, _, clip, _ = find_protocol("consisid", fixed=True).metrics(EVERYTHING, {})
    assert face.fixed and not clip.colours_exchanged


def test_a_plug_in_fills_the_column_of_its_name():
    plugged = known("natural", "gme")
    metrics = {metric.name: metric for metric in find_protocol("opens2v-human").metrics(EVERYTHING, plugged)}
    assert metrics["natural"] is plugged["natural"] and "Q-Align" in metrics["motion_smoothness_opens2v"].why
    assert metrics["aesthetic"].sampling.count == 32
    assert metrics["face_sim/cur"].zeros_dropped and not metrics["face_sim/arc"].zeros_dropped
    assert list(metrics)[-1] == "total_opens2v/1.1", "a total stands behind its parts"


# The total


LEADERBOARD = {  # shares of 1 as the public leaderboard of version 1.1 prints them, and its total
    "ConsisID": ((0.4177, 0.7983, 0.3799, 0.4319, 0.7203, 0.5583), 0.5419),
    "VACE-14B": ((0.5278, 0.9496, 0.1176, 0.6465, 0.6953, 0.6931), 0.6578),
    "Hailuo": ((0.5275, 0.9910, 0.3180, 0.5769, 0.7142, 0.6920), 0.6526),
}
PARTS = ("aesthetic", "motion_smoothness_opens2v", "signed_amplitude/farneback", "face_sim/cur", "gme", "natural")


def scored(shares):
    """Scores of a video whose shares are these: aesthetics run from 4 to 7, naturalness from 1 to 5."""
    aesthetic, *others, natural = shares
    return dict(zip(PARTS, map(Score, (4 + 3 * aesthetic, *others, 1 + 4 * natural)), strict=True))


@pytest.mark.parametrize("model", LEADERBOARD)
def test_the_total_is_the_leaderboards(model):
    shares, total = LEADERBOARD[model]
    found = opens2v.total(fixed=False).score(VideoToScore(None, scores=scored(shares)))
    print(f"{model}: {found.value:.4f}, printed {total:.4f}")
    assert found.value == pytest.approx(total, abs=1e-4)
    assert sum(found.details.values()) == pytest.approx(found.value) and list(found.details) == list(PARTS)


def test_version_1_0_has_no_smoothness():
    total = opens2v.total(fixed=False, version="1.0")
    shares = (0.5, 0.9, 0.2, 0.6, 0.7, 0.4)
    expected = 0.15 * 0.5 + 0.15 * 0.2 + 0.25 * 0.6 + 0.15 * 0.7 + 0.30 * 0.4
    assert total.score(VideoToScore(None, scores=scored(shares))).value == pytest.approx(expected)
    assert [part.metric for part in total.parts] == [name for name in PARTS if "smoothness" not in name]
    assert "1.0" in total.name and "version 1.0" in total.title


def test_a_total_without_a_part_names_it():
    scores = scored((0.5,) * 6) | {"gme": not_computed("no weights")}
    del scores["natural"]
    found = opens2v.total(fixed=False).score(VideoToScore(None, scores=scores))
    assert found.value is None and "not computed: gme, natural" in found.why


def test_mended_the_speed_stands_beside_the_amplitude_and_the_total_keeps_its_parts():
    """Percent a second are no pixels a frame: on the published range of 0 to 1 every video would have all of them."""
    assert "mean_speed/farneback" in names_of(find_protocol("opens2v-human", fixed=True))
    assert "mean_speed/farneback" not in names_of(find_protocol("opens2v-human"))
    assert opens2v.total(fixed=True).parts == opens2v.total(fixed=False).parts
    assert "mended" in opens2v.total(fixed=True).title


@pytest.mark.parametrize("value, share", [(3, 0), (4, 0), (5.5, 0.5), (7, 1), (9, 1)])
def test_parts_are_cut_off_at_their_range(value, share):
    assert Part("aesthetic", 0.18, 4, 7).of(value) == pytest.approx(0.18 * share)
    for version, weights in opens2v._WEIGHTS.items():
        assert sum(weights) == pytest.approx(1), version


# Success rates


def test_thresholds_of_success():
    by_name = {threshold.name: threshold for threshold in magicmirror.SUCCESS}
    assert list(by_name) == ["face recognised", "identity", "motion", "text"]
    assert by_name["identity"].rule == "identity/dlib at least 0.9"
    assert by_name["face recognised"].rule == "no_face at most 0.5"
    assert by_name["face recognised"].met(0.5) and not by_name["face recognised"].met(0.51)
    assert by_name["identity"].met(0.9) and not by_name["identity"].met(0.89)
    columns = [metric.name for metric in find_protocol("magicmirror").metrics(Given(), {})]
    assert {each.metric for each in magicmirror.SUCCESS} <= set(columns)
