"""Why items and samples are dropped, and the error that says so."""

from mmjax.errors import DataError

# what a report says of each reason, and what a user may do about it
REASONS = {
    "unreadable": "the file does not decode, is cut off, empty, or is not what its name says",
    "too_large": "more pixels, frames or bytes than the limits allow",
    "unsupported": "colours, views or a format that it says of itself and that are not read rightly; save it otherwise",
    "too_slow": "it kept a worker busy for longer than the limit",
    "crashed": "it took its worker process down",
    "too_short": "a shot with fewer frames than a record has",
    "low_rate": "fewer frames a second than a record has",
    "low_resolution": "it would have to be enlarged by more than settings.max_upscale, or is below min_resolution",
    "no_face": "no face, or not in every frame",
    "several_people": "several faces of like size, or one person after another",
    "low_confidence": "the detector was not sure of the face",
    "small_face": "a face of too few pixels, or too small a part of the frame",
    "blurred": "a face out of focus or shaken",
    "turned": "a face turned too far away",
    "cut_off": "no crop or border holds the whole face",
    "still": "hardly any motion: a photograph shown as a video",
    "shaky": "more motion than a model can learn from",
    "text": "text on the screen",
    "no_caption": "no caption, no template and no captioner",
    "no_class_word": "a caption that does not say whom it is about, and nobody to estimate it",
    "unreadable_caption": "a caption that the text encoder cannot read, such as one in another script",
    "long_caption": "more tokens than the model's text length",
    "duplicate": "nearly the same picture as another one",
    "other_person": "no other picture is of the same person by its embedding",
    "no_reference": "no picture that may be a reference, its own included; or a generated picture without its original",
}


class Rejected(DataError):
    """An item or sample that is dropped. `reason` is a key of `REASONS`, the message says what was found."""

    def __init__(self, reason: str, detail: str, value: float | None = None):
        super().__init__(detail)
        self.reason, self.detail, self.value = reason, detail, value
        if reason not in REASONS:
            raise ValueError(f"{reason} is no reason of REASONS")

    def __reduce__(self):  # it comes out of worker processes
        return type(self), (self.reason, self.detail, self.value)
