"""What is evaluated: videos that anybody made, the people who should be in them, and pictures of these people.

Videos are files, or folders of numbered pictures, below a folder; or one file. Who is in one and what was asked for is
said, the first that is there, by

    a manifest in the folder's place, with the columns path, person, prompt, seed
    the record beside it (VIDEO.json) that `mmjax.sample` wrote: whose picture was its reference
    the folder of a person's name in which it lies
    the beginning of its own name: anna.mp4, anna-3.mp4, anna_smiling.mp4

References are a folder for each person, or a picture named after each, or a manifest with the columns path, person,
role, class_word, prompt, seed; or one picture, of whoever is in the videos that name nobody. The role "given" is the
picture that the generator was given; "input" is one that it was given and that nothing is compared with. Class word,
prompt and seed are for making videos. NumPy is not even needed.
"""

import dataclasses
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mmjax import pictures, video
from mmjax.errors import DataError
from mmjax.user_tables import ENDINGS as TABLES
from mmjax.user_tables import Row, read_table

GIVEN, INPUT = "given", "input"
_REFERENCE_COLUMNS = ("path", "person", "role", "class_word", "prompt", "seed")
_ANIMATIONS = (".webp", ".apng")
_NUMBERED = re.compile(r"\d+$")
_PROMPT_NUMBER = re.compile(r"(?<![A-Za-z0-9])p(\d+)(?!\d)")


@dataclasses.dataclass(frozen=True)
class VideoInput:
    """A video to evaluate. `given` is the reference that its record names, as a path; None where nothing is known."""

    system: str
    path: Path
    key: str  # unique: the system and the path below its folder
    person: str | None = None
    prompt: str = ""
    seed: int | None = None
    given: str | None = None


@dataclasses.dataclass(frozen=True)
class ReferenceInput:
    """A picture of a person; `class_word` ("woman"), `prompt` and `seed` are the person's, where they are said.

    given: the generator was given it, or is to be. compared: videos are compared with it. below: the path as the
    references have it, below their folder. alone: it is all there is, and shows whoever is in a video.
    """

    person: str
    path: Path
    given: bool = False
    compared: bool = True
    class_word: str = ""
    prompt: str = ""
    seed: int | None = None
    below: Path = Path()
    alone: bool = False


