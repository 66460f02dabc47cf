"""The file of a story: what each shot shows, and what all of them have in common.

Plain lines are the simple case, one prompt a line; empty lines and lines that begin with # are left out:

    A woman img in a red coat walks along a beach
    A woman img in a red coat reads in a train

A file whose name ends in .toml has a head that all shots share, and a block for each shot. A shot needs a prompt alone:

    class_word = "woman"                # takes the place of {class_word} in prompts
    clothes = "in a red coat"           # goes right behind the trigger img
    style = "35 mm film, soft light"    # goes to the end of the prompt, behind a comma
    negative_prompt = "blurry"
    seconds = 6                         # or frames = 49
    seed = 7                            # of the first shot; each further one has the next

    [[shot]]
    prompt = "A {class_word} img walks along a beach."

    [[shot]]
    prompt = "A {class_word} img reads in a train"
    seconds = 3
    seed = 20

The first prompt becomes "A woman img in a red coat walks along a beach, 35 mm film, soft light". What a shot says goes
before what the head says, and that before the flags of the command. `frames` must be on the model's grid, 8k + 1;
`seconds` are brought to the nearest length on it. A shot that has a seed of its own keeps it wherever it stands.
"""

import dataclasses
import difflib
import os
import re
import tomllib
from collections.abc import Sequence

from mmjax.config import FRAMES
from mmjax.encoders.prompts import CLASS_WORDS, TRIGGER, split_at_trigger
from mmjax.errors import DataError, PromptError
from mmjax.model_settings import FRAME_GROUP
from mmjax.sampling.people import PLACE
from mmjax.texts import read_text
from mmjax.validation import SEED, Number, off_grid

_NUMBERS = {"seconds": Number(float, 0, 86_400, above=True), "frames": FRAMES, "seed": SEED}
_OF_BOTH = ("negative_prompt", *_NUMBERS)  # what head and shots may have
_HEAD = ("class_word", "clothes", "style", *_OF_BOTH, "shot")
_SHOT = ("prompt", *_OF_BOTH)
_PLACES = re.compile(r"\{[^{}]*\}")
_HOLDS = "a text file, one prompt a line, or a .toml with [[shot]] blocks"


@dataclasses.dataclass(frozen=True)
class Shot:
    """A shot of a film; what is None is left to whoever makes the film.

    prompt: as the model reads it. seconds, frames: how long it is, one of them. where: what messages call the shot.
    """

    prompt: str
    negative_prompt: str | None = None
    seed: int | None = None
    seconds: float | None = None
    frames: int | None = None
    where: str = ""


def read_shots(path: str | os.PathLike) -> list[Shot]:
    """The shots of a file, plain lines or TOML; see the module's docstring.

    Raises:
      DataError: no text, no shot, or a field that cannot be; names the file, the shot and the field.
    """
    name = os.fspath(path)
    text = read_text(path, f"--shots {name}", _HOLDS)
    shots = _of_toml(text, name) if name.lower().endswith(".toml") else _of_lines(text, name)
    if not shots:
        raise DataError(f"--shots {name}: expected a shot or more, found none; write {_HOLDS}")
    return shots


def frames_of(shot: Shot, fps: float, longest: int, otherwise: int) -> int:
    """How many frames a shot has at `fps` frames a second.

    Args:
      longest: frames of the longest clips that the model was trained on.
      otherwise: frames of a shot that does not say how long it is.

    Raises:
      DataError: a shot that is longer than that, or frames off the grid; with the nearest that can be had.
    """
    if shot.seconds is not None:
        field, value, asked = "seconds", shot.seconds, shot.seconds * fps
        asked = longest if longest < asked <= longest + 0.5 else asked  # 6.13 s are the 49 frames of 6.125 s
        frames = max(1, FRAME_GROUP * round((asked - 1) / FRAME_GROUP) + 1)
    else:
        field, value = "frames", otherwise if shot.frames is None else shot.frames
        frames = asked = value
    if asked > longest:
        raise DataError(
            f"{shot.where}, {field} = {value:g}: expected at most {_length(longest, fps)}, the longest that the model "
            "was trained on; make it shorter, or two shots of it"
        )
    if near := off_grid(frames, FRAME_GROUP, 1):
        lengths = " or ".join(_length(int(each), fps) for each in near.split(" or "))
        raise DataError(f"{shot.where}, frames = {frames}: expected 8k + 1, nearest {lengths}")
    return min(frames, longest)


def _length(frames: int, fps: float) -> str:
    return f"{count_text(frames)} ({frames / fps:g} s at {fps:g} a second)"


