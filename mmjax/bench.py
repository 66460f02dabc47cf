"""`python -m mmjax.bench --config configs/X.py`: seconds and memory of the model's steps, on random weights.

Measures, at the size of the configuration's longest clips: a guided forward of the base alone, the same with the
adapter at work (its face encoder, which runs once a video, apart), and a training step. Devices along `data` and `fsdp`
have a pair, or a sample, each. Weights are drawn, not fresh: a fresh model's zeros run
faster than real weights do. Every figure is the median of synchronised repeats after a warm-up; compile time is apart.
"""

import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from mmjax import cli, partition, trees
from mmjax import config as c
from mmjax.data import schema
from mmjax.nn.face_encoder import Conditions
from mmjax.training import flops, optim
from mmjax.training import state as states
from mmjax.training import step as steps

_REPEATS = flags.DEFINE_integer("repeats", 5, "Timed repeats of each measurement.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", "", "JSON file for the figures, beside the printed table.")

MEASUREMENTS = {
    "base": "guided forward, base alone",
    "adapter": "guided forward, with adapter",
    "train": "training step, 1 sample a share",
}
_ONLY = flags.DEFINE_multi_enum("only", None, list(MEASUREMENTS), "Measurements to make; all of them by default.")


def measure(config: c.Experiment, repeats: int = 5, only: tuple[str, ...] = ()) -> list[dict]:
    """One row for each measurement: what, seconds, compile_seconds, peak_gib (predicted by the compiler), tflops, mfu.

    Args:
      config: sizes, mesh, precision and what is trained; its longest source says the frames.
      repeats: timed runs, of which the median counts.
      only: some of `MEASUREMENTS`; all by default.
    """

    mesh = partition.make_mesh(config.mesh)
    with partition.use_mesh(mesh):
        return [_row(name, *case, repeats) for name, *case in _cases(config, mesh) if not only or name in only]


def table(rows: list[dict], device: str) -> str:
    """The rows as a Markdown table under a line that names the device."""
    head = "| what | seconds | spread | peak GiB, by the compiler | TFLOP/s a device | MFU | compile s |"
    lines = [f"{device}, random weights", "", head, "|---|---|---|---|---|---|---|"]
    for row in rows:
        cells = [row["what"], f"{row['seconds']:.3f}", f"{row['spread']:.3f}", f"{row['peak_gib']:.1f}"]
        cells += [
            f"{row['tflops']:.0f}",
            f"{100 * row['mfu']:.0f} %" if row["mfu"] else "",
            f"{row['compile_seconds']:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cases(config: c.Experiment, mesh) -> Iterator[tuple[str, Callable, tuple, float]]:
    """(name, jitted function, its arguments, operations), one after the other, so that their memory is not added."""
    model = states.make_model(config)
    abstract = states.abstract_params(config, mesh)
    trained, frozen = trees.split(abstract, config.train.trainable)
    shape = config.autoencoder.latent_shape(max(config.data.frames), config.data.height, config.data.width)
    shape = (shape[0] + -shape[0] % config.model.transformer.patch_t, *shape[1:])
    needed = flops.sample_flops(config, trained, frozen, shape)
    alone = flops.sample_flops(_without_adapter(config), {}, abstract, shape)

    def denoise(params, latents, timesteps, conditions):
        return model.apply({"params": params}, latents, timesteps, conditions, method="denoise")

    shares = partition.batch_shares(mesh)
    params, pair = _draw(abstract), _batch(config, shape, 2 * shares, mesh)
    inputs = params, pair["latents"], jnp.full(2 * shares, 999)
    yield "base", jax.jit(denoise), (*inputs, Conditions(pair["text"])), 2 * shares * alone.forward
    conditions = jax.jit(lambda p, b: model.apply({"params": p}, b, method="encode"))(params, pair)
    yield "adapter", jax.jit(denoise), (*inputs, conditions), 2 * shares * needed.forward
    del inputs, conditions, pair
    batch = _batch(config, shape, shares, mesh)
    yield "train", *_training_step(config, mesh, params, batch), shares * needed.training


def _training_step(config: c.Experiment, mesh, params, batch):
    """(the jitted step, its arguments): a state round the given parameters, with moments of zero."""
    tx = optim.make_optimizer(config.optim, config.train.steps)
    abstract = states.abstract_state(config, tx, mesh)
    trained, frozen = trees.split(params, config.train.trainable)
    moments = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype, device=leaf.sharding), abstract.opt_state)
    ema = jax.tree.map(lambda leaf: leaf.astype(jnp.float32) + 0, trained) if abstract.ema else None
    state = states.TrainState(jnp.zeros((), jnp.int32), trained, frozen, moments, ema)
    loss = steps.make_loss(config, states.make_model(config), jnp.zeros(batch["text"].shape[1:]))
    step = steps.make_train_step(config, loss, tx, states.random_streams(config.seed).train)
    return steps.jit_train_step(step, abstract), (state, batch)


