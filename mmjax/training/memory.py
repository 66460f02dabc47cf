"""What a run will hold of a device's memory, said and checked before weights are read, and what would take less.

Twice: first the state and the gradients, from shapes and shardings alone; then the compiled step, which knows what the
activations take. A run that cannot fit is refused at once, with the settings that would help, the cheapest first.
"""

import contextlib
from collections.abc import Iterator, Sequence

import jax

from mmjax import device_memory, sharding, trees
from mmjax.errors import ConfigError, MMJaxError
from mmjax.models import build
from mmjax.training.state import TrainState, bytes_per_device
from mmjax.training.summary import size_text
from mmjax.training_settings import TrainingExperiment

_ACTIVATIONS = "gradients and activations"


def state_bytes(abstract: TrainState, judges: trees.Tree | None = None, on_host: bool = False) -> dict[str, int]:
    """Bytes of the state and of the judges beside it on the fullest device, from shapes and shardings alone.

    With `on_host` those that its host holds for it (`runtime.offload`, `runtime.stream`).
    """
    parts = {
        "frozen": abstract.frozen,
        "trained": abstract.trained,
        "optimizer": abstract.opt_state,
        "EMA": abstract.ema,
        "judges": judges,
    }
    return {name: bytes_per_device(part, on_host) for name, part in parts.items() if name != "judges" or judges}


def gradient_bytes(abstract: TrainState) -> int:
    """Bytes of the gradients on the fullest device: float32, all there at once, since their norm is clipped."""
    return bytes_per_device(trees.in_float32(abstract.trained))


def state_line(abstract: TrainState, judges: trees.Tree | None = None) -> str:
    """The state's memory in one line."""
    on_device = state_bytes(abstract, judges) | {"gradients": gradient_bytes(abstract)}
    return f"memory a device, before activations: {_sum(on_device)}{_host_part(abstract)}"


def step_line(held: int, abstract: TrainState, judges: trees.Tree | None = None) -> str:
    """The memory of a compiled step that holds `held` bytes of a device, in one line."""
    parts = state_bytes(abstract, judges)
    parts[_ACTIVATIONS] = held - sum(parts.values())
    return f"memory a device: {_sum(parts)}{_host_part(abstract)}"


def check_state(config: TrainingExperiment, abstract: TrainState, judges: trees.Tree | None = None) -> None:
    """Refuses a run whose state and gradients alone are larger than a device, before anything is compiled.

    Raises `ConfigError` that says what would take less.
    """
    needed = sum(state_bytes(abstract, judges).values()) + gradient_bytes(abstract)
    _check("state and gradients", needed, config, abstract)


def check_step(config: TrainingExperiment, abstract: TrainState, held: int, latents: Sequence[int]) -> None:
    """Refuses a step that holds more than a device has (`ConfigError`); `latents` is the shape of its batch."""
    _check(f"a step for latents {list(latents)}", held, config, abstract)


def savings(config: TrainingExperiment, abstract: TrainState) -> list[str]:
    """Settings that would take less memory of a device, with how much that is, those that cost least time first."""
    parts, runtime = state_bytes(abstract), config.runtime
    blocks = bytes_per_device(trees.split(abstract.frozen, build.STREAMED, may_be_empty=build.STREAMED)[0])
    shares = sharding.batch_shares(abstract.step.sharding.mesh)

    def offload(name: str, part: str) -> tuple[bool, str]:
        names = f'"({name!r}, {runtime.offload[0]!r})"' if runtime.offload else name
        return name not in runtime.offload and parts[part] > 0, f"runtime.offload={names} ({size_text(parts[part])})"

    rows = (
        (
            max(config.data.batches) > config.train.accumulate * shares,
            "train.accumulate, or smaller data.batches (activations)",
        ),
        (
            config.optim.moments == "float32",
            f"optim.moments=bfloat16 in a new run ({size_text(parts['optimizer'] // 2)})",
        ),
        (runtime.remat != "full", "runtime.remat=full (activations)"),
        offload("ema", "EMA"),
        (blocks > 0, f"runtime.stream=True ({size_text(blocks)})"),
        offload("moments", "optimizer"),
        (True, "parameters spread over more devices (mesh.fsdp)"),
    )
    return [setting for helps, setting in rows if helps]


@contextlib.contextmanager
def explained(config: TrainingExperiment, abstract: TrainState) -> Iterator[None]:
    """Turns a device's running out of memory all the same into an `MMJaxError` that says what takes less."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise MMJaxError(
            f"the memory of a device is too small ({str(error).splitlines()[0][:200]}); {_advice(config, abstract)}"
        ) from error


def _check(what: str, needed: int, config: TrainingExperiment, abstract: TrainState) -> None:
    limit = device_memory.device_limit()
    if limit is not None and needed > limit:
        raise ConfigError(
            f"{what}: expected at most the {size_text(limit)} of memory that a device has, found {size_text(needed)}; "
            f"{_advice(config, abstract)}"
        )


def _advice(config: TrainingExperiment, abstract: TrainState) -> str:
    return f"less is taken, the cheapest first, with {', '.join(savings(config, abstract))}"


def _mesh(abstract: TrainState) -> jax.sharding.Mesh:
    return abstract.step.sharding.mesh


def _sum(parts: dict[str, int]) -> str:
    listed = ", ".join(f"{name} {size_text(size)}" for name, size in parts.items())
    return f"{size_text(sum(parts.values()))} = {listed}"


def _host_part(abstract: TrainState) -> str:
    size = sum(state_bytes(abstract, on_host=True).values())
    return f"; {size_text(size)} in host memory" if size else ""
