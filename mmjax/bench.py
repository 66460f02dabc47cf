"""`python -m mmjax.bench --config configs/X.py`: seconds and memory of the model's parts, on random weights.

Measures, at the size of the configuration's longest clips: text encoder, CLIP with the face branch, a guided forward of
the base alone and with the adapter at work, all denoising steps of a video, the autoencoder, and a training step.
Devices along `data` and `fsdp` have a pair, or a sample, each. Every figure is the median of synchronised repeats after
a warm-up; compile time is apart. With --config.runtime.stream=True block weights wait in host memory, with
--config.loss.identity.weight=0.1 --config.loss.identity.judge=FILE the training step has the identity loss.

Weights are drawn, not fresh: a fresh model's zeros run faster than real weights do. No record, picture or weights file
is read, and nothing is needed beside JAX and what the model and its training step are made of.

--plan runs nothing and says what the parts will take, --topology v6e:2x4 the same of a TPU slice (`mmjax.bench_plan`).
"""

import dataclasses
import functools
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from mmjax import bench_parts as parts
from mmjax import bench_plan, callable_command, cli, device_memory, files, model_settings, outputs, sharding, trees
from mmjax import config as c
from mmjax.conversion.photomaker import abstract_photomaker
from mmjax.conversion.vae import abstract_vae
from mmjax.diffusion.loss import Draws
from mmjax.diffusion.schedule import make_schedule
from mmjax.encoders.arcface import load_arcface
from mmjax.encoders.vae import CogVideoXAutoencoder
from mmjax.errors import ConfigError
from mmjax.faces.packs import find_pack
from mmjax.faces.template import ALIGNED_SIDE, TEMPLATE
from mmjax.models import build, flops, sizes
from mmjax.models.clip import CLIPVisionTower
from mmjax.models.magicmirror.face_branch import Conditions
from mmjax.precision import make_policy
from mmjax.sampling import Denoiser
from mmjax.trainable import split_trainable
from mmjax.training import state as states
from mmjax.training.objectives.judges import Judges
from mmjax.training.objectives.terms import Prediction, objective

_NOTICE = f"{outputs.MARK}.bench"
MEASUREMENTS = {
    "text": "text encoder, prompt and negative prompt",
    "faces": "CLIP and face branch, 1 reference",
    "base": "guided forward, base alone",
    "adapter": "guided forward, with adapter",
    "video": "all denoising steps of a video, with adapter",
    "decode": "decoder",
    "decode_tiled": "decoder, in tiles",
    "encode": "encoder",
    "identity": "identity loss of a clip's last frame, with gradient",
    "train": "training step, 1 sample a share",
}


@dataclasses.dataclass(frozen=True)
class Case:
    """Something to time: `run(*arguments)`. `operations` are floating-point operations, None where not counted.

    compiled: the program whose memory is reported, None for what is more than one program.
    takes_over: the first result takes the first argument's place in the next run.
    once: too long to be repeated or warmed up.
    """

    name: str
    run: Callable[..., Any]
    arguments: tuple
    compile_seconds: float = 0.0
    compiled: jax.stages.Compiled | None = None
    operations: float | None = None
    takes_over: bool = False
    once: bool = False


def bench(config: c.Experiment, repeats: int = 5, only: Sequence[str] = ()) -> list[dict]:
    """One row for each measurement, as `table` shows them.

    Keys: name, what, seconds, spread, compile_seconds, peak_gib (predicted by the compiler), tflops and mfu, the last
    three None where they are not known.

    Args:
      config: sizes, mesh, precision and what is trained; its longest source says the frames.
      repeats: timed runs, of which the median counts; a whole video is run once.
      only: some of `MEASUREMENTS`; all by default. With the `pixel` autoencoder the published networks are left out.

    Raises `ConfigError` for a measurement that is not known.
    """
    mesh, wanted, rows = sharding.make_mesh(config.mesh), tuple(only) or tuple(MEASUREMENTS), []
    unknown = sorted(set(wanted) - set(MEASUREMENTS))
    if unknown:
        raise ConfigError(f"only = {', '.join(unknown)}: expected some of {', '.join(MEASUREMENTS)}")
    with sharding.use_mesh(mesh):
        for case in _cases(config, mesh, wanted):
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


