"""What a generated file carries of its making: the settings that make it again, without a path of this machine.

    media.write_video(path, frames, fps, metadata={**tags, provenance.TAG: provenance.record_text(settings)})
    provenance.settings_in(found_tags.get(provenance.TAG))  # the settings, or None

A video is passed on, so nothing travels in it that says where somebody keeps files or how they are called: of models
and adapters the last names stay, by which they are given again; reference pictures are told by their hashes alone,
which say whether a picture at hand is the one, and nothing to who does not have it. The record beside the video, which
stays at home, has the paths.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from mmjax.config import FPS, Sampling
from mmjax.errors import ConfigError
from mmjax.training_settings import FRAMES, PIXELS
from mmjax.validation import SEED, validated_record
from mmjax.versions import versions

TAG = "mmjax"  # the tag of an mp4, or the keyword of a PNG's text, with `record_text`
_TRAVELS = ("prompt", "negative_prompt", "reference_hashes", "seed", "size", "fps", "sampling", "precision", "noise")
_NAMED = ("encoders", "source", "experiment")  # of the paths in these the last names travel
_OF_SHOT = ("start", "end", "frames", "prompt", "negative_prompt", "seed", "hash")  # not how its clip is called
_SIZE = {"frames": FRAMES, "height": PIXELS, "width": PIXELS}


def hash_of(settings: Mapping[str, Any]) -> str:
    """Of settings as plain JSON values: the same for the same video."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]


def without_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that travel in a file that is passed on; what is not known to hold no path stays behind."""
    found = {name: settings[name] for name in _TRAVELS if name in settings}
    found |= {name: _last_names(settings[name]) for name in _NAMED if name in settings}
    if "shots" in settings:
        found["shots"] = [{name: shot[name] for name in _OF_SHOT if name in shot} for shot in settings["shots"]]
    return found


def record_text(settings: Mapping[str, Any]) -> str:
    """Settings without their paths, the hash of all of them, and the versions in use, in one line of ASCII."""
    found = {"hash": hash_of(settings), "settings": without_paths(settings), "versions": versions()}
    return json.dumps(found)


def read_record(text: str | None) -> dict[str, Any]:
    """The values of `record_text`; {} where there are none. What somebody else wrote there may be anything."""
    try:
        found = json.loads(text or "")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def checked_settings(found: Any) -> dict[str, Any] | None:
    """The settings of a video where they can be some, with numbers that a video can have; None otherwise.

    They come from a file that anybody may have written: a form that is filled with them can rely on the types of
    prompt, negative_prompt, reference_hashes, seed, size, fps and sampling, where they are there. Those of a film have
    "shots", each with a prompt, in place of its own.
    """
    if not isinstance(found, dict):
        return None
    shots, hashes = found.get("shots", [found]), found.get("reference_hashes", [])
    texts = isinstance(hashes, list) and all(isinstance(each, str) for each in hashes)
    if not texts or not isinstance(shots, list) or not shots or not all(map(_is_shot, shots)):
        return None
    try:
        if "fps" in found:
            FPS.checked("fps", found["fps"])
        if "size" in found:
            for name, number in _SIZE.items():
                number.checked(name, found["size"][name])
        if "sampling" in found:
            validated_record(Sampling, found["sampling"])
    except (ConfigError, TypeError, KeyError, AttributeError):
        return None
    return found


def without_figures(shot: Any) -> Any:
    """A shot of a film's record as it stands in the settings: without what was measured of it afterwards."""
    return {name: shot[name] for name in ("clip", *_OF_SHOT) if name in shot} if isinstance(shot, dict) else shot


def _is_shot(found: Any) -> bool:
    """Whether prompts and seed, where it has one, are what a shot can have."""
    if not isinstance(found, dict) or not isinstance(found.get("prompt"), str):
        return False
    return isinstance(found.get("negative_prompt", ""), str) and ("seed" not in found or SEED.holds(found["seed"]))


def _last_names(value: Any) -> Any:
    if isinstance(value, str):
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    if isinstance(value, dict):
        return {name: _last_names(each) for name, each in value.items()}
    return [_last_names(each) for each in value] if isinstance(value, list | tuple) else value
