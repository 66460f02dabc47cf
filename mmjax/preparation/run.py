"""The whole preparation: list, analyse, pair, encode, report. Stopped at any moment, it goes on where it was.

    from mmjax.preparation.run import prepare
    report = prepare(config, "records", inputs=["photos", "clips"], settings=Settings(class_word="person"))

Two questions are asked of the input as a whole, between the parts that are spread over processes: which pictures are
copies of each other, and who is whose reference. Every process works that out for itself from all findings, and all
come to the same.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import logging
from tqdm import tqdm

from mmjax.config import Experiment
from mmjax.encoders.build import make_autoencoder, make_face_encoder, make_text_encoder, with_face_models
from mmjax.encoders.photographs import RecogniserEncoder
from mmjax.errors import ConfigError, DataError
from mmjax.faces.packs import find_pack
from mmjax.files import remove_partial, write_json
from mmjax.preparation.analysis.chunks import (
    Chunk,
    ChunkFindings,
    StoredStills,
    divide,
    read_findings,
    still_name,
    write_findings,
)
from mmjax.preparation.analysis.embedding import with_embeddings
from mmjax.preparation.analysis.item import AnalysisSpec, analyse, start
from mmjax.preparation.captions import Captioner, check_captions, load_captioner
from mmjax.preparation.inputs.kinds import Ignored
from mmjax.preparation.inputs.listing import list_items, listing_digest
from mmjax.preparation.items import Dropped, Finding, Item, Sample, Still
from mmjax.preparation.pairing.pairs import Pair, choose_pairs
from mmjax.preparation.pairing.splits import assign_splits
from mmjax.preparation.processes.gpus import take_gpu
from mmjax.preparation.processes.pool import WorkerPool
from mmjax.preparation.processes.waiting import Patience, command_line, wait_for
from mmjax.preparation.processes.work import Work
from mmjax.preparation.reasons import Rejected
from mmjax.preparation.report.summary import Summary, merge, report_of, write_report
from mmjax.preparation.settings import Settings
from mmjax.preparation.writing.encoding import RecordMaker, with_portraits
from mmjax.preparation.writing.pixels import animation_fingerprint, read_sample, start_reading
from mmjax.preparation.writing.shard_contents import (
    ANIMATED,
    Shard,
    animated_pairs,
    divide_into_shards,
    frames_by_dataset,
    pairs_by_dataset,
)
from mmjax.preparation.writing.shards import finish_dataset, shard_path, write_shard
from mmjax.records.empty_prompt import encode_unconditional_text
from mmjax.records.making import EncoderSet
from mmjax.records.schema import SPLITS, describe, record_bytes, record_fields
from mmjax.versions import versions

_CLIPS_AHEAD = 2  # for each worker; 49 frames of 480 x 720 are 50 MB
DEFAULTS = Settings()


def prepare(
    config: Experiment,
    output: str | os.PathLike,
    inputs: Sequence[str] = (),
    *,
    settings: Settings = DEFAULTS,
    manifest: str = "",
    dataset: str = "",
    references: Sequence[str] = (),
    workers: int | None = None,
    process: int = 0,
    processes: int = 1,
    text_cache: str | None = None,
) -> dict:
    """Makes records of photos and clips, for `config.data.sources = (OUTPUT/images, OUTPUT/clips)`.

    With `settings.animated_clips` there is OUTPUT/animated as well: clips that are drawn from the photos.

    Args:
      config: its `data` says the records' size, frames and references, its encoders what they hold.
      output: takes `images/`, `clips/`, `animated/`, `report.json`, `report.html` and `work/`. Where an earlier run
        was stopped, this one goes on.
      inputs, manifest, dataset, references: see `mmjax.preparation.inputs.listing.list_items`.
      workers: processes that decode and analyse items; by default one a core.
      process, processes: this one's number, of how many that share the output; on one machine, or on several with a
        shared disk. Among several each takes one GPU of its machine (`mmjax.preparation.processes.gpus`).
      text_cache: folder in which captions' embeddings are kept.

    Returns:
      what `report.json` says; of a process other than the first, an empty dictionary.

    Raises:
      ConfigError: settings that cannot work, or another preparation in that folder.
      DataError: no input, nothing of it was kept (the report says why), or another process that ended too early.
      CheckpointError: weights or face models that are not there.
    """
    config, work = with_face_models(config.validated()), Work(Path(output), process, processes)
    work.check_own()
    take_gpu(process, processes)
    # first, so that a wrong path is reported before models are loaded
    items, unlisted, ignored = list_items(inputs, manifest, dataset, references)
    with work.alone(), explained_disk(work.output):
        job = _job(config, work, settings, workers, text_cache)
        _begin(job, items)
        found = _analyse(job, divide(items, settings))
        pairs = _pair(job, found)
        shards = _divide(job, pairs, items)
        _write(job, shards, items, found.stored)
        return _finish(job, shards, pairs, found, unlisted, ignored) if process == 0 else {}


@contextlib.contextmanager
def explained_disk(output: Path) -> Iterator[None]:
    """Turns an error of the disk into a `DataError`: the file, what is free, what is kept and how to go on."""
    try:
        yield
    except OSError as error:
        free = f"{shutil.disk_usage(output).free / 2**20:.0f} MiB are free there" if output.is_dir() else "it is gone"
        raise DataError(
            f"{output}: {error.filename or 'a file'} could not be written or read: {error.strerror or error} ({free}). "
            f"What was done before is kept; mend that, and the same command goes on: {command_line()}"
        ) from error


@dataclasses.dataclass(frozen=True, eq=False)
class _Job:
    """What all steps of a preparation work with. `frames` are those of the records of each data set."""

    config: Experiment
    settings: Settings
    work: Work
    frames: dict[str, int]
    encoders: EncoderSet
    captioner: Captioner | None
    workers: int

    def progress(self, what: str, total: int, unit: str) -> tqdm:
        place = f" {self.work.process + 1}/{self.work.processes}" if self.work.processes > 1 else ""
        return tqdm(total=total, desc=what + place, unit=unit, smoothing=0.05, mininterval=1)

    def wait_for(self, paths: Sequence[Path], what: str) -> None:
        wait_for(self.work, paths, what, Patience(at_work=3600 * self.settings.wait_hours))

    def description(self, dataset: str) -> dict:
        return describe(self.config, self.frames[dataset], self.encoders.fingerprints)

    def findings_path(self, chunk: Chunk) -> Path:
        return self.work.chunk_path(chunk.kind, chunk.number)

    def done_path(self, shard: Shard) -> Path:
        """The file that says that a shard is written."""
        return self.work.shard_path(shard.dataset, shard.split, shard.number)


@dataclasses.dataclass(eq=False)
class _Found:
    """All samples and stills of the input; crops of stills are on disk. The summary grows in later steps."""

    samples: list[Sample]
    stills: list[Still]
    stored: StoredStills
    summary: Summary
    seconds: float


def _job(config: Experiment, work: Work, settings: Settings, workers: int | None, text_cache: str | None) -> _Job:
    frames = frames_by_dataset(config, settings)
    check_captions(settings)
    return _Job(
        config,
        settings,
        work,
        frames,
        captioner=load_captioner(settings.captioner) if settings.captioner else None,
        encoders=_encoders(config, text_cache),
        workers=os.cpu_count() or 1 if workers is None else workers,
    )


def _encoders(config: Experiment, text_cache: str | None) -> EncoderSet:
    face = make_face_encoder(config)
    if not isinstance(face, RecogniserEncoder):
        raise ConfigError(
            f"encoders.face = {config.encoders.face}: expected arcface, arcface_vae or photomaker to prepare photos "
            "and clips, whose faces have to be recognised"
        )
    return EncoderSet(make_text_encoder(config, cache=text_cache), face, make_autoencoder(config))


def _begin(job: _Job, items: Sequence[Item]) -> None:
    """Makes sure that there are captions, and that an earlier run in this folder meant the same."""
    settings = job.settings
    if not (settings.captioner or settings.caption_template or any(item.caption for item in items)):
        raise ConfigError(
            f"none of {len(items)} photos and videos has a caption: expected a text file of the same name beside "
            'each, a --manifest, or for all --settings.caption_template="A {class_word} img looks at the camera" '
            "with --settings.class_word=person"
        )
    plan = {"items": f"{len(items)}, {listing_digest(items)}", "settings": settings.deciding()}
    plan |= {"fps": job.config.data.fps} if "clips" in job.frames else {}
    plan |= {"animation": animation_fingerprint()} if ANIMATED in job.frames else {}
    job.work.begin(plan | {"records": {name: job.description(name) for name in job.frames}})


def _analyse(job: _Job, chunks: Sequence[Chunk]) -> _Found:
    """Findings of all items: this process's chunks, then those of the others."""
    todo = [chunk for chunk in job.work.own(chunks) if not job.findings_path(chunk).is_file()]
    if todo:
        items = [item for chunk in todo for item in chunk.items]
        with (
            WorkerPool(job.workers, analyse, job.settings, start, (_analysis_spec(job),)) as workers,
            job.progress("analysing", len(items), " items") as bar,
        ):
            results = workers.run(items)
            for chunk in todo:
                began = time.monotonic()
                findings = [_finding(*next(results), bar) for _ in chunk.items]
                write_findings(job.findings_path(chunk), _chunk_findings(job, chunk, findings, began))
    job.wait_for([job.findings_path(chunk) for chunk in chunks], "chunks of items")
    return _gathered(job, chunks)