def _cases(config: c.Experiment, mesh: jax.sharding.Mesh, wanted: Sequence[str]) -> Iterator[Case]:
    """The wanted cases, one after the other, so that their memory is not added."""
    published = config.autoencoder.name == "cogvideox"
    if published:
        for name, make in (("text", _text), ("faces", _faces)):
            if name in wanted:
                yield _case(name, *make(config, mesh))
    if "identity" in wanted and config.loss.identity.weight:
        yield _case("identity", *_identity(config, mesh))
    if {"base", "adapter", "video", "train"} & set(wanted):
        yield from _transformer(config, mesh, wanted)
    if published:
        yield from _autoencoder(config, mesh, wanted)


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
        "peak_gib": device_memory.held_bytes(case.compiled) / 2**30 if case.compiled else None,
        "tflops": rate and rate / 1e12,
        "mfu": rate / peak if rate and peak else None,
    }


def draw(abstract: trees.Tree) -> trees.Tree:
    """Random weights of the given shapes, dtypes and shardings: norm scales round 1, all else small."""
    leaves = enumerate(trees.flatten(abstract).items())
    return trees.unflatten({path: _drawing(leaf)(number, path.endswith("/scale")) for number, (path, leaf) in leaves})


def random_batch(config: c.Experiment, size: int, mesh: jax.sharding.Mesh) -> dict:
    """A batch of records of the longest source, on the mesh."""
    rng, abstract = np.random.default_rng(0), parts.abstract_batch(config, size, mesh)
    batch = {name: rng.standard_normal(leaf.shape, np.float32).astype(leaf.dtype) for name, leaf in abstract.items()}
    face = (TEMPLATE - TEMPLATE.mean(0)) / ALIGNED_SIDE * min(config.data.height, config.data.width) / 2
    class_word = range(1, 1 + config.data.references * config.model.adapter.id_tokens)
    not_drawn = {
        "class_mask": np.isin(np.arange(config.model.transformer.text_length), class_word),
        "face_mask": 1.0,
        "face_visible": True,
        "landmarks": face + [config.data.width / 2, config.data.height / 2],
    }
    for name in not_drawn.keys() & batch:
        batch[name][:] = not_drawn[name]
    return jax.device_put(batch, sharding.batch_sharding(mesh, size))


@functools.cache  # leaves of one shape share a program: compiling them one by one took longer than what they are for
def _drawing(leaf: jax.ShapeDtypeStruct):
    def values(number, mean):
        noise = jax.random.normal(jax.random.key(number, impl="rbg"), leaf.shape, leaf.dtype)
        return (mean + 0.02 * noise).astype(leaf.dtype)

    return jax.jit(values, out_shardings=leaf.sharding)


def _case(name, function, arguments, operations=None, takes_over=False) -> Case:
    """A jitted function, compiled for its arguments."""
    began = time.perf_counter()
    compiled = function.lower(*arguments).compile()
    seconds = time.perf_counter() - began
    return Case(name, compiled, arguments, seconds, compiled, operations, takes_over)


def _text(config, mesh):
    function, params, tokens = parts.text_encoder(config, mesh)
    return function, (draw(params), jax.device_put(jnp.ones(tokens.shape, tokens.dtype), tokens.sharding))


def _faces(config, mesh):
    record, dtype = sizes.PhotoMaker(), jnp.dtype(config.precision.compute)
    network = CLIPVisionTower(record.clip, make_policy(config.precision, config.runtime))
    model = build.make_model(config)
    clip = draw(parts.placed(abstract_photomaker(record), mesh, dtype)["clip"])
    branch = {"face_encoder": draw(build.abstract_params(config, mesh)["face_encoder"])}
    batch = random_batch(config, 1, mesh)
    pictures = jnp.zeros((1, record.clip.side, record.clip.side, 3))

    def run(clip, branch, pictures, batch):
        last, penultimate = network.apply({"params": clip}, pictures)
        batch = batch | {"clip_last": last[:, None], "clip_penultimate": penultimate[:, None]}
        return model.apply({"params": branch}, batch, method="encode")

    return jax.jit(run), (clip, branch, pictures, batch)