def _row(name: str, function, arguments: tuple, operations: float, repeats: int) -> dict:
    began = time.perf_counter()
    compiled = function.lower(*arguments).compile()
    compile_seconds, seconds = time.perf_counter() - began, []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        result = jax.block_until_ready(compiled(*arguments))
        seconds.append(time.perf_counter() - began)
        if name == "train":  # the step takes the state's memory over
            arguments = (result[0], *arguments[1:])
    memory = compiled.memory_analysis()
    bytes_held = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes
    median, peak = statistics.median(seconds[1:]), flops.peak_flops(jax.devices()[0].device_kind)
    rate = operations / median / jax.device_count()
    return {
        "name": name,
        "what": MEASUREMENTS[name],
        "seconds": median,
        "spread": max(seconds[1:]) - min(seconds[1:]),
        "compile_seconds": compile_seconds,
        "peak_gib": (bytes_held - memory.alias_size_in_bytes) / 2**30,
        "tflops": rate / 1e12,
        "mfu": rate / peak if peak else None,
    }


def _draw(abstract):
    """Random weights of the given shapes, dtypes and shardings: norm scales round 1, all else small."""

    def draw(path, leaf, number):
        def values():
            noise = jax.random.normal(jax.random.key(number, impl="rbg"), leaf.shape, leaf.dtype)
            return (path.endswith("/scale") + 0.02 * noise).astype(leaf.dtype)

        return jax.jit(values, out_shardings=leaf.sharding)()

    return trees.unflatten({p: draw(p, leaf, i) for i, (p, leaf) in enumerate(trees.flatten(abstract).items())})


def _batch(config: c.Experiment, latents: tuple[int, ...], size: int, mesh):
    """A random batch of records of the given latent shape."""

    rng, fields = np.random.default_rng(0), schema.record_fields(config, 1)
    shapes = {name: fields[name].shape for name in states.BATCH_FIELDS} | {"latents": latents, "face_mask": latents[:3]}
    batch = {
        name: rng.standard_normal((size, *shape), np.float32).astype(fields[name].dtype)
        for name, shape in shapes.items()
    }
    batch["class_mask"] = np.zeros((size, *shapes["class_mask"]), bool)
    batch["class_mask"][:, 1 : 1 + config.data.references * config.model.adapter.id_tokens] = True
    batch["face_mask"] = np.ones((size, *shapes["face_mask"]), np.float32)
    return jax.device_put(batch, partition.batch_sharding(mesh, size))


def _without_adapter(config: c.Experiment) -> c.Experiment:

    model = dataclasses.replace(config.model, adapter=dataclasses.replace(config.model.adapter, enabled=False))
    return dataclasses.replace(config, model=model)


def main() -> None:
    """Prints the table of the experiment that `--config` names."""
    cli.keep_compiled_programs()
    config = cli.experiment(cli.CONFIG.value, None)
    rows = measure(config, _REPEATS.value, tuple(_ONLY.value or ()))
    device = f"{config.name} on {jax.device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}"
    print(table(rows, device))
    if _OUTPUT.value:
        Path(_OUTPUT.value).write_text(json.dumps({"device": device, "rows": rows}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    cli.run(main)