def count_text(frames: int) -> str:
    """A number of frames in words."""
    return "1 frame" if frames == 1 else f"{frames} frames"


def _of_lines(text: str, name: str) -> list[Shot]:
    lines = [(number, " ".join(line.split())) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if blocks := [number for number, line in lines if line.replace(" ", "") == "[[shot]]"]:
        raise DataError(
            f"--shots {name}, line {blocks[0]}: found [[shot]], which is TOML; give the file a name in .toml"
        )
    return [
        Shot(line, where=f"--shots {name}, shot {count} (line {number})")
        for count, (number, line) in enumerate(lines, 1)
    ]


def _of_toml(text: str, name: str) -> list[Shot]:
    try:
        head = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"--shots {name}: expected TOML, found what is none: {' '.join(str(error).split())}") from error
    where = f"--shots {name}"
    blocks = head.get("shot", [])
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise DataError(f"{where}, shot: expected blocks that begin with [[shot]], two brackets, found another thing")
    head = _checked({key: value for key, value in head.items() if key != "shot"}, _HEAD, where)
    word = head.get("class_word", "")
    if word and word.lower() not in CLASS_WORDS:
        raise DataError(f'{where}, class_word = "{word}": expected one of {", ".join(CLASS_WORDS)}')
    if places := [key for key in ("clothes", "style") if _PLACES.search(head.get(key, ""))]:
        raise DataError(f"{where}, {places[0]}: expected no word in braces, which only prompts have")
    return [_shot(block, head, number, f"{where}, shot {number + 1}") for number, block in enumerate(blocks)]


def _shot(block: dict, head: dict, number: int, where: str) -> Shot:
    own = _checked(block, _SHOT, where)
    if not own.get("prompt"):
        raise DataError(f"{where}, prompt: expected text, found none")
    prompt = _whole_prompt(own["prompt"], head, where)
    length = own if own.keys() & {"seconds", "frames"} else head
    seed = own.get("seed", head["seed"] + number if "seed" in head else None)
    negative = own.get("negative_prompt", head.get("negative_prompt"))
    return Shot(prompt, negative, seed, length.get("seconds"), length.get("frames"), where)


def _whole_prompt(prompt: str, head: dict, where: str) -> str:
    """A shot's prompt with the head's parts in their places."""
    if unknown := [place for place in _PLACES.findall(prompt) if place != PLACE]:
        raise DataError(f"{where}, prompt: expected {PLACE} as the only word in braces, found {unknown[0]}")
    if PLACE in prompt and not head.get("class_word"):
        raise DataError(f'{where}, prompt: found {PLACE}, and no class_word = "woman" in the head; write one of them')
    prompt = prompt.replace(PLACE, head.get("class_word", ""))
    if clothes := head.get("clothes"):
        try:
            before, after = split_at_trigger(prompt)
        except PromptError as error:
            raise DataError(f"{where}, prompt: the head's clothes stand behind the trigger; {error}") from error
        prompt = f"{before} {TRIGGER} {clothes}{'' if after[:1] in (*',.;:!?', '') else ' '}{after}"
    if style := head.get("style"):
        prompt = f"{prompt.rstrip(' .,')}, {style}"
    return prompt


def _checked(fields: dict, known: Sequence[str], where: str) -> dict:
    """Fields of their kinds, text with single blanks. Raises `DataError`."""
    if unknown := [key for key in fields if key not in known]:
        raise DataError(f"{where}, {unknown[0]!r}: {_advice(unknown[0], known)}")
    if {"seconds", "frames"} <= fields.keys():
        raise DataError(f"{where}: expected seconds or frames, found both; leave one out")
    return {key: _value(key, value, where) for key, value in fields.items()}


def _value(key: str, value, where: str):
    wanted = _NUMBERS.get(key)
    found = repr(value)[:60]
    if wanted is not None:
        if not wanted.holds(value):
            raise DataError(f"{where}, {key} = {found}: expected {wanted}")
        return wanted.kind(value)
    if not isinstance(value, str) or "\0" in value:
        raise DataError(f"{where}, {key} = {found}: expected text in quotes")
    return " ".join(value.split())


def _advice(key: str, known: Sequence[str]) -> str:
    if key in ("height", "width", "size", "fps"):
        return "all shots of a film have one picture size and one pace: give --height, --width and --fps"
    if key in _HEAD:
        return "it belongs into the head, above the first [[shot]]"
    if key in _SHOT:
        return "it belongs into a block that begins with [[shot]]"
    near = difflib.get_close_matches(key, known, 1)
    return f"expected {', '.join(known)}" + (f"; did you mean {near[0]}?" if near else "")