def _transformer(config, mesh, wanted) -> Iterator[Case]:
    model, abstract, shape = build.make_model(config), parts.denoiser_params(config, mesh), parts.sample_latents(config)
    trained, frozen = split_trainable(config, abstract)
    needed = flops.sample_flops(config, trained, frozen, shape)
    bare = dataclasses.replace(config, model=c.Model(config.model.transformer, c.Adapter(enabled=False)))
    alone = flops.sample_flops(bare, {}, abstract, shape)

    def denoise(params, latents, timesteps, conditions):
        return model.apply({"params": params}, latents, timesteps, conditions, method="denoise")

    shares = sharding.batch_shares(mesh)
    params, pair = draw(abstract), random_batch(config, 2 * shares, mesh)
    inputs = params, pair["latents"], jnp.full(2 * shares, 999)
    if "base" in wanted:
        yield _case("base", jax.jit(denoise), (*inputs, Conditions(pair["text"])), 2 * shares * alone.forward)
    if "adapter" in wanted:
        conditions = jax.jit(lambda p, b: model.apply({"params": p}, b, method="encode"))(params, pair)
        yield _case("adapter", jax.jit(denoise), (*inputs, conditions), 2 * shares * needed.forward)
        del conditions
    del inputs, pair
    if "video" in wanted:
        yield _video(config, mesh, params, needed.forward)
    if "train" in wanted:
        batch = random_batch(config, shares, mesh)
        judging = random_judges(config, mesh)
        function, state = parts.training_step(config, mesh, judging)
        state = training_state(state, params)
        del params
        arguments = state, judging.params if judging else {}, batch
        yield _case("train", function, arguments, shares * needed.training, takes_over=True)


def _video(config, mesh, params, forward) -> Case:
    """One video through the sampler's own loop, compiled as the sampler compiles it; what goes before is small."""
    denoiser, size = Denoiser(config, mesh), (max(config.data.frames), config.data.height, config.data.width)
    batch = jax.device_get(random_batch(config, 1, mesh))
    run = lambda: denoiser(params, batch, np.zeros_like(batch["text"][0]), [0], size)  # noqa: E731
    forwards = config.sampling.steps * (1 if config.sampling.guidance == 1 else 2)
    began = time.perf_counter()
    program = denoiser.program(params, size, config.data.references)
    spent = time.perf_counter() - began
    return Case("video", run, (), spent, program, forwards * forward, once=True)


def _autoencoder(config, mesh, wanted) -> Iterator[Case]:
    if not {"decode", "decode_tiled", "encode"} & set(wanted):
        return
    record = model_settings.VAE()
    params = draw(parts.placed(abstract_vae(record), mesh, jnp.dtype(config.precision.decode)))
    frames, height, width = max(config.data.frames), config.data.height, config.data.width
    latents = np.random.default_rng(0).standard_normal((1, *parts.sample_latents(config)), np.float32)
    video = np.zeros((1, frames, height, width, 3), np.uint8)
    for name, method, tiling, value in (
        ("decode", "decode", False, latents),
        ("decode_tiled", "decode", True, latents),
        ("encode", "encode", False, video),
    ):
        if name in wanted:
            autoencoder = CogVideoXAutoencoder(record, params, mesh, config.precision, tiling)
            yield Case(name, getattr(autoencoder, method), (value,))


def random_judges(config: c.Experiment, mesh: jax.sharding.Mesh) -> Judges | None:
    """The judge that `loss.identity` names, with a decoder of random weights."""
    judging = parts.abstract_judges(config, mesh)
    if judging is None:
        return None
    params = {"recogniser": load_arcface(find_pack(config.loss.identity.judge)).params}
    if judging.vae is not None:
        params["decoder"] = draw(judging.params["decoder"])
    return dataclasses.replace(judging, params=jax.device_put(params, sharding.replicated(mesh)))


