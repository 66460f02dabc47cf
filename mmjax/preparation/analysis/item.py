"""The analysis of one item: is there one person in it, large and sharp enough, and which frames may become a record?

This runs in worker processes, on NumPy, OpenCV and onnxruntime alone. `start` loads the face models once in a process,
`analyse` judges an item, a window at a time (`mmjax.preparation.analysis.windows`).
"""

import dataclasses
import functools
from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mmjax.faces import quality
from mmjax.faces.attributes import Attributes, load_attributes
from mmjax.faces.detection import Face, FaceDetector, align, crop_portrait, load_detector
from mmjax.faces.reference_check import CLEARLY_LARGEST
from mmjax.faces.tracking import Track
from mmjax.media import spread
from mmjax.preparation import captions, framing
from mmjax.preparation.analysis import scores
from mmjax.preparation.analysis.faces import upright_faces
from mmjax.preparation.analysis.windows import Window, photo_window, small, video_windows
from mmjax.preparation.items import Dropped, Finding, Item, Sample, Still, Turned
from mmjax.preparation.processes.worker import beat
from mmjax.preparation.reasons import Rejected
from mmjax.preparation.settings import Settings

_STILLS = 3  # of a clip, spread evenly
_MEASURED = 5  # frames of a clip whose sharpness is measured


@dataclasses.dataclass(frozen=True)
class AnalysisSpec:
    """What the workers know of the records. `clip_frames` is 0 where no clips are wanted."""

    settings: Settings
    face_models: str
    height: int
    width: int
    fps: float
    photos: bool
    clip_frames: int
    portrait_side: int


@dataclasses.dataclass(frozen=True, eq=False)
class _Tools:
    """What a worker process works with."""

    spec: AnalysisSpec
    detect: FaceDetector
    attributes: Attributes | None


_tools: _Tools | None = None  # of this worker process


def start(spec: AnalysisSpec) -> None:
    """Loads the face models of this process. Raises `CheckpointError` for a model pack that cannot be used."""
    global _tools
    cv2.setNumThreads(1)  # processes are the parallelism
    _tools = _Tools(spec, load_detector(spec.face_models), load_attributes(spec.face_models))


def analyse(item: Item) -> Finding:
    """Samples and stills of an item, and what of it was dropped.

    Raises:
      Rejected: it cannot be read, or there is nothing to analyse.
    """
    collected = _Collected(item)
    for window in _windows(item, _tools.spec, collected.dropped):
        detect = functools.partial(_detect, _tools.detect)
        window, faces, remark = upright_faces(window, item.kind, detect, _tools.spec.settings.detect_every)
        if remark:
            collected.turned.append(Turned(window.key, remark, small(window.frames[0])))
        try:
            _judge(collected, window, _one_face(faces), _tools)
        except Rejected as error:
            picture = small(window.frames[0])
            collected.dropped.append(Dropped(window.key, error.reason, error.detail, error.value, picture))
        if item.kind == "video" and len(collected.samples) == _tools.spec.settings.clips_per_video:
            break
    return collected.finding()


@dataclasses.dataclass(eq=False)
class _Collected:
    """What the windows of an item gave so far; `pictures` are the samples', small."""

    item: Item
    samples: list[Sample] = dataclasses.field(default_factory=list)
    stills: list[Still] = dataclasses.field(default_factory=list)
    dropped: list[Dropped] = dataclasses.field(default_factory=list)
    pictures: list[np.ndarray] = dataclasses.field(default_factory=list)
    turned: list[Turned] = dataclasses.field(default_factory=list)

    def finding(self) -> Finding:
        parts = self.samples, self.stills, self.dropped, self.pictures, self.turned
        return Finding(self.item.key, *map(tuple, parts))


def _windows(item: Item, spec: AnalysisSpec, dropped: list[Dropped]) -> Iterator[Window]:
    if item.kind == "photo":
        yield photo_window(item, spec.settings)
    elif not spec.clip_frames:
        raise Rejected("too_short", "a video, and the experiment has no clips")
    else:
        yield from video_windows(item, spec.clip_frames, spec.fps, spec.settings, dropped)


def _judge(collected: _Collected, window: Window, face: Track, tools: _Tools) -> None:
    """Adds what a window gives. Of one whose face is good and that is no sample all the same the stills stay.

    Raises `Rejected` where it is no sample.
    """
    item, spec = collected.item, tools.spec
    measured, stills = _measure(item, window, face, spec)
    try:
        sample = _sample(item, window, face, measured, tools) if _wanted(item, spec) else None
    except Rejected:
        collected.stills += [dataclasses.replace(still, key=item.key) for still in stills]
        raise
    collected.stills += stills
    if sample is not None:
        collected.samples.append(sample)
        collected.pictures.append(small(framing.apply_framing(sample.framing, window.frames[:1])[0]))


def _wanted(item: Item, spec: AnalysisSpec) -> bool:
    """Whether an item may become records, rather than only references."""
    return item.role != "reference" and (item.kind == "video" or spec.photos)


def _detect(detector: FaceDetector, picture: UInt8[np.ndarray, "h w 3"], like: Face | None = None) -> list[Face]:
    """Faces of a picture. It is a sign of life: a window takes a large model on a busy machine longer than it may."""
    faces = detector(picture, like=like)
    beat()
    return faces


def _one_face(tracks: list[Track]) -> Track:
    """The one person of a window, in all of its frames. Raises `Rejected`."""
    if not tracks:
        raise Rejected("no_face", "no face found")
    main, *others = tracks
    if not main.present.all():
        raise Rejected("no_face", f"a face in {main.present.sum()} of {len(main.present)} frames")
    if others and main.area < CLEARLY_LARGEST * others[0].area:
        raise Rejected("several_people", f"{len(tracks)} faces, the second one of like size", len(tracks))
    return main


