"""Looking at one item: is there one person in it, large and sharp enough, and which frames may become a record?

This runs in worker processes, on NumPy, OpenCV and onnxruntime alone. `start` loads the face models once in a process,
`analyse` looks at an item. A video is read once, from its first frame to its last: frames are taken at the records'
rate, cut into windows of a record's length that hold no cut, and judged a window at a time, so that no more than a
window's frames are in memory.
"""

import dataclasses
from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mmjax.faces import quality
from mmjax.faces.attributes import Attributes, load_attributes
from mmjax.faces.detection import Face, FaceDetector, align, crop_portrait, load_detector
from mmjax.faces.reference_check import CLEARLY_LARGEST
from mmjax.faces.tracking import Detect, Track, track_faces
from mmjax.media import spread
from mmjax.preparation.analysis import framing, scores
from mmjax.preparation.analysis.cuts import CutDetector
from mmjax.preparation.analysis.workers import beat
from mmjax.preparation.inputs import captions
from mmjax.preparation.inputs.decode import read_photo, video_frames
from mmjax.preparation.items import Dropped, Finding, Item, Sample, Still
from mmjax.preparation.reasons import Rejected
from mmjax.preparation.settings import Settings

_STILLS = 3  # of a clip, spread evenly
_LOOKS = 5  # frames of a clip whose sharpness is measured
_SHOWN = 144  # pixels, longer side of the small pictures for the report
_SLACK = 0.25  # of the time between two frames of a record, by which one may be early
_GAP = 1.75  # of the same, between two frames in a row
_SLOWEST = 0.9  # of the records' rate, that a window has on average


@dataclasses.dataclass(frozen=True)
class Plan:
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
    plan: Plan
    detect: FaceDetector
    attributes: Attributes | None


@dataclasses.dataclass(frozen=True, eq=False)
class _Window:
    """Frames in a row of one shot, or a photo."""

    key: str
    frames: UInt8[np.ndarray, "F h w 3"]
    numbers: tuple[int, ...]
    times: tuple[float, ...]
    shot: int


_tools: _Tools | None = None


def start(plan: Plan) -> None:
    """Loads the face models of this process. Raises `CheckpointError` for a model pack that cannot be used."""
    global _tools
    cv2.setNumThreads(1)  # processes are the parallelism
    _tools = _Tools(plan, load_detector(plan.face_models), load_attributes(plan.face_models))


def analyse(item: Item) -> Finding:
    """Samples and stills of an item, and what of it was dropped.

    Raises:
      Rejected: it cannot be read, or there is nothing to look at.
    """
    plan = _tools.plan
    samples, stills, dropped, pictures = [], [], [], []
    for window in _photo(item) if item.kind == "photo" else _windows(item, plan, dropped):
        try:
            face = _one_face(window, item.kind, _detect, plan.settings)
            measured, found = _look(item, window, face, plan)
        except Rejected as error:
            dropped.append(_dropped(window.key, error, window.frames[0]))
            continue
        try:
            sample, picture = _sample(item, window, face, measured, _tools)
        except Rejected as error:
            dropped.append(_dropped(window.key, error, window.frames[0]))
            stills += [dataclasses.replace(still, key=item.key) for still in found]
            continue
        stills += found
        if sample is not None:
            samples.append(sample)
            pictures.append(picture)
        if item.kind == "video" and len(samples) == plan.settings.clips_per_video:
            break
    return Finding(item.key, tuple(samples), tuple(stills), tuple(dropped), tuple(pictures))


def _photo(item: Item) -> Iterator[_Window]:
    yield _Window(item.key, read_photo(item, _tools.plan.settings)[None], (0,), (0.0,), 0)