def list_references(source: str | os.PathLike) -> list[ReferenceInput]:
    """Pictures of people, by person in the order of names.

    Raises `DataError` for a folder without pictures, or a manifest that cannot be read or names nobody.
    """
    source = Path(source)
    if source.suffix.lower() in TABLES:
        return _listed_references(source)
    if _is_picture(source):
        return [ReferenceInput(source.stem, source, below=Path(source.name), alone=True)]
    if not source.is_dir():
        raise DataError(
            f"references {source}: expected a folder with one folder of pictures a person, a manifest with the "
            f"columns path, person, or one picture; found {'another kind of file' if source.exists() else 'none'}"
        )
    found = []
    for entry in sorted(source.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            inside = sorted(each for each in entry.rglob("*") if _is_picture(each))
            found += [ReferenceInput(entry.name, each, below=each.relative_to(source)) for each in inside]
        elif _is_picture(entry):
            found.append(ReferenceInput(entry.stem, entry, below=Path(entry.name)))
    if not found:
        raise DataError(f"references {source}: expected pictures, in a folder of each person's name; found none")
    return found


def list_videos(
    systems: Mapping[str, str | os.PathLike],
    people: Iterable[str] = (),
    prompts: str | os.PathLike | None = None,
    references: Sequence[ReferenceInput] = (),
) -> list[VideoInput]:
    """The videos of all systems, in the order of systems and names.

    Args:
      systems: a folder of videos, one video, or a manifest, by the name of who made them.
      people: known by their references; folders and file names are compared with them.
      references: by which the record beside a video says whom it shows.
      prompts: a manifest with the columns path, prompt: path is a video's, below its folder, or only its name.

    Raises `DataError` for a system without videos, two of one key, or a manifest that cannot be read.
    """
    people, found = sorted(people, key=len, reverse=True), []
    for system, source in systems.items():
        source = Path(source)
        is_table = source.suffix.lower() in TABLES
        listed = _listed_videos(system, source) if is_table else _found_videos(system, source, people)
        if not listed:
            raise DataError(f"videos {source}: expected videos ({' '.join(video.ENDINGS[:8])} ...), found none")
        found += [_recognised(each, references) for each in listed]
    keys = [each.key for each in found]
    if doubled := next((key for key in keys if keys.count(key) > 1), None):
        raise DataError(f"videos: expected each once, found {doubled} twice")
    return _with_prompts(found, prompts) if prompts else found


def given_picture(each: VideoInput, pictures_of: Sequence[Path]) -> int | None:
    """Which of a person's pictures the generator was given, as its record says; None where that is not known."""
    if each.given is None:
        return None
    wanted = Path(each.given).resolve()
    return next((number for number, path in enumerate(pictures_of) if path.resolve() == wanted), None)


def _recognised(each: VideoInput, references: Sequence[ReferenceInput]) -> VideoInput:
    """With the reference that its record names and the person whose picture that is, where they are found."""
    named = _named_reference(each, references) if each.given is not None else None
    if named is not None:
        return dataclasses.replace(each, person=named.person, given=os.fspath(named.path))
    if each.person is None and len(references) == 1 and references[0].alone:
        return dataclasses.replace(each, person=references[0].person)
    return each


def _named_reference(each: VideoInput, references: Sequence[ReferenceInput]) -> ReferenceInput | None:
    """The reference of the record's path; of its end, where the folder of references was elsewhere; or the only one of
    its name, if that is a picture of whom the folder says."""
    given = Path(each.given)
    if same := [reference for reference in references if reference.path.resolve() == given.resolve()]:
        return next((reference for reference in same if reference.person == each.person), same[0])
    ends = [reference for reference in references if _ends_with(given, reference.below)]
    if longest := max((len(reference.below.parts) for reference in ends), default=0):
        ends = [reference for reference in ends if len(reference.below.parts) == longest]
    if longest > 1 and len(ends) == 1:
        return ends[0]
    named = [reference for reference in references if reference.path.name == given.name]
    is_whole = bool(named) and len(named[0].below.parts) == 1  # a picture named after its person
    if len(named) == 1 and (named[0].person == each.person or (is_whole and each.person is None)):
        return named[0]
    return None


def _ends_with(path: Path, end: Path) -> bool:
    return bool(end.parts) and path.parts[-len(end.parts) :] == end.parts


def _listed_references(source: Path) -> list[ReferenceInput]:
    found = []
    for where, row in read_table(source, _REFERENCE_COLUMNS, "references"):
        if row["person"] is None:
            raise DataError(f"{where}: expected a person beside the path, found none")
        role = row["role"] or "reference"
        if role not in (GIVEN, INPUT, "reference"):
            raise DataError(f"{where}: expected a role of {GIVEN}, {INPUT} or reference, found {role!r}")
        words = row["class_word"] or "", row["prompt"] or "", _seed(row, where)
        found.append(
            ReferenceInput(
                row["person"],
                source.parent / row["path"],
                role in (GIVEN, INPUT),
                role != INPUT,
                *words,
                below=Path(*(part for part in Path(row["path"]).parts if part not in (".", "..", "/"))),
            )
        )
    if not found:
        raise DataError(f"references {source}: expected a line for each picture, found none")
    return sorted(found, key=lambda each: each.person)


def _listed_videos(system: str, source: Path) -> list[VideoInput]:
    found = []
    for where, row in read_table(source, ("path", "person", "prompt", "seed"), "videos"):
        path, words = source.parent / row["path"], row["prompt"] or ""
        found.append(VideoInput(system, path, f"{system}/{row['path']}", row["person"], words, _seed(row, where)))
    return found


def _seed(row: Row, where: str) -> int | None:
    if row["seed"] is not None and not row["seed"].isdigit():
        raise DataError(f"{where}: expected a whole number as seed, found {row['seed']!r}")
    return None if row["seed"] is None else int(row["seed"])


def _found_videos(system: str, root: Path, people: Sequence[str]) -> list[VideoInput]:
    if root.is_file() and is_video(root):
        person = _person_of(root, root, people)
        return [_with_record(VideoInput(system, root, f"{system}/{root.name}", person))]
    if not root.is_dir():
        raise DataError(
            f"videos {root}: expected a folder of videos, a video ({' '.join(video.ENDINGS[:8])} ...), or a manifest "
            f"with the columns path, person, prompt, seed; found {'another kind of file' if root.exists() else 'none'}"
        )
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
        videos = [path for path in here if is_video(path)]
        if not videos and not folders and is_frame_folder(here):
            videos = [Path(folder)]
        for path in videos:
            key = f"{system}/{path.relative_to(root).as_posix() if path != root else root.name}"
            found.append(_with_record(VideoInput(system, path, key, _person_of(path, root, people))))
    return found


def is_video(path: Path) -> bool:
    """Whether a file is taken for a video, by its name; animated WebP and PNG among them."""
    return path.suffix.lower() in (*video.ENDINGS, *_ANIMATIONS)


def is_frame_folder(files: Sequence[Path]) -> bool:
    """Whether these are numbered frames of one video: pictures alone, two or more, their names ending in a number."""
    shown = [path for path in files if _is_picture(path)]
    return len(shown) > 1 and len(shown) == len(files) and all(_NUMBERED.search(path.stem) for path in shown)


def _with_record(each: VideoInput) -> VideoInput:
    """What `mmjax.sample` wrote beside the video, where it did."""
    try:
        record = json.loads(each.path.with_suffix(".json").read_text())
        references, seed = record.get("references") or [None], record.get("seed")
        prompt = record.get("prompt")
    except (OSError, ValueError, AttributeError):
        return each
    return dataclasses.replace(
        each,
        prompt=prompt if isinstance(prompt, str) else "",
        seed=seed if isinstance(seed, int) else None,
        given=references[0] if isinstance(references, list) and isinstance(references[0], str) else None,
    )


def _person_of(path: Path, root: Path, people: Sequence[str]) -> str | None:
    """Whose folder it lies in, or whose name its own begins with; of several people the longest name."""
    parts = path.relative_to(root).parts if path != root else ()
    if len(parts) > 1 and parts[0] in people:
        return parts[0]
    stem = path.stem if is_video(path) else path.name
    return next((name for name in people if _begins_with(stem, name)), None)


def _begins_with(stem: str, name: str) -> bool:
    return stem == name or (stem.startswith(name) and not stem[len(name)].isalnum())


def manifest_prompts(source: str | os.PathLike) -> list[str]:
    """The prompts of a manifest with the columns path, prompt, each once. Raises `DataError` for one that says none."""
    found = dict.fromkeys(row["prompt"] for _, row in read_table(source, ("path", "prompt"), "prompts"))
    if not (prompts := [prompt for prompt in found if prompt]):
        raise DataError(f"prompts {source}: expected a prompt or more in the column prompt, found none")
    return prompts


def prompts_of_made(found: Sequence[VideoInput], made: Sequence[VideoInput]) -> list[VideoInput]:
    """Videos with the prompts for which others were made of the same people, where theirs is not known.

    A person's is the one that it was made with; of several the one of the number in the name (p003, as the names of
    those that were made have it). A video of nobody known has the one that all were made with.
    """
    return [each if each.prompt else dataclasses.replace(each, prompt=_asked(each, made)) for each in found]


def _asked(each: VideoInput, made: Sequence[VideoInput]) -> str:
    own = [other for other in made if other.person == each.person] if each.person else made
    if len(prompts := {other.prompt for other in own}) > 1 and each.person:
        number = _PROMPT_NUMBER.search(each.path.stem)
        same = [_PROMPT_NUMBER.search(other.path.stem) for other in own]
        prompts = {
            other.prompt
            for other, its in zip(own, same, strict=True)
            if number and its and int(number.group(1)) == int(its.group(1))
        }
    return prompts.pop() if len(prompts) == 1 else ""


def _with_prompts(found: Sequence[VideoInput], source: str | os.PathLike) -> list[VideoInput]:
    rows = [row for _, row in read_table(source, ("path", "prompt"), "prompts")]
    by_path = {row["path"]: row["prompt"] or "" for row in rows}
    taken = []
    for each in found:
        below = each.key.partition("/")[2]
        names = (each.key, below, each.path.name, Path(below).with_suffix("").as_posix(), each.path.stem)
        prompt = next((by_path[name] for name in names if name in by_path), each.prompt)
        taken.append(dataclasses.replace(each, prompt=prompt))
    return taken


def _is_picture(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in pictures.ENDINGS and not path.name.startswith(".")
