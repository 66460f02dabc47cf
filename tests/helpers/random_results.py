"""Plausible results of an evaluation, of random numbers: what tables and the page show where no video is at hand."""

import dataclasses
import io
import json
import math

import numpy as np
from PIL import Image

from mmjax.evaluation.metrics.identity import FramesWithoutFace, Identity, SimilarityDecay
from mmjax.evaluation.metrics.interface import MeanOverVideos
from mmjax.evaluation.statistics import differences, figures

FRAMES, FACELESS, BROKEN = 16, 0.05, 0.03  # looked at in each video; chances of a frame and of a video
_PROMPTS = ("A man img walks along a beach at dusk", "A woman img plays the violin", "A person img laughs in the rain")


@dataclasses.dataclass(frozen=True)
class Plain(MeanOverVideos):
    """A metric by its description alone, normal around `centre`."""

    name: str
    title: str = "a measure of random numbers"
    better: str = "higher"
    centre: float = 0.5
    spread: float = 0.1
    version: int = 1


@dataclasses.dataclass(frozen=True)
class Median(Plain):
    """One whose statistic is no mean."""

    def statistic(self, scores):
        return float(np.median([score.value for score in scores])) if scores else math.nan


@dataclasses.dataclass(frozen=True)
class YesOrNo(Plain):
    """Of which each value is 0 or 1."""

    rate = True


def usual_metrics(embedders=("dlib", "mbf")):
    both = [metric for name in embedders for metric in (Identity(name), SimilarityDecay(name))]
    return [
        *both,
        FramesWithoutFace(),
        Plain("fm_inter", "face motion between frames", centre=0.6),
        YesOrNo("dynamic_degree", "videos that move, share", centre=0.7),
        Plain("smoothness", "motion smoothness", centre=0.48, spread=0.02),
        Plain("sharpness", "sharpness of the picture", "", centre=120.0, spread=15.0),
        Median("median_motion", "median of the motion", centre=3.0),
        Plain("inception_score", "inception score", spread=math.nan),  # never computed
    ]


def video(key, system="ours", person="anna", **fields):
    """A row of results in which all is well and nothing scored."""
    usual = dict(file=f"{key}.mp4", prompt="A man img walks", seed=0, problem="", frames=49, looked=FRAMES)
    usual |= dict(seconds=[number / 8 for number in range(FRAMES)], height=480, width=720, faces_found=FRAMES)
    return dict(key=key, system=system, person=person, several_faces=0, scores={}) | usual | fields


def scored(key, value, system="ours", person="anna", metric="fm_inter", **fields):
    """A row with one score."""
    score = {"value": value, "series": [], "why": "" if value is not None else "nothing was there", "details": {}}
    return video(key, system, person, scores={metric: score}, **fields)


def results(seed=0, systems=("ours", "ConsisID"), people=6, prompts=2, metrics=None, name="person {}".format, text=""):
    """Results of people x prompts videos of each system; `name` makes the people's, `text` ends every prompt."""
    rng = np.random.default_rng(seed)
    metrics = usual_metrics() if metrics is None else metrics
    names = [name(number) for number in range(people)]
    ease = dict(zip(names, rng.normal(0, 0.03, people), strict=True))
    videos = [
        _random_video(rng, f"{system}/{person}/{number}", system, person, prompt, metrics, shift + ease[person])
        for shift, system in zip(np.linspace(0, -0.08, len(systems)), systems, strict=True)
        for person in names
        for number, prompt in enumerate([each + text for each in (_PROMPTS * prompts)[:prompts]])
    ]
    embedders = {metric.embedder: None for metric in metrics if hasattr(metric, "embedder")}
    own = {each: rng.normal(0.8, 0.08, 200) for each in embedders}
    made = {
        "notice": "made with mmjax.evaluate",
        "schema": 1,
        "command": "python -m mmjax.evaluate --videos ours=out --references people",
        "settings": {"frames": FRAMES, "nested": {"size": 320}},
        "versions": {"mmjax": "0.1.0", "numpy": np.__version__},
        "protocol": {
            "name": "magicmirror",
            "label": "magicmirror as published",
            "version": "",
            "fixed": False,
            "notes": ["a note of the protocol"],
        },
        "embedders": [
            {"name": each, "fingerprint": f"{each}-0123456789abcdef", "independent": number == 0, "note": ""}
            for number, each in enumerate(embedders)
        ],
        "warnings": ["2 of 6 people have one picture alone"] if people else [],
        "metrics": [{key: getattr(each, key) for key in ("name", "title", "better", "version")} for each in metrics],
        "people": [
            {"name": each, "pictures": ["a.jpg", "b.jpg"], "faces": 2, "given": 0, "problem": ""} for each in names
        ],
        "videos": videos,
        "figures": figures(videos, metrics),
        "differences": differences(videos, metrics),
        "distributions": {
            each: {"own": own[each].clip(-1, 1).tolist(), "impostor": rng.normal(0.3, 0.12, 900).clip(-1, 1).tolist()}
            for each in embedders
        },
    }
    return json.loads(json.dumps(made, allow_nan=False))


def pictures(results, frames=6, side=96, seed=0):
    """Strips and references of `results`: as many small JPEGs as a video has frames in its strip."""
    rng = np.random.default_rng(seed)
    some = [_jpeg(rng, side) for _ in range(24)]
    strips = {
        each["key"]: [some[(number + 5 * place) % 24] for number in range(frames)]
        for place, each in enumerate(results["videos"])
        if each["looked"]
    }
    references = {
        each["name"]: [some[place % 24], some[(place + 7) % 24]] for place, each in enumerate(results["people"])
    }
    return {"strips": strips, "references": references}


def _random_video(rng, key, system, person, prompt, metrics, shift):
    if rng.random() < BROKEN:
        nothing = dict(frames=0, looked=0, seconds=[], height=0, width=0, faces_found=0)
        return video(key, system, person, prompt=prompt, problem="broken: no frame could be decoded", **nothing)
    series = (0.8 + shift + rng.normal(0, 0.02, FRAMES).cumsum()).clip(-1, 0.95)
    series[rng.random(FRAMES) < FACELESS] = np.nan
    scores = {metric.name: _random_score(rng, metric, series, shift) for metric in metrics}
    found = int(np.isfinite(series).sum())
    return video(key, system, person, prompt=prompt, faces_found=found, seed=int(rng.integers(2**31)), scores=scores)


def _random_score(rng, metric, series, shift):
    values, why = [], ""
    series = series + 0.01 * len(getattr(metric, "embedder", ""))  # each embedder has a level of its own
    if isinstance(metric, Identity):
        values = series
        value = np.nanmean(series)
    elif isinstance(metric, FramesWithoutFace):
        values = 1.0 - np.isfinite(series)
        value = values.mean()
    elif isinstance(metric, SimilarityDecay):
        value = np.nanmean(series[:4]) - np.nanmean(series[-4:])
    elif isinstance(metric, YesOrNo):
        value = float(rng.random() < metric.centre)
    else:
        value = rng.normal(metric.centre * (1 + shift), metric.spread)
        values = rng.normal(value, metric.spread, FRAMES - 1)
    if not np.isfinite(value):
        value, values, why = None, [], "needs weights; give --inception FILE"
    values = [float(each) if np.isfinite(each) else None for each in values]
    return {"value": None if value is None else float(value), "series": values, "why": why, "details": {}}


def _jpeg(rng, side):
    small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
    file = io.BytesIO()
    small.resize((side * 3 // 2, side), Image.Resampling.BICUBIC).save(file, "jpeg", quality=80)
    return file.getvalue()