def _analysis_spec(job: _Job) -> AnalysisSpec:
    data = job.config.data
    return AnalysisSpec(
        settings=job.settings,
        face_models=str(find_pack(job.config.encoders.face_models)),
        height=data.height,
        width=data.width,
        fps=data.fps,
        photos="images" in job.frames,
        clip_frames=job.frames.get("clips", 0),
        portrait_side=job.encoders.face.portrait_side,
    )


def _finding(item: Item, result: Finding | Rejected, bar: tqdm) -> Finding:
    bar.update()
    if isinstance(result, Rejected):
        return Finding(item.key, dropped=(Dropped(item.key, result.reason, result.detail, result.value),))
    return result


def _chunk_findings(job: _Job, chunk: Chunk, findings: Sequence[Finding], began: float) -> ChunkFindings:
    """Findings with the embeddings of their stills, which are computed in batches here."""
    summary, samples, stills = Summary(), [], []
    for item, finding in zip(chunk.items, with_embeddings(findings, job.encoders.face.embed), strict=True):
        summary.add_finding(finding, item.collection)
        samples += finding.samples
        stills += finding.stills
    return ChunkFindings(samples, stills, summary, time.monotonic() - began)


def _gathered(job: _Job, chunks: Sequence[Chunk]) -> _Found:
    """The findings of all chunks together."""
    found = _Found([], [], StoredStills(), Summary(), 0.0)
    for chunk in chunks:
        path = job.findings_path(chunk)
        part = read_findings(path, portraits=False)
        found.samples += part.samples
        found.stills += part.stills
        found.stored.add(path, part.stills)
        found.summary = merge(found.summary, part.summary)
        found.seconds += part.seconds
    return found