def _windows(item: Item, plan: Plan, dropped: list[Dropped]) -> Iterator[_Window]:
    """Windows of a video; shots without any are added to `dropped`, and so is damage behind the first window."""
    if not plan.clip_frames:
        raise Rejected("too_short", "a video, and the experiment has no clips")
    cut, step = CutDetector(plan.settings.cut_threshold), 1 / plan.fps
    taken: list[tuple[int, float, np.ndarray]] = []
    shot, count, due = 0, 0, 0.0
    for number, seconds, frame in _readable(item, plan.settings, dropped):
        if cut(frame) or (taken and frame.shape != taken[0][2].shape):
            _too_short(item, taken, count, plan, dropped)
            taken, count, shot, due = [], 0, shot + 1, seconds
        if seconds < due - _SLACK * step:
            continue
        if taken and seconds - taken[-1][1] > _GAP * step:
            if len(taken) > 1 or not count:  # told once where every frame is late
                dropped.append(_low_rate(item, taken, 1 / (seconds - taken[-1][1]), plan))
            taken, count = [], count + 1
        taken.append((number, seconds, frame))
        due = max(due, seconds - step) + step
        if len(taken) == plan.clip_frames:
            numbers, times, frames = zip(*taken, strict=True)
            rate = (len(times) - 1) / (times[-1] - times[0])
            if rate < _SLOWEST * plan.fps:
                dropped.append(_low_rate(item, taken, rate, plan))
                taken, count = [], count + 1
                continue
            taken, count = [], count + 1
            yield _Window(f"{item.key}#{numbers[0]}", np.stack(frames), numbers, times, shot)
    _too_short(item, taken, count, plan, dropped)


def _low_rate(item: Item, taken: list, rate: float, plan: Plan) -> Dropped:
    _, seconds, frame = taken[-1]
    detail = f"{rate:.1f} frames a second at {seconds:.1f} s, expected {plan.fps:g}"
    return _dropped(f"{item.key}#{taken[0][0]}", Rejected("low_rate", detail, rate), frame)


def _readable(item: Item, settings: Settings, dropped: list[Dropped]):
    """A video's frames. Damage behind the first one ends it and is told in `dropped`."""
    number = None
    try:
        for number, seconds, frame in video_frames(item, settings):
            yield number, seconds, frame
    except Rejected as error:
        if number is None:
            raise
        dropped.append(Dropped(item.key, error.reason, f"after frame {number}: {error.detail}", error.value))


def _too_short(item: Item, taken: list, windows: int, plan: Plan, dropped: list[Dropped]) -> None:
    """Tells of a shot that ended before its first window; what is left behind a window is not worth a word."""
    if taken and not windows:
        detail = f"{len(taken)} frames at {plan.fps:g} a second, expected {plan.clip_frames}"
        error = Rejected("too_short", detail, len(taken))
        dropped.append(_dropped(f"{item.key}#{taken[0][0]}", error, taken[0][2]))


def _detect(picture: UInt8[np.ndarray, "h w 3"], like: Face | None = None) -> list[Face]:
    """Faces of a picture. It is a sign of life: a window takes a large model on a busy machine longer than it may."""
    faces = _tools.detect(picture, like=like)
    beat()
    return faces


def _one_face(window: _Window, kind: str, detect: Detect, settings: Settings) -> Track:
    """The one person of a window, in all of its frames. Raises `Rejected`."""
    if kind == "photo":
        tracks = [_as_track(face) for face in detect(window.frames[0])]
    else:
        tracks = track_faces(window.frames, detect, settings.detect_every)
    if not tracks:
        raise Rejected("no_face", "no face found")
    main, *others = tracks
    if not main.present.all():
        raise Rejected("no_face", f"a face in {main.present.sum()} of {len(main.present)} frames")
    if others and main.area < CLEARLY_LARGEST * others[0].area:
        raise Rejected("several_people", f"{len(tracks)} faces, the second one of like size", len(tracks))
    return main


def _as_track(face: Face) -> Track:
    return Track(face.box[None], face.landmarks[None], np.array([face.score]), np.ones(1, bool))


