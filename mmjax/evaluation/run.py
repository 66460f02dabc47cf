"""An evaluation from videos and references to results: look at everything once, score, put together.

What was seen is kept in OUTPUT/seen as it comes, so that a run that is stopped, by whatever, goes on with the same
command and ends in the same results, bit for bit.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmjax import files, outputs
from mmjax.encoders import fingerprints
from mmjax.errors import ConfigError
from mmjax.evaluation import inputs, statistics, tools
from mmjax.evaluation.looking import VERSION
from mmjax.evaluation.metrics.interface import (
    EMBEDDER,
    FACES,
    NEEDS,
    OTHERS,
    PIXELS,
    REFERENCES,
    TEXT,
    Metric,
    Score,
    VideoToScore,
    described,
    not_computed,
    scored,
)
from mmjax.evaluation.observation import Subject
from mmjax.evaluation.plan import Plan
from mmjax.evaluation.plugins import fingerprint_plugin
from mmjax.evaluation.store import Kept, Store, plain, score_row
from mmjax.evaluation.subjects import ReferenceSet, make_people, strangers_among
from mmjax.evaluation.success_rates import success_rates
from mmjax.evaluation.workers import Failed, Workers
from mmjax.versions import versions

SCHEMA = 1
NOTICE = f"{outputs.MARK}.evaluate"


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
    """All that was looked at: people by name, each video with what was kept of it, the embedders' fingerprints."""

    people: Mapping[str, ReferenceSet]
    videos: Sequence[tuple[inputs.VideoInput, Kept]]
    embedders: Mapping[str, str]


def look_at_all(
    plan: Plan,
    videos: Sequence[inputs.VideoInput],
    references: Sequence[inputs.ReferenceInput],
    seen: Path,
    workers: int,
    seconds: float,
    fed_otherwise: Collection[str] = (),
) -> Seen:
    """Looks at every picture and video that was not looked at before.

    Args:
      seen: folder that keeps what was seen.
      seconds: that one of them may take.
      fed_otherwise: people of whom the generator was given another picture than these.

    Raises `MMJaxError` where detector or embedders cannot be opened; nothing that is wrong with a file.
    """
    settings = plan.tool_settings()
    embedders, detector = tools.fingerprints(settings)
    made_with = {"looking": VERSION, "embedders": embedders, **detector, "points": plan.points}
    pictures_store = Store(seen, made_with)
    choose = [list(map(int, plan.choose(total))) for total in (1, 2, 16, 49, 100)]
    measured = [described(metric) for metric in settings.metrics()]
    made_with |= {"frames": choose, "metrics": measured, "plugins": [fingerprint_plugin(each) for each in plan.plugins]}
    videos_store = Store(seen, made_with)
    with Workers(workers, tools.open_tools, settings, tools.look, seconds) as pool:
        tasks = [(tools.LookAt(each.path, False), _key(pictures_store, each.path)) for each in references]
        kept = list(_looked("references", pool, pictures_store, tasks))
        people = make_people(references, kept, bool(plan.face_models), fed_otherwise)
        keys = {os.fspath(task.path): key for task, key in tasks}
        tasks = [_video_task(each, people, videos_store, keys) for each in videos]
        found = list(_looked("videos", pool, videos_store, tasks))
    return Seen(people, list(zip(videos, found, strict=True)), embedders)


def put_together(plan: Plan, seen: Seen, command: str, settings: Mapping[str, Any]) -> dict:
    """`results.json`: scores of every video, figures of every system; plain JSON values, see `SCHEMA` in METHOD 6."""
    people = {name: person.subject for name, person in seen.people.items() if person.subject is not None}
    embedders = seen.embedders
    rows = [_video_row(plan, each, kept, people, seen.people) for each, kept in seen.videos]
    doubts = strangers_among(seen.people, next(iter(embedders))) if embedders else {}
    results = {
        "notice": NOTICE,
        "schema": SCHEMA,
        "command": command,
        "settings": dict(settings),
        "versions": versions(),
        "protocol": dict(plan.protocol),
        "embedders": [_embedder_row(name, made, plan.conditioning) for name, made in embedders.items()],
        "warnings": list(_doubts_line(doubts)),
        "metrics": [
            {"name": each.name, "title": each.title, "better": each.better, "version": each.version}
            for each in plan.metrics
        ],
        "people": [_person_row(name, person, doubts.get(name, ())) for name, person in seen.people.items()],
        "videos": rows,
        "figures": statistics.figures(rows, plan.metrics),
        "differences": statistics.differences(rows, plan.metrics),
        "distributions": {name: _distribution(rows, name) for name in embedders},
    }
    known = {metric.name for metric in plan.metrics}
    thresholds = [each for each in plan.thresholds if each.metric in known]
    if thresholds and rows:
        results["success_rates"] = success_rates(results, thresholds)
    return plain(results)


def _video_task(
    each: inputs.VideoInput, people: Mapping[str, ReferenceSet], store: Store, keys: Mapping[str, str | None]
):
    """The task and its key, which changes with the person's pictures and with the prompt."""
    subject, known = _subject_of(each, people), ""
    if subject is not None:
        known = json.dumps([keys[path] for path in subject.pictures] + [subject.given])
    return tools.LookAt(each.path, True, subject, each.prompt), _key(store, each.path, known, each.prompt)


def _subject_of(each: inputs.VideoInput, people: Mapping[str, ReferenceSet]) -> Subject | None:
    """Who should be in a video, with the picture that it was made from where its record names it."""
    person = people.get(each.person or "")
    if person is None or person.subject is None:
        return None
    given = inputs.given_picture(each, person.paths)
    return person.subject if given is None else dataclasses.replace(person.subject, given=given)