def _identity(config: c.Experiment, mesh: jax.sharding.Mesh):
    """The identity term alone, and its gradient to the prediction; the last frame needs the most of the decoder."""
    judging, size = random_judges(config, mesh), sharding.batch_shares(mesh)
    batch, yes = random_batch(config, size, mesh), jnp.ones(size, bool)
    v, schedule = batch["latents"].astype(jnp.float32), make_schedule(config.schedule)
    draws = Draws(jnp.zeros(size, jnp.int32), v, ~yes, yes, yes, frame=jnp.full(size, 0.999))

    def loss(v, judges, batch, draws):
        return objective([judging.identity(config)], Prediction(batch, draws, schedule, draws.noise, v, v), judges)[0]

    return jax.jit(jax.value_and_grad(loss)), (v, judging.params, batch, draws)


def training_state(abstract: states.TrainState, params: build.Params) -> states.TrainState:
    """A state round the given parameters, wherever they are: each leaf where `abstract` has it, the moments zero."""

    def put(values, wanted):
        return jax.tree.map(lambda value, leaf: jax.device_put(value, leaf.sharding), values, wanted)

    trained, frozen = (
        trees.unflatten({path: trees.flatten(params)[path] for path in trees.flatten(part)})
        for part in (abstract.trained, abstract.frozen)
    )
    trained, frozen = put(trained, abstract.trained), put(frozen, abstract.frozen)
    moments = jax.tree.map(
        lambda leaf: jax.device_put(jnp.zeros(leaf.shape, leaf.dtype), leaf.sharding), abstract.opt_state
    )
    ema = abstract.ema and put(jax.tree.map(lambda leaf: leaf.astype(jnp.float32) + 0, trained), abstract.ema)
    return states.TrainState(jnp.zeros((), jnp.int32), trained, frozen, moments, ema)


def define_flags() -> None:
    """The command line's own flags, beside those of `mmjax.cli`."""
    flags.DEFINE_integer("repeats", 5, "Timed repeats of each measurement.", lower_bound=1)
    cli.define_path("output", "", "JSON file for the figures, beside the printed table.")
    flags.DEFINE_bool("overwrite", False, f"{outputs.OVERWRITE_HELP.capitalize()}.")
    flags.DEFINE_multi_enum(
        "only", None, list(MEASUREMENTS | bench_plan.PARTS), "Measurements to make, or parts to plan; all by default."
    )
    flags.DEFINE_bool("plan", False, "Compile the parts and say what they will take; run nothing.")
    flags.DEFINE_string("topology", None, "TPU slice to plan for, such as v6e:2x4: it need not be here, libtpu does.")


def main() -> None:
    """Prints the table of the experiment that `--config` names."""
    given, config = flags.FLAGS, cli.experiment()
    cli.keep_compiled_programs(given.compilation_cache)
    planned = [outputs.Output("--output", given.output)] if given.output else []
    with outputs.claim(planned, overwrite=given.overwrite) as claim:
        if given.plan or given.topology:
            (device, rows), shown = _planned(config, given.topology, given.only or ()), bench_plan.table
        else:
            (device, rows), shown = _measured(config, given.repeats, given.only or ()), table
        print(shown(rows, device))
        if given.output:
            claim.recheck()
            files.write_json(given.output, {"notice": _NOTICE, "device": device, "rows": rows}, indent=1)


def _measured(config: c.Experiment, repeats: int, only: Sequence[str]) -> tuple[str, list[dict]]:
    """(the device and what it held, the rows)."""
    rows = bench(config, repeats, only)
    stats = jax.local_devices()[0].memory_stats() or {}
    held = f", at most {stats['peak_bytes_in_use'] / 2**30:.1f} GiB held" if "peak_bytes_in_use" in stats else ""
    device = f"{config.name} on {jax.device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}{held}"
    return device, rows


def _planned(config: c.Experiment, topology: str | None, only: Sequence[str]) -> tuple[str, list[dict]]:
    """(the devices that are planned for, the rows)."""
    mesh = sharding.make_mesh(config.mesh, bench_plan.topology(topology) if topology else None)
    return bench_plan.described(config, mesh), bench_plan.plan(config, mesh, only)


callable_command(__name__)

if __name__ == "__main__":
    cli.run(main, define_flags)
