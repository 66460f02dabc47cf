"""What a preparation keeps and drops: every threshold in one record. `python -m mmjax.prepare --settings.KEY=VALUE`."""

import dataclasses

from mmjax.validation import LARGEST_INT, SHARE, Number, one_of, positive, within

_POSITIVE = (
    *("detect_every", "min_face", "max_upscale", "item_seconds", "chunk_photos", "chunk_videos", "shard_photos"),
    *("shard_clips", "max_megapixels", "max_frames", "max_gibibytes", "wait_hours"),
)
_NOT_BELOW_ZERO = Number(float, 0, LARGEST_INT)
_NOT_NEGATIVE = (
    *("max_yaw", "reference_yaw", "min_resolution", "clips_per_video", "min_motion", "max_motion", "cut_threshold"),
    "animated_clips",
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Defaults are for photographs and clips of people who know that they are filmed; the report shows what they drop.

    Pixels are those of the source, but for shares, which are of the record's shorter side.
    """

    # faces
    detect_every: int = 4  # frames of a record from one detection to the next; tracked between
    min_confidence: float = 0.6
    min_face: int = 48  # pixels, longer side of the face's box
    min_face_share: float = 0.1
    min_sharpness: float = 0.3  # see mmjax.faces.quality
    max_yaw: float = 60.0  # degrees, of a sample's median frame
    reference_yaw: float = 45.0  # degrees, of a reference
    # pictures and shots
    fit: str = "auto"  # crop | border | auto: crop where that holds the face, else border
    max_upscale: float = 1.0
    min_resolution: int = 0  # pixels, shorter side; the paper takes 720
    cut_threshold: float = 27.0  # of PySceneDetect's content detector
    clips_per_video: int = 64  # at most, which bounds the memory that a video takes; 0: all
    min_motion: float = 0.1  # percent of the frame's height a second; see mmjax.preparation.analysis.scores
    max_motion: float = 50.0  # 0: no limit
    max_text: float = 0.005  # share of the picture; 0: text is not searched
    # captions
    caption_template: str = ""  # for what has no caption; {class_word} is filled in
    class_word: str = ""  # where nobody can be estimated: man, woman, person, ...
    captioner: str = ""  # MODULE:FUNCTION that is shown the frames and returns a caption
    # pairs
    min_cosine: float = 0.65  # between a sample and its reference (METHOD 4)
    self_reference: str = "always"  # never | photos | clips | always: a sample's own picture as its reference
    # what is written
    animated_clips: int = 0  # of each photo, in `animated/`: the photo itself, moved; see mmjax.preparation.animation
    validation_share: float = 0.02  # of the people
    chunk_photos: int = 128  # analysed between two notes on disk: what a kill costs at most
    chunk_videos: int = 4
    shard_photos: int = 256
    shard_clips: int = 32
    # limits on hostile files
    item_seconds: float = 20.0  # without a sign of life
    max_megapixels: float = 100.0  # of a picture or a frame
    max_frames: int = 200_000  # of a video
    max_gibibytes: float = 8.0  # of a worker's memory
    # with --processes
    wait_hours: float = 6.0  # for a process that may be at work and gives nothing new; a preparation may change it

    def deciding(self) -> dict:
        """The settings that decide what is kept, which must stay the same while a preparation is gone on with."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "wait_hours"}

    def problems(self):
        for name in _POSITIVE:
            yield from positive(self, name)
        yield from one_of(self, fit=("auto", "crop", "border"), self_reference=("never", "photos", "clips", "always"))
        shares = ("min_confidence", "min_face_share", "min_sharpness", "validation_share", "max_text")
        yield from within(self, **dict.fromkeys(shares, SHARE), **dict.fromkeys(_NOT_NEGATIVE, _NOT_BELOW_ZERO))
        if 0 < self.max_motion < self.min_motion:
            yield "max_motion", self.max_motion, f"min_motion = {self.min_motion:g} or more, or 0 for no limit"
        if not -1 <= self.min_cosine <= 1:
            yield "min_cosine", self.min_cosine, "a cosine, -1 to 1"