def _key(store: Store, path: Path, *more: str) -> str | None:
    with contextlib.suppress(OSError):
        return store.key(path, *more)
    return None  # it cannot be read, which looking at it says in words


def _looked(what: str, pool: Workers, store: Store, tasks: Sequence[tuple[tools.LookAt, str | None]]) -> Iterator[Kept]:
    """What is kept of each task, in their order; missing ones are looked at first, with progress and time left."""
    from tqdm import tqdm

    kept: dict[int, Kept] = {}
    for number, (_, key) in enumerate(tasks):
        found = store.read(key) if key else None
        if found is not None:
            kept[number] = found
    missing = [number for number in range(len(tasks)) if number not in kept]
    with tqdm(total=len(tasks), initial=len(kept), desc=what, unit="file", disable=not missing) as bar:
        for place, found in pool.run([tasks[number][0] for number in missing]):
            number = missing[place]
            if isinstance(found, Failed):
                found = Kept(None, problem=found.why)
            elif tasks[number][1]:
                store.write(tasks[number][1], found)
            kept[number] = found
            bar.update()
    yield from (kept[number] for number in range(len(tasks)))


def _video_row(
    plan: Plan, each: inputs.VideoInput, kept: Kept, people, reference_sets: Mapping[str, ReferenceSet]
) -> dict:
    seen = kept.observation
    head = {"key": each.key, "system": each.system, "file": os.fspath(each.path), "person": each.person}
    head |= {"prompt": each.prompt, "seed": each.seed, "problem": kept.problem}
    if seen is None:
        nothing = not_computed(f"the video: {kept.problem}")
        measures = {"frames": 0, "looked": 0, "seconds": [], "height": 0, "width": 0}
        counts = {"faces_found": 0, "several_faces": 0}
        return head | measures | counts | {"scores": {m.name: score_row(nothing) for m in plan.metrics}}
    case = VideoToScore(seen, _subject_of(each, reference_sets), people, each.prompt)
    scores: dict[str, Score] = {}
    for metric in plan.metrics:  # a total behind its parts
        scores[metric.name] = _score(metric, dataclasses.replace(case, scores=scores), kept, plan, each.person)
    measures = {"frames": seen.total, "looked": len(seen.seconds), "seconds": seen.seconds}
    counts = {"faces_found": int(seen.faces.found.sum()), "several_faces": int((seen.faces.counts > 1).sum())}
    rows = {name: score_row(found) for name, found in scores.items()}
    return head | measures | {"height": seen.size[0], "width": seen.size[1]} | counts | {"scores": rows}


def _score(metric: Metric, case: VideoToScore, kept: Kept, plan: Plan, person: str | None) -> Score:
    missing = {
        FACES: not plan.face_models,
        EMBEDDER: not plan.embedders,
        REFERENCES: not case.people,
        OTHERS: len(case.people) < 2,
        TEXT: not case.prompt,
    }
    for need in (FACES, EMBEDDER, REFERENCES, OTHERS, TEXT):
        if need in metric.needs and missing[need]:
            return not_computed(f"it needs {NEEDS[need]}")
    if REFERENCES in metric.needs and person and case.subject is None:
        return not_computed(f"no picture of {person} was given that can be read (--references)")
    return kept.scores[metric.name] if PIXELS in metric.needs else scored(metric, case)


def _embedder_row(name: str, fingerprint: str, conditioning: Sequence[str]) -> dict:
    part = fingerprints.part_in_training(fingerprint, conditioning)
    return {"name": name, "fingerprint": fingerprint, "independent": not part if conditioning else None, "note": part}


def _doubts_line(doubts: Mapping[str, Sequence[str]]) -> Iterator[str]:
    if doubts:
        yield f"references of {len(doubts)} people are doubtful, first: {next(iter(doubts.values()))[0]}"


def _person_row(name: str, person: ReferenceSet, doubts: Sequence[str]) -> dict:
    subject, problem = person.subject, "; ".join([*person.problems, *doubts])
    if subject is None:
        return {"name": name, "pictures": [], "faces": 0, "given": None, "problem": problem}
    faces = int(subject.faces.found.sum())
    return {
        "name": name,
        "pictures": list(subject.pictures),
        "faces": faces,
        "given": subject.given,
        "problem": problem,
    }


def _distribution(rows: Sequence[Mapping], embedder: str) -> dict:
    """Cosines of videos to their own person and to others, of all systems together."""
    scores = [row["scores"].get(f"auc/{embedder}", {}) for row in rows]
    scores = [score for score in scores if score.get("value") is not None]
    others = [other for score in scores for other in score["details"]["others"]]
    return {"own": [round(score["value"], 6) for score in scores], "impostor": others}


def pictures_of(seen: Seen) -> dict:
    """Small pictures for the page: strips of videos by key, references by person."""
    strips = {each.key: list(kept.observation.strip) for each, kept in seen.videos if kept.observation is not None}
    return {
        "strips": strips,
        "references": {name: list(each.subject.thumbnails) for name, each in seen.people.items() if each.subject},
    }


def write(results: Mapping, seen: Seen, output: Path) -> None:
    """`results.json`, tables and the page, each whole or not at all."""
    from mmjax.evaluation.page.report import write_page
    from mmjax.evaluation.tables import write_tables

    files.write_json(output / "results.json", results, indent=1)
    write_tables(output, results)
    write_page(output, results, pictures_of(seen))


def check_systems(systems: Sequence[str]) -> None:
    """Raises `ConfigError` for names of systems that would not do as columns, or that two of them have."""
    for name in systems:
        if systems.count(name) > 1:
            raise ConfigError(f"--name {name}: expected another name than the --videos have, found it twice")
        if not name.strip() or "/" in name:
            raise ConfigError(f'--videos {name}=...: expected a name without "/", found {name!r}')
