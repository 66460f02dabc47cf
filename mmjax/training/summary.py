"""What a run says before its first step: parameters by subtree, bytes by category; and where memory is too small."""

import contextlib
from collections.abc import Iterator

import jax

from mmjax import trees
from mmjax.errors import MMJaxError
from mmjax.models.build import Params
from mmjax.training.state import TrainState, bytes_per_device

GIB = 2**30


def parameter_table(trained: Params, frozen: Params) -> str:
    """Trained and total parameters of every subtree, a line each, and their sum."""
    rows: dict[str, list[int]] = {}
    for tree, column in ((trained, 0), (frozen, 1)):
        for path, leaf in trees.flatten(tree).items():
            rows.setdefault(subtree(path), [0, 0])[column] += trees.count({"leaf": leaf})
    rows = dict(sorted(rows.items()))
    rows["all"] = [sum(column) for column in zip(*rows.values(), strict=True)]
    width = max(map(len, rows))
    lines = [f"{'parameters':{width}}  {'trained':>15}  {'total':>15}"]
    lines += [f"{name:{width}}  {mine:15,}  {mine + rest:15,}" for name, (mine, rest) in rows.items()]
    return "\n".join(lines)


def subtree(path: str) -> str:
    """The part of the model that a parameter belongs to: two levels of the tree, or four of the adapter's."""
    parts = path.split("/")
    depth = 4 if parts[1:3] == ["blocks", "adapter"] else 3 if parts[1:2] == ["blocks"] else 2
    return "/".join(parts[:depth])


def predicted_bytes(abstract: TrainState) -> dict[str, int]:
    """Bytes that the fullest device needs, by category, from shapes and shardings alone; activations come on top."""
    return {
        "frozen parameters": bytes_per_device(abstract.frozen),
        "trained parameters": bytes_per_device(abstract.trained),
        "optimizer": bytes_per_device(abstract.opt_state),
        "EMA": bytes_per_device(abstract.ema),
        "gradients": bytes_per_device(trees.in_float32(abstract.trained)),
    }


def memory_line(predicted: dict[str, int]) -> str:
    """The prediction in one line."""
    listed = ", ".join(f"{name} {size_text(size)}" for name, size in predicted.items())
    return f"memory a device, predicted: {size_text(sum(predicted.values()))} = {listed}"


def measured_bytes() -> int | None:
    """Peak bytes in use on the fullest local device, None where the platform does not say (CPU)."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    return max((stat["peak_bytes_in_use"] for stat in stats if "peak_bytes_in_use" in stat), default=None)


@contextlib.contextmanager
def explained_memory() -> Iterator[None]:
    """Turns a device's running out of memory into an `MMJaxError` that says what takes less."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise MMJaxError(
            f"the memory of a device is too small ({str(error).splitlines()[0][:200]}); less is taken with a larger "
            "train.accumulate, smaller data.batches, runtime.remat=full, or parameters spread over more devices "
            "(mesh.fsdp)"
        ) from error


def size_text(size: int) -> str:
    """Bytes for people."""
    return f"{size / GIB:.2f} GiB" if size >= GIB / 10 else f"{size / 2**20:.2f} MiB"
