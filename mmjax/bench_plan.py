"""What the parts of a model will take of every chip, by the compiler alone: nothing is run, no array is made.

`python -m mmjax.bench --config configs/X.py --plan` plans for the machine at hand, `--topology v6e:2x4` for a TPU slice
that is not here: the TPU's own compiler, libtpu, runs on any x86 Linux machine (`pip install "mmjax[tpu-plan]"`).

    for row in plan(config, sharding.make_mesh(config.mesh, topology("v6e:2x4")), only=["guided"]):
        print(row["held_bytes"], row["fits"], row["collectives"])

A part is planned by itself, as if nothing else were on the chip. The body of a loop counts once among collectives and
in the compiler's operations, so those are about two blocks of a transformer's.
"""

import importlib.util
import os
import re
import sys
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from mmjax import bench_parts as parts
from mmjax import collectives, device_memory, model_settings, sharding
from mmjax import config as c
from mmjax.conversion.vae import abstract_vae
from mmjax.encoders.vae import CogVideoXAutoencoder
from mmjax.errors import ConfigError, error_text
from mmjax.models import flops
from mmjax.sampling import Denoiser

PARTS = {
    "text": "text encoder, prompt and negative prompt",
    "guided": "guided denoising step, 1 video a share",
    "train": "training step, 1 sample a share",
    "decode": "decoder, 1 video",
    "decode_tiled": "decoder, a tile of 1 video",
    "encode": "encoder, 1 video",
}
_PUBLISHED_ONLY = ("text", "decode", "decode_tiled", "encode")  # the `pixel` autoencoder has no networks
_ALONE = {  # libtpu neither asks for the machine's own TPUs, nor bars other processes from it, nor tells what it misses
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v6e-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
}
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_REFUSED = re.compile(r"(?:Used |required for [\w ]+\()(?P<used>[\d.]+)(?P<unit>[KMGT]?)")

_Part = tuple[Callable[[], jax.stages.Compiled], float | None]  # what compiles it, and operations on all devices


def plan(config: c.Experiment, mesh: jax.sharding.Mesh | None = None, only: Sequence[str] = ()) -> list[dict]:
    """One row for each part, as `table` shows them.

    Keys: name, what; argument_bytes, temporary_bytes and held_bytes (with results) of a chip, memory_bytes that it has
    and whether the part fits, None where that is not known; flops of a chip by our own count and compiler_flops by the
    compiler's, None where not counted; compile_seconds; collectives, {kind: {"count", "bytes"}}; refused, what the
    compiler says where it finds no room: then held_bytes is what it names and the rest is None.

    Args:
      config: sizes, mesh, precision and what is trained; its longest source says the frames.
      mesh: of devices here, by default, or of a `topology`.
      only: some of `PARTS`; all by default. With the `pixel` autoencoder the published networks are left out.

    Raises `ConfigError` for a part that is not known.
    """
    mesh, wanted = mesh or sharding.make_mesh(config.mesh), tuple(only) or tuple(PARTS)
    if unknown := sorted(set(wanted) - set(PARTS)):
        raise ConfigError(f"only = {', '.join(unknown)}: expected some of {', '.join(PARTS)} for a plan")
    rows = []
    for name in wanted:
        if config.autoencoder.name == "cogvideox" or name not in _PUBLISHED_ONLY:
            rows.append(_row(name, mesh, *_MAKE[name](config, mesh)))
            print(f"{rows[-1]['what']}: {rows[-1]['compile_seconds']:.0f} s", file=sys.stderr, flush=True)
    return rows


