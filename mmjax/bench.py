"""`python -m mmjax.bench --config configs/X.py`: seconds and memory of the model's parts, on random weights.

Measures, at the size of the configuration's longest clips: text encoder, CLIP with the face branch, a guided forward of
the base alone and with the adapter at work, all denoising steps of a video, the autoencoder, and a training step.
Devices along `data` and `fsdp` have a pair, or a sample, each. Every figure is the median of synchronised repeats after
a warm-up; compile time is apart. With --config.runtime.stream=True block weights wait in host memory.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import jax
from absl import flags

from mmjax import benchmarks, cli, partition
from mmjax import config as c
from mmjax.benchmarks import MEASUREMENTS, Case
from mmjax.models import flops
from mmjax.sampling.estimate import held_bytes


def define_flags() -> None:
    """The command line's own flags, beside those of `mmjax.cli`."""
    flags.DEFINE_integer("repeats", 5, "Timed repeats of each measurement.", lower_bound=1)
    flags.DEFINE_string("output", "", "JSON file for the figures, beside the printed table.")
    flags.DEFINE_multi_enum("only", None, list(MEASUREMENTS), "Measurements to make; all of them by default.")


def measure(config: c.Experiment, repeats: int = 5, only: tuple[str, ...] = ()) -> list[dict]:
    """One row for each measurement, as `table` shows them.

    Keys: name, what, seconds, spread, compile_seconds, peak_gib (predicted by the compiler), tflops and mfu, the last
    three None where they are not known.

    Args:
      config: sizes, mesh, precision and what is trained; its longest source says the frames.
      repeats: timed runs, of which the median counts; a whole video is run once.
      only: some of `MEASUREMENTS`; all by default. With the `pixel` autoencoder the published networks are left out.
    """
    mesh, wanted = partition.make_mesh(config.mesh), tuple(only) or tuple(MEASUREMENTS)
    rows = []
    with partition.use_mesh(mesh):
        for case in benchmarks.cases(config, mesh, wanted, _compiled):
            rows.append(_row(case, repeats))
            print(f"{rows[-1]['what']}: {rows[-1]['seconds']:.3f} s", file=sys.stderr, flush=True)
    return rows


def table(rows: list[dict], device: str) -> str:
    """The rows as a Markdown table under a line that names the device."""
    head = "| what | seconds | spread | peak GiB, by the compiler | TFLOP/s a device | MFU | compile s |"
    lines = [f"{device}, random weights", "", head, "|---|---|---|---|---|---|---|"]
    for row in rows:
        cells = [row["what"], f"{row['seconds']:.3f}", f"{row['spread']:.3f}"]
        cells += [
            "" if row[key] is None else shown.format(row[key])
            for key, shown in (("peak_gib", "{:.1f}"), ("tflops", "{:.0f}"), ("mfu", "{:.0%}"))
        ]
        lines.append(f"| {' | '.join(cells)} | {row['compile_seconds']:.1f} |")
    return "\n".join(lines)


def _compiled(function, *arguments) -> tuple[jax.stages.Compiled, float]:
    began = time.perf_counter()
    compiled = function.lower(*arguments).compile()
    return compiled, time.perf_counter() - began


def _row(case: Case, repeats: int) -> dict:
    arguments, seconds = case.arguments, []
    for _ in range(1 if case.once else repeats + 1):
        began = time.perf_counter()
        result = jax.block_until_ready(case.run(*arguments))
        seconds.append(time.perf_counter() - began)
        if case.takes_over:
            arguments = (result[0], *arguments[1:])
    first, timed = seconds[0], seconds[1:] or seconds
    median, peak = statistics.median(timed), flops.peak_flops(jax.devices()[0].device_kind)
    rate = case.operations and case.operations / median / jax.device_count()
    return {
        "name": case.name,
        "what": MEASUREMENTS[case.name],
        "seconds": median,
        "spread": max(timed) - min(timed),
        "compile_seconds": case.compile_seconds or first - median,
        "peak_gib": held_bytes(case.compiled) / 2**30 if case.compiled else None,
        "tflops": rate and rate / 1e12,
        "mfu": rate / peak if rate and peak else None,
    }


def main() -> None:
    """Prints the table of the experiment that `--config` names."""
    cli.keep_compiled_programs()
    config = cli.experiment(cli.CONFIG.value, None)
    rows = measure(config, flags.FLAGS["repeats"].value, tuple(flags.FLAGS["only"].value or ()))
    stats = jax.local_devices()[0].memory_stats() or {}
    held = f", at most {stats['peak_bytes_in_use'] / 2**30:.1f} GiB held" if "peak_bytes_in_use" in stats else ""
    device = f"{config.name} on {jax.device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}{held}"
    print(table(rows, device))
    if flags.FLAGS["output"].value:
        Path(flags.FLAGS["output"].value).write_text(
            json.dumps({"device": device, "rows": rows}, indent=1), encoding="utf-8"
        )


if __name__ == "__main__":
    define_flags()
    cli.run(main)
