"""The frames of samples, read or drawn by worker processes while records are encoded."""

import dataclasses

import cv2

from mmjax.faces.detection import Face
from mmjax.faces.dlib_faces import is_installed, landmarks68
from mmjax.faces.upright import turned
from mmjax.preparation.animation.clip import animate
from mmjax.preparation.framing import apply_framing
from mmjax.preparation.hashing import hash_of
from mmjax.preparation.inputs.decoding import read_frames, read_photo
from mmjax.preparation.items import Item, Sample, SampleFrames
from mmjax.preparation.processes.worker import beat
from mmjax.preparation.settings import Settings

_DRAWN = 256  # pixels of the shorter side, below which clips are drawn twice as large, and then shrunk

_settings = Settings()  # of this worker process


def start_reading(settings: Settings) -> None:
    """Called once in each worker that `read_sample` runs in."""
    global _settings
    cv2.setNumThreads(1)  # processes are the parallelism
    _settings = settings


def read_sample(task: tuple[Item, Sample]) -> SampleFrames:
    """A sample's frames at the record's size. Raises `Rejected` where the file is not as it was."""
    item, sample = task
    if sample.animation:
        return _drawn(item, sample)
    if item.kind == "photo":
        frames = read_photo(item, _settings)[None]
    else:
        frames = read_frames(item, sample.frames, _settings, sample.times)
    pixels = apply_framing(sample.framing, turned(frames, sample.turns))
    return SampleFrames(pixels, sample.boxes, sample.landmarks)


def animation_fingerprint() -> str:
    """What clips of photos depend on beside the photo: whether dlib is there, without which nobody talks or blinks."""
    return "animation/1 " + ("dlib's 68 points" if is_installed() else "five landmarks")


def _drawn(item: Item, sample: Sample) -> SampleFrames:
    """A clip of a photo; its motion follows from the sample's key."""
    framing = sample.framing
    larger = 2 if min(framing.out_height, framing.out_width) < _DRAWN else 1
    wide = dataclasses.replace(framing, out_height=larger * framing.out_height, out_width=larger * framing.out_width)
    photo = apply_framing(wide, turned(read_photo(item, _settings)[None], sample.turns))[0]
    face = Face(sample.boxes[0] * larger, sample.landmarks[0] * larger, sample.scores["confidence"])
    clip = animate(
        photo,
        face.landmarks,
        face.box,
        frames=len(sample.frames),
        fps=(len(sample.frames) - 1) / (sample.times[1] - sample.times[0]),
        seed=hash_of(sample.key),
        points=landmarks68(photo, face) if is_installed() else None,
        each=beat,
    )
    small = dataclasses.replace(framing, left=0, top=0, width=photo.shape[1], height=photo.shape[0])
    pixels = apply_framing(small, clip.frames) if larger > 1 else clip.frames
    return SampleFrames(pixels, clip.boxes / larger, clip.landmarks / larger)
