"""`python -m mmjax.bench_memory --config configs/X.py`: what memory settings save of a training step, and their cost.

One row for each of `ROWS`: seconds of a step and peak memory of the fullest device, with one sample a share of the
longest source, on random weights. All steps are compiled first, side by side, then run one after the other from the
smallest to the largest, so that the device's own peak is each step's. A step that does not fit is a row that says so.
"""

import contextlib
import dataclasses
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
from absl import flags

from mmjax import callable_command, cli, device_memory, sharding, trees
from mmjax import config as c
from mmjax.bench import draw, random_batch, random_judges, training_state
from mmjax.bench_parts import training_step
from mmjax.models import build
from mmjax.training.state import TrainState, bytes_per_device

_PLAIN = {"optim.moments": "float32", "runtime.stream": False, "runtime.offload": ()}
_HALF, _STREAM = {"optim.moments": "bfloat16"}, {"runtime.stream": True}
_EMA, _STATE = {"runtime.offload": ("ema",)}, {"runtime.offload": ("ema", "moments")}
ROWS: tuple[dict[str, Any], ...] = (
    {},
    _HALF,
    _EMA,
    _STATE,
    _STREAM,
    _HALF | _EMA,
    _HALF | _EMA | _STREAM,
    _HALF | _STATE | _STREAM,
)


@dataclasses.dataclass
class Row:
    """A step under some settings. Sizes are bytes of the fullest device, or of its host; None is not known.

    peak: what the device says, of this step where it is the largest so far.
    wrong: why there is no time, in a line.
    """

    changes: dict[str, Any]
    program: jax.stages.Compiled | None = None
    state: TrainState | None = None  # as shapes
    judges: trees.Tree = dataclasses.field(default_factory=dict)
    held: int | None = None
    on_host: int = 0
    peak: int | None = None
    seconds: float | None = None
    spread: float | None = None
    wrong: str = ""


def bench_memory(config: c.Experiment, repeats: int = 3, threads: int = 4) -> list[Row]:
    """The rows, in the order of `ROWS`.

    Args:
      config: sizes, mesh, precision and what is trained; what the rows change is set by them alone.
      repeats: timed steps, of which the median counts, after one that is not timed.
      threads: steps that are compiled at a time, after the first.
    """
    mesh, rows = sharding.make_mesh(config.mesh), [Row(changes) for changes in ROWS]
    with sharding.use_mesh(mesh):
        batch = random_batch(config, sharding.batch_shares(mesh), mesh)
        _compile(config, mesh, batch, rows[0])  # alone: what it has tuned and compiled serves the others
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda row: _compile(config, mesh, batch, row), rows[1:]))
        params = jax.device_get(draw(build.abstract_params(_changed(config, {}), mesh)))
        for row in sorted((row for row in rows if not row.wrong), key=lambda row: row.held or 0):
            _run(row, params, batch, repeats)
            print(_line(row), file=sys.stderr, flush=True)
    return rows


def table(rows: list[Row], device: str) -> str:
    """The rows as a Markdown table under a line that names the device."""
    head = "| settings | seconds | spread | GiB, by the compiler | GiB, peak of the device | GiB on the host |"
    return "\n".join([f"{device}, random weights", "", head, "|---|---|---|---|---|---|", *map(_line, rows)])


def _changed(config: c.Experiment, changes: dict[str, Any]) -> c.Experiment:
    """The experiment with nothing that saves memory but `changes`."""
    values = config.to_config_dict()
    values.update_from_flattened_dict(_PLAIN | changes)
    return c.Experiment.from_config_dict(values)


def _compile(config: c.Experiment, mesh: jax.sharding.Mesh, batch: dict, row: Row) -> None:
    with sharding.use_mesh(mesh), _recorded(row):  # a thread has its own mesh
        changed = _changed(config, row.changes)
        judging = random_judges(changed, mesh)
        row.judges = judging.params if judging else {}
        jitted, row.state = training_step(changed, mesh, judging)
        row.on_host = bytes_per_device(row.state, on_host=True)
        row.program = jitted.lower(row.state, row.judges, batch).compile()
        row.held = device_memory.held_bytes(row.program)


def _run(row: Row, params: build.Params, batch: dict, repeats: int) -> None:
    with _recorded(row):
        state, seconds = training_state(row.state, params), []
        for _ in range(repeats + 1):
            began = time.perf_counter()
            state, _ = jax.block_until_ready(row.program(state, row.judges, batch))
            seconds.append(time.perf_counter() - began)
        row.seconds, row.spread = statistics.median(seconds[1:]), max(seconds[1:]) - min(seconds[1:])
        row.peak = device_memory.peak_bytes()
    row.program = None  # its memory as well


@contextlib.contextmanager
def _recorded(row: Row) -> Iterator[None]:
    """Notes what the device or the compiler refuses, and goes on."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        row.wrong = str(error).splitlines()[0][:100]


def _line(row: Row) -> str:
    settings = ", ".join(f"{key}={value}" for key, value in row.changes.items()) or "none of these"
    times = [row.wrong or "not run", ""] if row.seconds is None else [f"{row.seconds:.3f}", f"{row.spread:.3f}"]
    sizes = ["" if size is None else f"{size / 2**30:.1f}" for size in (row.held, row.peak, row.on_host)]
    return f"| {' | '.join([settings, *times, *sizes])} |"


def define_flags() -> None:
    """The command line's own flags, beside those of `mmjax.cli`."""
    flags.DEFINE_integer("repeats", 3, "Timed steps of each row.", lower_bound=1)
    flags.DEFINE_integer("threads", 4, "Steps that are compiled at a time.", lower_bound=1)


def main() -> None:
    """Prints the table of the experiment that `--config` names."""
    given, config = flags.FLAGS, cli.experiment()
    cli.keep_compiled_programs(given.compilation_cache)
    rows = bench_memory(config, given.repeats, given.threads)
    device = f"{config.name} on {jax.device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}"
    print(table(rows, device))


callable_command(__name__)

if __name__ == "__main__":
    cli.run(main, define_flags)
