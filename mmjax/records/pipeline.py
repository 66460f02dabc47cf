"""From prepared records to batches: shuffled, mixed by weight, loaded in parts, exactly resumable. Grain; no JAX.

Each source is shuffled anew every epoch, repeated for ever and cut into batches of its own size, so that a batch has
one shape; the batches of all sources are then mixed by weight. That order depends on the settings, the seed and the
records alone: a process loads those rows of every batch that its devices work on, whoever loads the others, and the
batch of a step is known by the step's number.
"""

import json
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np

from mmjax import media
from mmjax.errors import DataError
from mmjax.records.schema import STRINGS, Record
from mmjax.records.sources import RecordFolders, RecordSource, open_source, source_identity
from mmjax.training_settings import TrainingExperiment

if TYPE_CHECKING:
    import grain

Batch = dict[str, np.ndarray]

NUMBERS = ("source_number", "record_number")  # of each sample: in `data.sources`, and in that source's training split
_GRACE = 30.0  # seconds that a worker goes on after a SIGTERM
_HELD = (signal.SIGINT, signal.SIGTERM)  # what may come to a whole group of processes
_EPOCHS = 2**31  # for ever; Grain's own endless repeat overflows where batches of one are mixed


def make_train_iterator(
    config: TrainingExperiment,
    sources: RecordFolders,
    rows: Sequence[Sequence[int]] | None = None,
    done: int = 0,
    fields: Collection[str] | None = None,
) -> "grain.DatasetIterator":
    """Endless batches of the training split of `sources`, or some rows of each, with the samples' `NUMBERS`.

    With `config.data.workers` processes, `close()` it when done.

    Args:
      rows: of each source's batches, those that are loaded; by default all.
      done: steps whose batches are left out. What follows is, bit for bit, what would have followed on them, also with
        other rows and other workers.
      fields: the arrays that are read of each record; by default all. The order of the records is the same.

    Raises:
      DataError: a source without records to train on.
    """
    import grain

    data = config.data
    rows = rows or [range(size) for size in data.batches]
    parts = [_source_batches(config, sources, *each, fields) for each in enumerate(rows)]
    mixed = parts[0] if len(parts) == 1 else grain.MapDataset.mix(parts, weights=_shares(data.weights))
    reading = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    batches = mixed[done:].to_iter_dataset(reading)
    if data.workers:
        options = grain.MultiprocessingOptions(num_workers=data.workers, per_worker_buffer_size=2)
        batches = batches.mp_prefetch(options, worker_init_fn=_start_worker).map(_own)
    return iter(batches)


def start_workers(iterator: "grain.DatasetIterator") -> None:
    """Starts the worker processes of an iterator, where there are any; does not wait for a batch.

    They begin with signals held back that go to a whole group, until `_start_worker` has said what becomes of them:
    importing takes seconds, and a Ctrl-C would end them. This process gets what came meanwhile.
    """
    multiprocessing.resource_tracker.ensure_running()  # when that starts, it lets them through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    try:
        iterator.get_state()  # makes the workers' iterators, which are started next
        iterator.start_prefetch()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def order_fingerprint(config: TrainingExperiment, sources: RecordFolders) -> str:
    """What the order of the batches depends on, as JSON; belongs beside a saved state."""
    import grain

    data = config.data
    order = {
        "seed": config.seed,
        "sources": [source_identity(sources, index) for index in range(len(data.sources))],
        "weights": list(data.weights),
        "batches": list(data.batches),
        "grain": grain.__version__,
    }
    return json.dumps(order, sort_keys=True)


def order_changes(saved: str, now: str) -> str:
    """In what two `order_fingerprint`s differ, with what was saved and what is found; "" where they do not.

    Raises `DataError` for a saved one that is damaged.
    """
    try:
        old, new = dict(json.loads(saved)), json.loads(now)
    except (ValueError, TypeError) as error:
        raise DataError("the saved order of the data is damaged; resume from the checkpoint before it") from error
    changes = [f"{key}: was {old.get(key)}, is {new[key]}" for key in new if old.get(key) != new[key]]
    if (processes := old.get("processes", 1)) > 1:  # noted by mmjax until each process no longer had records of its own
        changes.append(f"shuffled: was apart in {processes} processes, is together")
    return "; ".join(changes)


def validation_records(config: TrainingExperiment, sources: RecordFolders, name: str, count: int) -> list[Record]:
    """`count` held-out records of the source `name`, spread evenly over its people, strings included; in fixed order.

    Where the split has fewer records, they come around again. Raises `DataError` where it has none.
    """
    return _held_out(config, sources, name, count, range(count))