def _look(item: Item, window: _Window, face: Track, plan: Plan) -> tuple[dict[str, float], list[Still]]:
    """What is measured of the face itself, and its stills. Raises `Rejected` for a face that is no use to anybody."""
    settings = plan.settings
    looks = spread(_LOOKS, len(window.frames))
    aligned = {index: align(window.frames[index], face.landmarks[index]) for index in looks}
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
    chosen = spread(_STILLS, len(looks))
    return measured, [
        _still(item, window, face, looks[each], aligned[looks[each]], plan.portrait_side) for each in chosen
    ]


def _still(item: Item, window: _Window, face: Track, index: int, aligned: np.ndarray, side: int) -> Still:
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


def _sample(item: Item, window: _Window, face: Track, measured: dict[str, float], tools: _Tools):
    """(the sample, a small picture of it), or (None, None) of an item that is only a reference. Raises `Rejected`."""
    plan, settings = tools.plan, tools.plan.settings
    if item.role == "reference" or (item.kind == "photo" and not plan.photos):
        return None, None
    height, width = window.frames.shape[1:3]
    _at_least("low_resolution", "pixels of the shorter side", min(height, width), settings.min_resolution)
    placed = framing.frame_on_face(
        (height, width),
        face.boxes,
        plan.height,
        plan.width,
        settings.fit,
        settings.max_upscale,
        framing.content_window(window.frames),
    )
    boxes, landmarks = framing.move_boxes(placed, face.boxes), framing.move_landmarks(placed, face.landmarks)
    measured = measured | _of_frames(window, boxes, plan)
    _at_least("small_face", "of the record's shorter side", measured["face_share"], settings.min_face_share)
    _at_most("turned", "degrees", measured["yaw"], settings.max_yaw)
    if item.kind == "video":
        _at_least("still", "percent of the height a second", measured["motion"], settings.min_motion)
        _at_most("shaky", "percent of the height a second", measured["motion"], settings.max_motion or np.inf)
    _at_most("text", "of the picture", measured.get("text", 0), settings.max_text or np.inf)
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
    )
    sample = _captioned(sample, window, face, tools)
    return sample, small(framing.apply_framing(placed, window.frames[:1])[0])


def _of_frames(window: _Window, boxes: Float[np.ndarray, "F 4"], plan: Plan) -> dict[str, float]:
    side = float(np.median((boxes[:, 2:] - boxes[:, :2]).max(1)))
    found = {"face_share": side / min(plan.height, plan.width)}
    if len(window.frames) > 1:
        found["motion"] = scores.motion_score(window.frames, plan.fps)
    if plan.settings.max_text:
        found["text"] = scores.text_share(window.frames)
    return found


def _captioned(sample: Sample, window: _Window, face: Track, tools: _Tools) -> Sample:
    """With its final caption, unless a captioner is to be asked later, beside what it may need then."""
    attributes, more = None, {}
    if tools.attributes is not None:
        middle = len(window.frames) // 2
        found = Face(face.boxes[middle], face.landmarks[middle], float(face.scores[middle]))
        attributes = tools.attributes(window.frames[middle], found)
        more = {"male": float(attributes[0] == "man"), "age": attributes[1]}
    sample = dataclasses.replace(sample, scores=sample.scores | more)
    if tools.plan.settings.captioner:
        return sample
    caption = captions.caption_for(sample, lambda: window.frames, tools.plan.settings, attributes, None)
    return dataclasses.replace(sample, caption=caption)


def small(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "small_h small_w 3"]:
    """A picture for the report, its longer side 144 pixels at most."""
    scale = min(1.0, _SHOWN / max(picture.shape[:2]))
    size = tuple(max(1, round(edge * scale)) for edge in picture.shape[1::-1])
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _dropped(key: str, error: Rejected, picture: np.ndarray) -> Dropped:
    return Dropped(key, error.reason, error.detail, error.value, small(picture))


def _at_least(reason: str, what: str, value: float, limit: float) -> None:
    if value < limit:
        raise Rejected(reason, f"{value:.3g} {what}, expected {limit:g} or more", value)


def _at_most(reason: str, what: str, value: float, limit: float) -> None:
    if value > limit:
        raise Rejected(reason, f"{value:.3g} {what}, expected {limit:g} at most", value)