def _pair(job: _Job, found: _Found) -> list[Pair]:
    """Who is whose reference."""
    pairs, dropped = choose_pairs(found.samples, found.stills, job.config.data.references, job.settings)
    _add_dropped(found.summary, dropped, found.samples)
    return pairs


def _divide(job: _Job, pairs: Sequence[Pair], items: Sequence[Item]) -> list[Shard]:
    """Which record goes into which shard."""
    parts = pairs_by_dataset(pairs, {item.key: item for item in items}, list(job.frames))
    samples = [[pair.sample for pair in part] for name, part in parts.items() if name != ANIMATED]
    splits = assign_splits(samples, job.settings.validation_share)
    if ANIMATED in job.frames:
        frames, fps = job.frames[ANIMATED], job.config.data.fps
        parts[ANIMATED] = animated_pairs(parts["images"], job.settings.animated_clips, frames, fps)
        splits |= {pair.sample.key: splits[pair.sample.item] for pair in parts[ANIMATED]}
    return divide_into_shards(parts, splits, job.settings)


def _write(job: _Job, shards: Sequence[Shard], items: Sequence[Item], stored: StoredStills) -> None:
    """This process's shards."""
    todo = [shard for shard in job.work.own(shards) if not job.done_path(shard).is_file()]
    if not todo:
        return
    _warn_of_room(job, todo)
    by_key = {item.key: item for item in items}
    maker = RecordMaker(job.config, job.encoders, job.settings, job.captioner)
    pairs = [pair for shard in todo for pair in shard.pairs]
    with (
        WorkerPool(
            job.workers, read_sample, job.settings, start_reading, (job.settings,), ahead=_CLIPS_AHEAD
        ) as workers,
        job.progress("encoding", len(pairs), " records") as bar,
    ):
        results = workers.run((by_key[pair.sample.item], pair.sample) for pair in pairs)
        frames = (result for _, result in results)
        for shard in todo:
            _write_shard(job, shard, maker, itertools.islice(frames, len(shard.pairs)), stored, bar)


