"""The whole preparation: list, look, pair, encode, report. Stopped at any moment, it goes on where it was.

    from mmjax.preparation.run import prepare
    report = prepare(config, "records", inputs=["photos", "clips"], settings=Settings(class_word="person"))

Two things are looked at as a whole, between the parts that are spread over processes: which pictures are copies of each
other, and who is whose reference. Every process works that out for itself from all findings, and all come to the same.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mmjax.config import Experiment
from mmjax.encoders.build import make_autoencoder, make_face_encoder, make_text_encoder
from mmjax.encoders.photographs import RecogniserEncoder
from mmjax.errors import ConfigError, DataError
from mmjax.faces.packs import find_pack
from mmjax.preparation.analysis.findings import Chunk, read_chunk, without_changes, write_chunk
from mmjax.preparation.analysis.item import Plan, analyse, start
from mmjax.preparation.analysis.workers import Workers
from mmjax.preparation.inputs.captions import check_captions, load_captioner
from mmjax.preparation.inputs.listing import list_items
from mmjax.preparation.items import Dropped, Finding, Item, Still
from mmjax.preparation.pairing.pairs import Pair, assign_splits, choose_pairs
from mmjax.preparation.reasons import Rejected
from mmjax.preparation.report.summary import Summary, merge, write_report
from mmjax.preparation.settings import Settings
from mmjax.preparation.work import Work, chunks, listing_digest, write_json
from mmjax.preparation.writing.encoding import RecordMaker, read_pixels, start_reading, still_name, with_portraits
from mmjax.preparation.writing.shards import finish_dataset, shard_path, write_shard
from mmjax.records.making import EncoderSet
from mmjax.records.schema import SPLITS, describe, record_fields
from mmjax.versions import versions

_CLIPS_AHEAD = 2  # for each worker; 49 frames of 480 x 720 are 50 MB
DEFAULTS = Settings()
DATASETS = {"photo": "images", "video": "clips"}  # folder of the records that are made of each kind of item


@dataclasses.dataclass(frozen=True)
class _Shard:
    dataset: str
    split: str
    number: int
    pairs: list[Pair]


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

    Args:
      config: its `data` says the records' size, frames and references, its encoders what they hold.
      output: takes `images/`, `clips/`, `report.json`, `report.html` and `work/`. Where an earlier run was stopped,
        this one goes on.
      inputs, manifest, dataset, references: see `mmjax.preparation.inputs.listing.list_items`.
      workers: processes that decode and look at items; by default one a core.
      process, processes: this one's number, of how many that share the output; on one machine, or on several with a
        shared disk.
      text_cache: folder in which captions' embeddings are kept.

    Returns:
      what `report.json` says; of a process other than the first, an empty dictionary.

    Raises:
      ConfigError: settings that cannot work, or another preparation in that folder.
      DataError: no input, or nothing of it was kept (the report says why).
      CheckpointError: weights or face models that are not there.
    """
    config, work = config.validated(), Work(Path(output), process, processes)
    items, unlisted = list_items(inputs, manifest, dataset, references)  # a wrong path is told before models are loaded
    with work.alone():
        run = _Preparation(config, work, settings, workers, text_cache)
        run.begin(items, unlisted)
        run.look()
        run.pair()
        run.encode()
        return run.finish() if process == 0 else {}


