"""What somebody asks for: a form whose values may be anything, and the videos that it means.

    offer = offer_of(sampler.config, Limits())
    form = checked_form({"prompt": "a woman in a park", "seed": "7", ...}, offer)
    for each in asked_videos(form, {"a": ["face.jpg"]}):
        ...  # each.request, each.sampling

Values come over the network from whoever cares to send some, so nothing is taken for granted of their types.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmjax import config as c
from mmjax.encoders.prompts import CLASS_WORDS, TRIGGER, split_at_trigger
from mmjax.errors import ConfigError, DataError, PromptError
from mmjax.sampling import Request
from mmjax.serving.limits import Limits
from mmjax.validation import SEED, Number

ONE, LIKENESS, PROMPTS, PEOPLE = "one", "likeness", "prompts", "people"
COMPARISONS = {
    ONE: "One video",
    LIKENESS: "Likeness 0, 1 and yours",
    PROMPTS: "Two prompts",
    PEOPLE: "Two people",
}
NAMES = ("a", "b")  # of the people whose pictures are given
MAX_LIKENESS = 2.0
_TRIGGER = re.compile(rf"(?<!\w){TRIGGER}(?!\w)", re.IGNORECASE)
_CLASS_WORD = re.compile(rf"(?<!\w)({'|'.join(CLASS_WORDS)})(?!\w)", re.IGNORECASE)
_SIZE = re.compile(r"(\d{1,5}) x (\d{1,5})")


@dataclasses.dataclass(frozen=True)
class Offer:
    """What a model can be asked for. sizes: (height, width). has_identity: it takes pictures of a person."""

    frames: Sequence[int]
    sizes: Sequence[tuple[int, int]]
    fps: float
    steps: int
    guidance: float
    has_identity: bool
    limits: Limits = dataclasses.field(default_factory=Limits)


@dataclasses.dataclass(frozen=True)
class Form:
    """What somebody asks for, checked. likeness: the identity scale."""

    prompt: str
    class_word: str
    second_prompt: str
    negative_prompt: str
    compare: str
    likeness: float
    frames: int
    size: tuple[int, int]
    steps: int
    guidance: float
    seed: int


@dataclasses.dataclass(frozen=True)
class AskedVideo:
    """One video of a form. label: what tells it from its neighbours. sampling: fields of `config.Sampling`."""

    label: str
    request: Request
    sampling: dict[str, Any]


def offer_of(config: c.Experiment, limits: Limits) -> Offer:
    """What a model offers: the frames and the size it was trained on, and fewer and smaller ones of its grid."""
    data, unit = config.data, config.autoencoder.spatial * config.model.transformer.patch
    longest = max(data.frames, default=1)
    frames = [count for count in (1, 9, 17, 33, 49, 81) if count < longest] + [longest]
    shapes = [(data.height, data.width), (data.width, data.height), (data.height // 2, data.width // 2)]
    sizes = [
        size for size in dict.fromkeys(shapes) if all(side and side % unit == 0 and side % 2 == 0 for side in size)
    ]
    steps, guidance = min(config.sampling.steps, limits.steps), config.sampling.guidance
    return Offer(frames, sizes, data.fps, steps, guidance, config.model.adapter.enabled, limits)


def size_text(size: tuple[int, int]) -> str:
    """A size for people: height x width."""
    return f"{size[0]} x {size[1]}"


def with_trigger(prompt: str, class_word: str) -> str:
    """The prompt with the trigger behind its class word, put in where they are not there.

    Behind `class_word`, or else the first class word in it; a prompt without any begins with "A `class_word` img".
    """
    prompt = " ".join(prompt.split())
    if _TRIGGER.search(prompt):
        return prompt
    found = list(_CLASS_WORD.finditer(prompt))
    named = next((each for each in found if each[0].lower() == class_word), found[0] if found else None)
    if named:
        return f"{prompt[: named.end()]} {TRIGGER}{prompt[named.end() :]}"
    article = "An" if class_word[0] in "aeiou" else "A"
    return f"{article} {class_word} {TRIGGER} {prompt[:1].lower()}{prompt[1:]}".strip()


def checked_form(values: Mapping[str, Any], offer: Offer) -> Form:
    """The form of values of any kind. A seed that is left empty is for the caller to fill in first.

    Raises:
      ConfigError, PromptError: a value that is none, in one line.
      DataError: the box "I may use these pictures" is not ticked.
    """
    if values.get("consent") is not True:
        raise DataError("the box above the button is not ticked: tick it if you may use these pictures, or take others")
    limits = offer.limits
    compare = _one_of("side by side", values.get("compare"), COMPARISONS)
    size = _SIZE.fullmatch(str(values.get("size")))
    sizes = {size_text(each): each for each in offer.sizes}
    prompt = _text("prompt", values.get("prompt"), limits, needed=True)
    return Form(
        prompt,
        _one_of("class word", values.get("class_word"), CLASS_WORDS),
        _text("second prompt", values.get("second_prompt", ""), limits, needed=compare == PROMPTS),
        _text("negative prompt", values.get("negative_prompt", ""), limits),
        compare,
        Number(float, 0, MAX_LIKENESS).checked("likeness", values.get("likeness")),
        Number(int).checked("frames", _one_of("frames", _whole(values.get("frames")), offer.frames)),
        sizes[_one_of("size", size and size[0], sizes)],
        Number(int, 1, limits.steps).checked("steps", _whole(values.get("steps"))),
        Number(float, 1, 20).checked("guidance", values.get("guidance")),
        SEED.checked("seed", _seed(values.get("seed"))),
    )


def asked_videos(form: Form, people: Mapping[str, Sequence[Path]]) -> list[AskedVideo]:
    """The videos that a form means, of pictures of person "a" and, where two are compared, "b".

    Raises:
      DataError: no pictures of somebody who is to be compared. PromptError: a trigger that names nobody.
    """
    scales = [form.likeness]
    if form.compare == LIKENESS:
        scales = list(dict.fromkeys((0.0, 1.0, form.likeness)))
    if form.compare in (LIKENESS, PEOPLE):
        for name in NAMES[: 2 if form.compare == PEOPLE else 1]:
            if not people.get(name):
                which = {"a": "the first person", "b": "the second person"}[name]
                raise DataError(f"side by side: expected a picture of {which}, found none; give one")
    prompts = [form.prompt, form.second_prompt] if form.compare == PROMPTS else [form.prompt]
    names = NAMES if form.compare == PEOPLE else NAMES[:1]
    found = []
    for name, prompt, scale in [(name, prompt, scale) for name in names for prompt in prompts for scale in scales]:
        label = {LIKENESS: f"likeness {scale:g}", PROMPTS: prompt, PEOPLE: f"person {name.upper()}"}
        found.append(_asked(label.get(form.compare, ""), form, prompt, people.get(name, ()), scale))
    return found


def _asked(label: str, form: Form, prompt: str, pictures: Sequence[Path], scale: float) -> AskedVideo:
    prompt = with_trigger(prompt, form.class_word) if pictures else prompt
    if pictures:
        split_at_trigger(prompt)
    request = Request(prompt, tuple(pictures), form.seed, form.negative_prompt)
    return AskedVideo(label, request, {"steps": form.steps, "guidance": form.guidance, "identity_scale": scale})


def values_of_settings(settings: Mapping[str, Any], offer: Offer) -> tuple[dict[str, Any], list[str]]:
    """A form's values from the settings of a file that mmjax wrote, and what of them this server does not offer.

    Args:
      settings: as `mmjax.inspect.settings_of` has them: their types can be relied on.
    """
    shot, said = settings.get("shots", [settings])[0], []
    if "shots" in settings:
        said.append("this is a film of several shots: the form has its first one")
    letters = offer.limits.letters
    values: dict[str, Any] = {"prompt": shot["prompt"][:letters], "compare": ONE, "second_prompt": ""}
    values["negative_prompt"] = shot.get("negative_prompt", "")[:letters]
    values["seed"] = str(shot.get("seed", settings.get("seed", "")))
    sampling, size = settings.get("sampling", {}), settings.get("size", {})
    wanted = {
        "steps": (sampling.get("steps", offer.steps), Number(int, 1, offer.limits.steps), offer.steps),
        "guidance": (sampling.get("guidance", offer.guidance), Number(float, 1, 20), offer.guidance),
        "likeness": (sampling.get("identity_scale", 1.0), Number(float, 0, MAX_LIKENESS), 1.0),
    }
    for name, (value, number, usual) in wanted.items():
        values[name] = value if number.holds(value) else usual
        if values[name] is not value:
            said.append(f"{name} {value} is not offered here, {usual:g} is taken")
    frames, shape = size.get("frames", offer.frames[-1]), (size.get("height"), size.get("width"))
    values["frames"] = frames if frames in offer.frames else offer.frames[-1]
    values["size"] = size_text(shape if shape in offer.sizes else offer.sizes[0])
    if size and (frames not in offer.frames or shape not in offer.sizes):
        taken = f"{values['frames']} frames of {values['size']}"
        said.append(f"{frames} frames of {shape[0]} x {shape[1]} are not offered here, {taken} are taken")
    if count := len(settings.get("reference_hashes", [])):
        pictures = "the picture" if count == 1 else f"the {count} pictures"
        said.append(f"{pictures} of the person did not travel in the file: give them again")
    return values, said


def _text(name: str, value: Any, limits: Limits, needed: bool = False) -> str:
    if not isinstance(value, str):
        raise PromptError(f"{name}: expected text, found {type(value).__name__}")
    value = " ".join(value.split())
    if len(value) > limits.letters:
        raise PromptError(f"{name}: expected at most {limits.letters} letters, found {len(value)}; write it shorter")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise PromptError(f"{name}: expected text, found halves of letters; write it again")
    if needed and not value:
        raise PromptError(f"{name}: expected what is to be seen, found nothing; write a sentence")
    return value


def _one_of(name: str, value: Any, allowed) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int) or value not in allowed:
        found = str(value)[:40] if isinstance(value, str | int | float) else type(value).__name__
        raise ConfigError(f"{name}: expected one of {', '.join(map(str, allowed))}, found {found}")
    return value


def _whole(value: Any) -> Any:
    """A whole number that came as a float, or as text; other values as they are."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,6}", value) else value


def _seed(value: Any) -> Any:
    if isinstance(value, str):
        value = value.strip()
        return int(value) if re.fullmatch(r"[0-9]{1,20}", value) else value[:40]
    return _whole(value)