def _warn_of_room(job: _Job, shards: Sequence[Shard]) -> None:
    """A line where the disk may be too small for the records of these shards, which are compressed a little."""
    sizes = {name: record_bytes(record_fields(job.config, frames)) for name, frames in job.frames.items()}
    needed = sum(len(shard.pairs) * sizes[shard.dataset] for shard in shards)
    if (free := shutil.disk_usage(job.work.output).free) < needed:
        mib = (needed / 2**20, free / 2**20)
        logging.warning("%s: its records may take up to %.0f MiB, and %.0f MiB are free", job.work.output, *mib)


def _write_shard(
    job: _Job, shard: Shard, maker: RecordMaker, frames: Iterator, stored: StoredStills, bar: tqdm
) -> None:
    """One shard, and then the file that says so."""
    began, summary, dropped = time.monotonic(), Summary(), []
    pairs = with_portraits(shard.pairs, stored.read(still for pair in shard.pairs for still in pair.stills))

    def records():
        for pair, record in maker.records(pairs, summary.watched(pairs, frames), dropped):
            summary.add_record(pair.sample.collection, shard.split, animated=pair.sample.animation > 0)
            bar.update()
            yield record

    path = shard_path(job.work.output / shard.dataset, shard.split, shard.number)
    count = write_shard(path, records(), record_fields(job.config, job.frames[shard.dataset]))
    _add_dropped(summary, dropped, [pair.sample for pair in pairs])
    done = {"records": count, "seconds": time.monotonic() - began, "summary": summary.as_json()}
    remove_partial(job.done_path(shard))
    write_json(job.done_path(shard), done, indent=None)


def _finish(
    job: _Job,
    shards: Sequence[Shard],
    pairs: Sequence[Pair],
    found: _Found,
    unlisted: Sequence[Dropped],
    ignored: Sequence[Ignored],
) -> dict:
    """Makes data sets of all shards and writes the report. Raises `DataError` where nothing was kept."""
    job.wait_for([job.done_path(shard) for shard in shards], "shards of records")
    summary, seconds, lengths = found.summary, found.seconds, _no_shards(job)
    for dropped in unlisted:
        summary.add_dropped(dropped, "listing")
    for shard in shards:
        done = json.loads(job.done_path(shard).read_text())
        lengths[shard.dataset][shard.split].append(done["records"])
        summary, seconds = merge(summary, Summary.from_json(done["summary"])), seconds + done["seconds"]
    summary.add_pairs(pairs, lambda still: found.stored.read([still])[still_name(still)].portrait)
    seconds /= job.work.processes
    numbers = report_of(summary, job.settings, command_line(), seconds, versions(), ignored)
    write_report(job.work.output, summary, numbers)
    kept = [name for name in job.frames if _publish(job, name, lengths[name])]
    if not kept:
        raise DataError(f"{job.work.output}: nothing was kept; its report.html shows what was dropped, and why")
    return json.loads((job.work.output / "report.json").read_text())


def _no_shards(job: _Job) -> dict[str, dict[str, list[int]]]:
    return {name: {split: [] for split in SPLITS} for name in job.frames}


def _publish(job: _Job, name: str, lengths: dict[str, list[int]]) -> bool:
    """Makes a data set of the shards of `images` or `clips`, by their lengths; False where there are no records."""
    folder = job.work.output / name
    if not sum(map(sum, lengths.values())):
        return False
    if not sum(lengths["train"]):
        raise DataError(
            f"{folder}: expected records to train on, found only {sum(lengths['validation'])} for validation; prepare "
            "more, or see report.html for what was dropped"
        )
    text = encode_unconditional_text(job.encoders.text)
    finish_dataset(folder, name, job.config, job.frames[name], job.description(name), lengths, text)
    return True


def _add_dropped(summary: Summary, dropped: Sequence[Dropped], samples: Sequence[Sample]) -> None:
    collections = {sample.key: sample.collection for sample in samples}
    for each in dropped:
        summary.add_dropped(each, collections[each.key])