def topology(name: str) -> list[jax.Device]:
    """The devices of a TPU slice, such as v6e:2x4, that programs can be compiled for and not run on.

    Sets variables of the environment that keep libtpu to itself, so a process that asks for this trains on no TPU.
    Raises `ConfigError` where libtpu is not installed or does not know the slice.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError(
            f'--topology {name}: expected the TPU\'s compiler, found no package libtpu; pip install "mmjax[tpu-plan]" '
            "(Linux, x86), or leave --topology out and plan for this machine with --plan"
        )
    for variable, value in _ALONE.items():
        os.environ.setdefault(variable, value)
    try:
        return list(topologies.get_topology_desc(name, "tpu").devices)
    except RuntimeError as error:
        raise ConfigError(
            f"--topology {name}: expected a TPU slice such as v5e:4x4, v5p:2x2x1 or v6e:2x4, found {error_text(error)}"
        ) from error


def table(rows: list[dict], device: str) -> str:
    """The rows as a Markdown table under a line that says for which devices."""
    head = "| what | GiB a chip | of these arguments | temporaries | of | fits | TFLOP a chip | by the compiler |"
    lines = [f"{device}, nothing was run", "", f"{head} compile s | collectives |", "|---" * 10 + "|"]
    for row in rows:
        sizes = [_cell(row[f"{key}_bytes"], 2**30, 2) for key in ("held", "argument", "temporary", "memory")]
        fits = {True: "yes", False: "no", None: ""}[row["fits"]]
        counted = [_cell(row[key], 1e12, 1) for key in ("flops", "compiler_flops")]
        sent = {kind: collectives.Total(**total) for kind, total in (row["collectives"] or {}).items()}
        told = "" if row["refused"] else collectives.table(sent)
        cells = [row["what"], *sizes, fits, *counted, _cell(row["compile_seconds"], 1, 0), told]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def described(config: c.Experiment, mesh: jax.sharding.Mesh) -> str:
    """The experiment, the mesh and the devices, in words."""
    axes = ", ".join(f"{axis} {size}" for axis, size in mesh.shape.items() if size > 1) or "one device"
    kind = mesh.devices.flat[0].device_kind
    return f"{config.name} for {mesh.size} x {kind} ({axes}), jax {jax.__version__}"


def _row(name: str, mesh: jax.sharding.Mesh, compile_: Callable[[], jax.stages.Compiled], operations) -> dict:
    began, program, refused = time.perf_counter(), None, ""
    try:
        program = compile_()
    except jax.errors.JaxRuntimeError as error:
        refused = str(error)
        if "RESOURCE_EXHAUSTED" not in refused:
            raise
    seconds, memory = time.perf_counter() - began, device_memory.capacity(mesh.devices.flat[0])
    held = _named(refused) if program is None else device_memory.held_bytes(program)
    fits = held <= memory if held and memory else None
    return {
        "name": name,
        "what": PARTS[name],
        "held_bytes": held,
        **_analysis(program),
        "memory_bytes": memory,
        "fits": False if refused else fits,
        "flops": operations and operations / mesh.size,
        "compile_seconds": seconds,
        "refused": refused.partition("\n")[0],
    }


def _analysis(program: jax.stages.Compiled | None) -> dict:
    """What the compiler says of a program; nothing of one that it refused."""
    memory = program and program.memory_analysis()
    counted = (program and program.cost_analysis() or {}).get("flops", 0)
    totals = collectives.collectives(program) if program else {}
    return {
        "argument_bytes": memory and memory.argument_size_in_bytes,
        "temporary_bytes": memory and memory.temp_size_in_bytes,
        "compiler_flops": counted if counted > 0 else None,
        "collectives": {kind: total._asdict() for kind, total in totals.items()} if program else None,
    }


def _named(refused: str) -> int | None:
    """The bytes that a refusal names: "Used 35.5G of 31.25G hbm", "required for HLO temporaries (40G) exceeds"."""
    found = _REFUSED.search(refused)
    return int(float(found["used"]) * _UNITS[found["unit"]]) if found else None


def _cell(value: float | None, unit: float, digits: int) -> str:
    return "" if value is None else f"{value / unit:.{digits}f}"


def _text(config: c.Experiment, mesh: jax.sharding.Mesh) -> _Part:
    function, *arguments = parts.text_encoder(config, mesh)
    return _compiles(mesh, function, *arguments), None


def _guided(config: c.Experiment, mesh: jax.sharding.Mesh) -> _Part:
    """The sampler's own step."""
    denoiser, abstract, videos = (
        Denoiser(config, mesh),
        parts.denoiser_params(config, mesh),
        sharding.batch_shares(mesh),
    )
    size = max(config.data.frames), config.data.height, config.data.width
    forward = flops.sample_flops(config, {}, abstract, parts.sample_latents(config)).forward
    operations = videos * forward * (1 if config.sampling.guidance == 1 else 2)
    return lambda: denoiser.program(abstract, size, config.data.references, videos), operations


def _train(config: c.Experiment, mesh: jax.sharding.Mesh) -> _Part:
    judging, size = parts.abstract_judges(config, mesh), sharding.batch_shares(mesh)
    function, state = parts.training_step(config, mesh, judging)
    needed = flops.sample_flops(config, state.trained, state.frozen, parts.sample_latents(config))
    batch = parts.abstract_batch(config, size, mesh)
    return _compiles(mesh, function, state, judging.params if judging else {}, batch), size * needed.training


def _autoencoder(config: c.Experiment, mesh: jax.sharding.Mesh, tiling: bool = False) -> CogVideoXAutoencoder:
    record = model_settings.VAE()
    boxed, dtypes = abstract_vae(record), {"encoder": config.precision.encode, "decoder": config.precision.decode}
    params = {half: parts.placed(boxed[half], mesh, jnp.dtype(dtype)) for half, dtype in dtypes.items()}
    return CogVideoXAutoencoder(record, params, mesh, config.precision, tiling)


def _decode(config: c.Experiment, mesh: jax.sharding.Mesh, tiling: bool = False) -> _Part:
    autoencoder, data = _autoencoder(config, mesh, tiling), config.data
    latents = config.autoencoder.latent_shape(max(data.frames), data.height, data.width)
    return lambda: autoencoder.decoder_program((1, *latents)), None


def _decode_tiled(config: c.Experiment, mesh: jax.sharding.Mesh) -> _Part:
    return _decode(config, mesh, tiling=True)


def _encode(config: c.Experiment, mesh: jax.sharding.Mesh) -> _Part:
    autoencoder, data = _autoencoder(config, mesh), config.data
    return lambda: autoencoder.encoder_program((1, max(data.frames), data.height, data.width, 3)), None


def _compiles(mesh: jax.sharding.Mesh, function, *arguments) -> Callable[[], jax.stages.Compiled]:
    def compile_():
        with sharding.use_mesh(mesh):
            return function.lower(*arguments).compile()

    return compile_


_MAKE: dict[str, Callable[[c.Experiment, jax.sharding.Mesh], _Part]] = {
    "text": _text,
    "guided": _guided,
    "train": _train,
    "decode": _decode,
    "decode_tiled": _decode_tiled,
    "encode": _encode,
}
