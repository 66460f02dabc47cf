"""From prepared records to batches: shuffled, sharded by process, mixed by weight, exactly resumable. Grain; no JAX.

Each source is shuffled anew every epoch, repeated for ever and cut into batches of its own size, so that a batch has
one shape; the batches of all sources are then mixed by weight, in an order that depends on the settings and the seed
alone. Every process takes the same source at the same step.
"""

import json
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np

from mmjax import media
from mmjax.errors import ConfigError, DataError
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
    config: TrainingExperiment, sources: RecordFolders, process_index: int = 0, process_count: int = 1
) -> "grain.DatasetIterator":
    """Endless batches of the training split of `sources`, this process's share of each, with the samples' `NUMBERS`.

    The iterator has `get_state` and `set_state`; with the state of step k it goes on with step k + 1, bit for bit. With
    `config.data.workers` processes, `close()` it when done.

    Raises:
      ConfigError: a batch that the processes cannot share evenly.
      DataError: a source without records to train on, or with fewer of them than there are processes.
    """
    import grain

    data, count = config.data, len(config.data.sources)
    parts = [_source_batches(config, sources, index, process_index, process_count) for index in range(count)]
    mixed = parts[0] if len(parts) == 1 else grain.MapDataset.mix(parts, weights=_shares(data.weights))
    reading = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    batches = mixed.to_iter_dataset(reading)
    if data.workers:
        options = grain.MultiprocessingOptions(num_workers=data.workers, per_worker_buffer_size=2)
        batches = batches.mp_prefetch(options, worker_init_fn=_start_worker).map(_own)
    return iter(batches)


def start_workers(iterator: "grain.DatasetIterator") -> None:
    """Starts the worker processes, where there are any, of an iterator that is in its place; does not wait for a batch.

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


def order_fingerprint(config: TrainingExperiment, sources: RecordFolders, process_count: int = 1) -> str:
    """What the order of the batches depends on, as JSON; belongs beside a saved iterator state."""
    import grain

    data = config.data
    order = {
        "seed": config.seed,
        "sources": [source_identity(sources, index) for index in range(len(data.sources))],
        "weights": list(data.weights),
        "batches": list(data.batches),
        "workers": data.workers,
        "processes": process_count,
        "grain": grain.__version__,
    }
    return json.dumps(order, sort_keys=True)


def check_order(saved: str, now: str) -> None:
    """Refuses to resume a data order under other settings.

    Raises:
      DataError: names each setting, saved and found, of two `order_fingerprint`s that differ.
    """
    try:
        old, new = dict(json.loads(saved)), json.loads(now)
    except (ValueError, TypeError) as error:
        raise DataError("the saved data position is damaged; resume from the checkpoint before it") from error
    lines = [f"  {key}: saved {old.get(key)}, found {new[key]}" for key in new if old.get(key) != new[key]]
    if lines:
        raise DataError(
            "the saved data position belongs to another order of batches:\n"
            + "\n".join(lines)
            + "\n  resume with the saved settings, or start a new run from the saved weights"
        )


def validation_records(config: TrainingExperiment, sources: RecordFolders, name: str, count: int) -> list[Record]:
    """`count` held-out records of the source `name`, spread evenly over its people, strings included; in fixed order.

    Where the split has fewer records, they come around again. Raises `DataError` where it has none.
    """
    records = open_source(sources, _index(config, name), "validation")
    spread = media.spread(count, len(records))
    return [records[spread[i % len(spread)]] for i in range(count)]


def validation_batches(
    config: TrainingExperiment,
    sources: RecordFolders,
    name: str,
    count: int,
    process_index: int = 0,
    process_count: int = 1,
) -> list[Batch]:
    """`count` batches of `validation_records`, each of the source's batch size; this process's share of each."""
    size = config.data.batches[_index(config, name)]
    local = _local_batch(size, process_count)
    records = validation_records(config, sources, name, size * count)
    starts = [batch * size + process_index * local for batch in range(count)]
    return [collate(records[start : start + local]) for start in starts]


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


class _Numbered:
    """The records of a source, each with its `NUMBERS`."""

    def __init__(self, number: int, records: RecordSource):
        self._number, self._records = number, records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: SupportsIndex) -> Record:
        numbers = (self._number, index.__index__())
        return self._records[index] | dict(zip(NUMBERS, map(np.int64, numbers), strict=True))

    def __repr__(self) -> str:
        return repr(self._records)


def _source_batches(config, sources, index, process_index, process_count) -> "grain.MapDataset":
    import grain

    records = open_source(sources, index, "train")
    if len(records) < process_count:
        raise DataError(
            f"{config.data.sources[index]}: expected a record or more for each of {process_count} processes, found "
            f"{len(records)} records; prepare more, or use fewer processes"
        )
    dataset = grain.MapDataset.source(_Numbered(index, records))[process_index::process_count]
    dataset = dataset.seed(config.seed * 1000 + index).shuffle().repeat(_EPOCHS)
    return dataset.batch(_local_batch(config.data.batches[index], process_count), batch_fn=collate)


def _local_batch(size: int, process_count: int) -> int:
    if size % process_count:
        raise ConfigError(f"data.batches = {size}: expected a multiple of the {process_count} processes")
    return size // process_count


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