def validation_batches(
    config: TrainingExperiment,
    sources: RecordFolders,
    name: str,
    count: int,
    rows: Sequence[int] | None = None,
    fields: Collection[str] | None = None,
) -> list[Batch]:
    """`count` batches of `validation_records`, each of the source's batch size.

    Args:
      rows: of each batch, and `fields` of each record; by default all.
    """
    size = config.data.batches[_index(config, name)]
    rows = range(size) if rows is None else rows
    numbers = ([batch * size + row for row in rows] for batch in range(count))
    return [collate(_held_out(config, sources, name, size * count, chosen, fields)) for chosen in numbers]


def collate(records: Sequence[Record]) -> Batch:
    """Stacks the records' arrays; strings stay behind, since devices have no use for them."""
    names = [name for name in records[0] if name not in STRINGS]
    return {name: np.stack([record[name] for record in records]) for name in names}


def name_records(config: TrainingExperiment, batch: Batch, chosen: Sequence[int] | None = None) -> str:
    """Which records a training batch was made of, in words: `records/images: train records 3, 17, 102`.

    Args:
      chosen: rows of the batch; all of them by default.
    """
    rows = range(len(batch[NUMBERS[0]])) if chosen is None else chosen
    named: dict[str, list[str]] = {}
    for row in rows:
        source, record = (int(batch[name][row]) for name in NUMBERS)
        named.setdefault(config.data.sources[source], []).append(str(record))
    return "; ".join(f"{source}: train records {', '.join(records)}" for source, records in named.items())


class _Batches:
    """Some rows of the batches into which a source's records are cut, with their `NUMBERS`; no other rows are read.

    Args:
      number: of the source.
      order: of its records, by number, for ever.
    """

    def __init__(self, number: int, records: RecordSource, order: "grain.MapDataset", size: int, rows: Sequence[int]):
        self._number, self._records, self._order, self._size, self._rows = number, records, order, size, rows

    def __len__(self) -> int:
        return len(self._order) // self._size

    def __getitem__(self, index: SupportsIndex) -> Batch:
        first = index.__index__() * self._size
        chosen = np.array([self._order[first + row] for row in self._rows], np.int64)
        numbers = np.full_like(chosen, self._number), chosen
        return collate([self._records[number] for number in chosen]) | dict(zip(NUMBERS, numbers, strict=True))

    def __repr__(self) -> str:
        return f"{len(self._rows)} of {self._size} rows of {self._records}"


def _source_batches(config, sources, index, rows, fields) -> "grain.MapDataset":
    import grain

    records = open_source(sources, index, "train", fields)
    order = grain.MapDataset.range(len(records)).seed(config.seed * 1000 + index).shuffle().repeat(_EPOCHS)
    return grain.MapDataset.source(_Batches(index, records, order, config.data.batches[index], rows))


def _held_out(config, sources, name, count, numbers, fields=None) -> list[Record]:
    """Those of `count` `validation_records` with the given numbers."""
    records = open_source(sources, _index(config, name), "validation", fields)
    spread = media.spread(count, len(records))
    return [records[spread[number % len(spread)]] for number in numbers]


def _index(config: TrainingExperiment, name: str) -> int:
    if name not in config.data.sources:
        raise DataError(f'source "{name}": expected one of data.sources = {", ".join(config.data.sources)}')
    return config.data.sources.index(name)


def _shares(weights: Sequence[float]) -> list[float]:
    return [weight / sum(weights) for weight in weights]


def _own(batch: Batch) -> Batch:
    """Copies out of the workers' shared memory, which Grain unmaps when it pleases."""
    return {name: np.array(value) for name, value in batch.items()}


def _start_worker(worker_index: int, worker_count: int) -> None:
    """What a worker process does first.

    Grain itself imports JAX where it is installed; a worker must never start an accelerator with it. Signals that go to
    a whole group (Ctrl-C, the end of a job) are for the main process, which still asks for a batch or saves. A worker
    ends with the main process, whatever that dies of.
    """
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_platforms", "cpu")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: _run_aside(_end_after, _GRACE))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
    if parent := multiprocessing.parent_process():
        _run_aside(_end_with, parent.sentinel)


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def _end_after(seconds: float) -> None:
    time.sleep(seconds)
    os._exit(1)


def _run_aside(function, *arguments) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()