class _Preparation:
    def __init__(self, config, work, settings, workers, text_cache):
        self.config, self.work, self.settings = config, work, settings
        self.output = work.folder.parent
        self.workers = os.cpu_count() or 1 if workers is None else workers
        self.frames = _frames(config)
        check_captions(settings)
        self.captioner = load_captioner(settings.captioner) if settings.captioner else None
        face = make_face_encoder(config)
        if not isinstance(face, RecogniserEncoder):
            raise ConfigError(
                f"encoders.face = {config.encoders.face}: expected arcface or photomaker to prepare photos and clips, "
                "whose faces have to be recognised"
            )
        text = make_text_encoder(config, cache=text_cache)
        self.encoders = EncoderSet(text, face, make_autoencoder(config))
        self.items, self.unlisted, self.chunks = {}, [], []
        self.pairs: list[Pair] = []
        self.shards: list[_Shard] = []
        self.found, self.places, self.seconds = Summary(), {}, 0.0

    def begin(self, items, unlisted) -> None:
        """Takes what was listed, and makes sure that an earlier run in this folder meant the same."""
        self.items, self.unlisted = {item.key: item for item in items}, unlisted
        self._check_captions(items)
        self.chunks = chunks(items, self.settings)
        plan = {"items": f"{len(items)}, {listing_digest(items)}", "settings": dataclasses.asdict(self.settings)}
        plan |= {"fps": self.config.data.fps} if "clips" in self.frames else {}
        self.work.begin(plan | {"records": {name: self._description(name) for name in self.frames}})

    def look(self) -> None:
        """Findings of all items: this process's chunks, then those of the others."""
        todo = [c for c in self.work.mine(self.chunks) if not self.work.chunk_path(*c[:2]).is_file()]
        if todo:
            plan = self._plan()
            with (
                Workers(self.workers, analyse, self.settings, start, (plan,)) as workers,
                self._progress("looking", sum(len(items) for *_, items in todo), " items") as bar,
            ):
                results = workers.run(item for *_, items in todo for item in items)
                for kind, number, items in todo:
                    began = time.monotonic()
                    chunk = self._chunk([_finding(*next(results), bar) for _ in items])
                    chunk = dataclasses.replace(chunk, seconds=time.monotonic() - began)
                    write_chunk(self.work.chunk_path(kind, number), chunk)
        self.work.wait_for([self.work.chunk_path(*c[:2]) for c in self.chunks], "chunks of items")

    def pair(self) -> None:
        """Who is whose reference, and which record goes into which shard."""
        samples, stills = [], []
        for kind, number, _ in self.chunks:
            path = self.work.chunk_path(kind, number)
            chunk = read_chunk(path, portraits=False)
            samples += chunk.samples
            stills += chunk.stills
            self.found, self.seconds = merge(self.found, chunk.summary), self.seconds + chunk.seconds
            self.places |= {still_name(still): path for still in chunk.stills}
        self.pairs, dropped = choose_pairs(samples, stills, self.config.data.references, self.settings)
        collections = {sample.key: sample.collection for sample in samples}
        for each in dropped:
            self.found.add_dropped(each, collections[each.key])
        sizes = {"images": self.settings.shard_photos, "clips": self.settings.shard_clips}
        parts: dict[str, list[Pair]] = {name: [] for name in self.frames}
        for pair in self.pairs:
            parts[DATASETS[self.items[pair.sample.item].kind]].append(pair)
        samples_of = [[pair.sample for pair in part] for part in parts.values()]
        splits = assign_splits(samples_of, self.settings.validation_share)
        for name, own in parts.items():
            for split in SPLITS:
                part, size = [pair for pair in own if splits[pair.sample.key] == split], sizes[name]
                starts = range(0, len(part), size)
                self.shards += [_Shard(name, split, n, part[at : at + size]) for n, at in enumerate(starts)]

    def encode(self) -> None:
        """This process's shards, then those of the others."""
        todo = [shard for shard in self.work.mine(self.shards) if not self._done(shard).is_file()]
        maker = RecordMaker(self.config, self.encoders, self.settings, self.captioner)
        if todo:
            tasks = ((self.items[p.sample.item], p.sample) for shard in todo for p in shard.pairs)
            with (
                Workers(
                    self.workers, read_pixels, self.settings, start_reading, (self.settings,), _CLIPS_AHEAD
                ) as workers,
                self._progress("encoding", sum(len(shard.pairs) for shard in todo), " records") as bar,
            ):
                pixels = (result for _, result in workers.run(tasks))
                for shard in todo:
                    self._write(shard, maker, itertools.islice(pixels, len(shard.pairs)), bar)
        self.work.wait_for([self._done(shard) for shard in self.shards], "shards of records")

    def finish(self) -> dict:
        """Makes data sets of the shards and writes the report. Raises `DataError` where nothing was kept."""
        summary, seconds = self.found, self.seconds
        for dropped in self.unlisted:
            summary.add_dropped(dropped, "listing")
        for shard in self.shards:
            done = json.loads(self._done(shard).read_text())
            summary, seconds = merge(summary, Summary.from_json(done["summary"])), seconds + done["seconds"]
        summary.add_pairs(self.pairs, lambda still: self._whole([still])[still_name(still)].portrait)
        command = shlex.join(["python", "-m", "mmjax.prepare", *sys.argv[1:]])
        seconds /= self.work.processes
        write_report(self.output, summary, self.settings, command, seconds=seconds, versions=versions())
        kept = [name for name in self.frames if self._publish(name)]
        if not kept:
            raise DataError(f"{self.output}: nothing was kept; its report.html shows what was dropped, and why")
        return json.loads((self.output / "report.json").read_text())

    def _plan(self) -> Plan:
        data = self.config.data
        return Plan(
            settings=self.settings,
            face_models=str(find_pack(self.config.encoders.face_models)),
            height=data.height,
            width=data.width,
            fps=data.fps,
            photos="images" in self.frames,
            clip_frames=self.frames.get("clips", 0),
            portrait_side=self.encoders.face.portrait_side,
        )

    def _chunk(self, found: list[tuple[Item, Finding]]) -> Chunk:
        """Findings with embeddings of their stills, which are computed in batches here."""
        stills = [still for _, finding in found for still in finding.stills]
        if stills:
            embeddings = iter(self.encoders.face.embed(np.stack([still.aligned for still in stills])))
        summary, samples, stills = Summary(), [], []
        for item, finding in found:
            seen = [dataclasses.replace(still, embedding=next(embeddings)) for still in finding.stills]
            finding = without_changes(dataclasses.replace(finding, stills=tuple(seen)))
            summary.add_finding(finding, item.collection)
            samples += finding.samples
            stills += finding.stills
        return Chunk(samples, stills, summary)

    def _write(self, shard: _Shard, maker: RecordMaker, pixels: Iterator, bar) -> None:
        """One shard, and then the file that says so."""
        began, summary, dropped = time.monotonic(), Summary(), []
        pairs = with_portraits(shard.pairs, self._whole([still for pair in shard.pairs for still in pair.stills]))

        def records():
            for pair, record in maker.records(pairs, pixels, dropped):
                summary.add_record(pair.sample.collection, shard.split)
                bar.update()
                yield record

        path = shard_path(self.output / shard.dataset, shard.split, shard.number)
        count = write_shard(path, records(), record_fields(self.config, self.frames[shard.dataset]))
        collections = {pair.sample.key: pair.sample.collection for pair in pairs}
        for each in dropped:
            summary.add_dropped(each, collections[each.key])
        done = {"records": count, "seconds": time.monotonic() - began, "summary": summary.as_json()}
        write_json(self._done(shard), done)

    def _whole(self, stills: Sequence[Still]) -> dict[str, Still]:
        """The stills with their crops, by name, from the chunks that hold them."""
        names, found = {still_name(still) for still in stills}, {}
        for path in sorted({self.places[name] for name in names}):
            found |= {n: s for s in read_chunk(path, portraits=True).stills if (n := still_name(s)) in names}
        return found

    def _publish(self, name: str) -> bool:
        """Makes a data set of the shards of `images` or `clips`; False where there are no records."""
        lengths: dict[str, list[int]] = {split: [] for split in SPLITS}
        for shard in self.shards:
            if shard.dataset == name:
                lengths[shard.split].append(json.loads(self._done(shard).read_text())["records"])
        if not sum(map(sum, lengths.values())):
            return False
        if not sum(lengths["train"]):
            raise DataError(
                f"{self.output / name}: expected records to train on, found only {sum(lengths['validation'])} for "
                "validation; prepare more, or see report.html for what was dropped"
            )
        frames = self.frames[name]
        finish_dataset(self.output / name, name, self.config, frames, self._description(name), lengths)
        return True

    def _description(self, name: str) -> dict:
        return describe(self.config, self.frames[name], self.encoders.fingerprints)

    def _done(self, shard: _Shard) -> Path:
        return self.work.shard_path(shard.dataset, shard.split, shard.number)

    def _check_captions(self, items: Sequence[Item]) -> None:
        settings = self.settings
        if not (settings.captioner or settings.caption_template or any(item.caption for item in items)):
            raise ConfigError(
                f"none of {len(items)} photos and videos has a caption: expected a text file of the same name beside "
                'each, a --manifest, or for all --settings.caption_template="A {class_word} img looks at the camera" '
                "with --settings.class_word=person"
            )

    @contextlib.contextmanager
    def _progress(self, what: str, total: int, unit: str):
        place = f" {self.work.process + 1}/{self.work.processes}" if self.work.processes > 1 else ""
        with tqdm(total=total, desc=what + place, unit=unit, smoothing=0.05, mininterval=1) as bar:
            yield bar


def _finding(item: Item, result: Finding | Rejected, bar) -> tuple[Item, Finding]:
    bar.update()
    if isinstance(result, Rejected):
        result = Finding(item.key, dropped=(Dropped(item.key, result.reason, result.detail, result.value),))
    return item, result


def _frames(config: Experiment) -> dict[str, int]:
    """Frames of the records of each data set that the experiment trains on. Raises `ConfigError`."""
    lengths = sorted(set(config.data.frames))
    clips = [frames for frames in lengths if frames > 1]
    if not lengths or len(clips) > 1:
        raise ConfigError(
            f"data.frames = {config.data.frames}: expected 1 for photos, one length of clips such as 49, or both; "
            "prepare another length into another folder"
        )
    return {name: frames for name, frames in (("images", 1), ("clips", clips[0] if clips else 0)) if frames in lengths}