def _measure(item: Item, window: Window, face: Track, spec: AnalysisSpec) -> tuple[dict[str, float], list[Still]]:
    """What is measured of the face itself, and its stills. Raises `Rejected` for a face that is no use to anybody."""
    settings = spec.settings
    indices = spread(_MEASURED, len(window.frames))
    aligned = {index: align(window.frames[index], face.landmarks[index]) for index in indices}
    sides = (face.boxes[:, 2:] - face.boxes[:, :2]).max(1)
    measured = {
        "confidence": float(face.scores.min()),
        "face": float(np.median(sides)),
        "sharpness": float(np.median([quality.sharpness(crop) for crop in aligned.values()])),
        "yaw": float(np.median([abs(quality.yaw(points)) for points in face.landmarks])),
    }
    _at_least("low_confidence", "the detector's confidence", measured["confidence"], settings.min_confidence)
    _at_least("small_face", "pixels of the face", measured["face"], settings.min_face)
    _at_least("blurred", "sharpness", measured["sharpness"], settings.min_sharpness)
    chosen = [indices[each] for each in spread(_STILLS, len(indices))]
    return measured, [_still(item, window, face, index, aligned[index], spec.portrait_side) for index in chosen]


def _still(item: Item, window: Window, face: Track, index: int, aligned: np.ndarray, side: int) -> Still:
    found = Face(face.boxes[index], face.landmarks[index], float(face.scores[index]))
    return Still(
        key=window.key,
        item=item.key,
        person=item.person,
        role=item.role,
        frame=window.numbers[index],
        time=window.times[index],
        shot=window.shot,
        scores={
            "confidence": found.score,
            "face": found.side,
            "sharpness": quality.sharpness(aligned),
            "yaw": quality.yaw(found.landmarks),
        },
        aligned=aligned,
        portrait=crop_portrait(window.frames[index], found, side),
    )


def _sample(item: Item, window: Window, face: Track, measured: dict[str, float], tools: _Tools) -> Sample:
    """The window as a sample, with its caption. Raises `Rejected` for one that cannot be a record."""
    spec, settings = tools.spec, tools.spec.settings
    height, width = window.frames.shape[1:3]
    _at_least("low_resolution", "pixels of the shorter side", min(height, width), settings.min_resolution)
    placed = framing.frame_on_face(
        (height, width),
        face.boxes,
        spec.height,
        spec.width,
        settings.fit,
        settings.max_upscale,
        framing.content_box(window.frames),
    )
    boxes, landmarks = framing.move_boxes(placed, face.boxes), framing.move_landmarks(placed, face.landmarks)
    measured = measured | _of_frames(window, boxes, spec)
    _check_frames(item.kind, measured, settings)
    sample = Sample(
        key=window.key,
        item=item.key,
        person=item.person,
        collection=item.collection,
        caption=item.caption,
        frames=window.numbers,
        times=(window.times[0], window.times[-1]),
        shot=window.shot,
        framing=placed,
        boxes=boxes.astype(np.float32),
        landmarks=landmarks.astype(np.float32),
        scores=measured,
        turns=window.turns,
    )
    return _captioned(sample, window, face, tools)


def _check_frames(kind: str, measured: dict[str, float], settings: Settings) -> None:
    """Raises `Rejected` for frames whose face, motion or text is beyond the thresholds."""
    _at_least("small_face", "of the record's shorter side", measured["face_share"], settings.min_face_share)
    _at_most("turned", "degrees", measured["yaw"], settings.max_yaw)
    if kind == "video":
        _at_least("still", "percent of the height a second", measured["motion"], settings.min_motion)
        _at_most("shaky", "percent of the height a second", measured["motion"], settings.max_motion or np.inf)
    _at_most("text", "of the picture", measured.get("text", 0), settings.max_text or np.inf)


def _of_frames(window: Window, boxes: Float[np.ndarray, "F 4"], spec: AnalysisSpec) -> dict[str, float]:
    side = float(np.median((boxes[:, 2:] - boxes[:, :2]).max(1)))
    found = {"face_share": side / min(spec.height, spec.width)}
    if len(window.frames) > 1:
        found["motion"] = scores.motion_score(window.frames, spec.fps)
    if spec.settings.max_text:
        found["text"] = scores.text_share(window.frames)
    return found


def _captioned(sample: Sample, window: Window, face: Track, tools: _Tools) -> Sample:
    """With its final caption, unless a captioner is to be asked later, beside what it may need then."""
    attributes, more = None, {}
    if tools.attributes is not None:
        middle = len(window.frames) // 2
        found = Face(face.boxes[middle], face.landmarks[middle], float(face.scores[middle]))
        attributes = tools.attributes(window.frames[middle], found)
        more = {"male": float(attributes[0] == "man"), "age": attributes[1]}
    sample = dataclasses.replace(sample, scores=sample.scores | more)
    if tools.spec.settings.captioner:
        return sample
    caption = captions.caption_for(sample, lambda: window.frames, tools.spec.settings, attributes, None)
    return dataclasses.replace(sample, caption=caption)


def _at_least(reason: str, what: str, value: float, limit: float) -> None:
    if value < limit:
        raise Rejected(reason, f"{value:.3g} {what}, expected {limit:g} or more", value)


def _at_most(reason: str, what: str, value: float, limit: float) -> None:
    if value > limit:
        raise Rejected(reason, f"{value:.3g} {what}, expected {limit:g} at most", value)
