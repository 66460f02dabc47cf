"""What is lost when float16 weights, as CogVideoX-2B is published, are kept or computed in bfloat16.

bfloat16 has float16's range and more, but 8 bits of precision where float16 has 11: most values are rounded. The error
is measured on the weights themselves while they are loaded, and reported in one line, never passed over.
"""

import dataclasses
import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from absl import logging

from mmjax import sharding

FROM, TO = np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)
_CHUNK = 2**22  # values that are widened to float32 at a time on the host


@dataclasses.dataclass(frozen=True)
class RoundingLoss:
    """The error of values that were rounded, here to bfloat16, summed so that parts add up.

    values: how many. error, size: sums of squares, of what was lost and of the values. largest: relative error.
    """

    values: int = 0
    error: float = 0.0
    size: float = 0.0
    largest: float = 0.0

    def __add__(self, other: "RoundingLoss") -> "RoundingLoss":
        largest = max(self.largest, other.largest)
        return RoundingLoss(self.values + other.values, self.error + other.error, self.size + other.size, largest)

    @property
    def relative_rms(self) -> float:
        """Root mean square of what was lost over that of the values."""
        return (self.error / self.size) ** 0.5 if self.size else 0.0


def is_rounded(stored, wanted) -> bool:
    """Whether values of the dtype `stored` are float16 that `wanted` rounds to bfloat16."""
    return np.dtype(stored) == FROM and np.dtype(wanted) == TO


def round_leaf(leaf: jax.Array) -> tuple[jax.Array, RoundingLoss]:
    """A float16 array as bfloat16, in the same shards on the same devices, and what that lost.

    Of an array in host memory (`sharding.in_host_memory`) the loss is that of this process's shards.
    """
    if leaf.sharding.memory_kind == "pinned_host":  # where no program computes
        return _round_on_host(leaf)
    values, *sums = _program(leaf.sharding)(leaf)
    error, size, largest = (np.asarray(part, np.float64) for part in sums)
    return values, RoundingLoss(leaf.size, float(error.sum()), float(size.sum()), float(largest.max(initial=0)))


def measure(leaves: Iterable[jax.Array | np.ndarray]) -> RoundingLoss:
    """What the float16 arrays among the leaves lose where they are computed with in bfloat16; nothing is changed."""
    return sum((_round_in_chunks(np.asarray(leaf))[1] for leaf in leaves if leaf.dtype == FROM), RoundingLoss())


def report(what: str, loss: RoundingLoss, setting: str) -> None:
    """Logs the loss in one line, with the setting that keeps the values exact; nothing where nothing was rounded."""
    if loss.values and jax.process_index() == 0:
        logging.warning(
            "%s: %s float16 weights are rounded to bfloat16, off by %.2f %% (rms over rms), one value by at most "
            "%.2f %%; %s=float32 keeps them exact (mmjax.sample: --precision float32), in twice the memory",
            *(what, f"{loss.values:,}", 100 * loss.relative_rms, 100 * loss.largest, setting),
        )


@functools.cache
def _program(place: jax.sharding.Sharding):
    """(values, sums of squares of the error and of the values for each row, largest relative error of each row)."""
    everywhere = sharding.replicated(place.mesh) if isinstance(place, jax.sharding.NamedSharding) else place

    def run(leaf):
        exact = leaf.astype(jnp.float32)
        rounded = jax.lax.reduce_precision(exact, 8, 7)  # a cast there and back is what XLA may leave out
        lost = jnp.abs(rounded - exact)
        relative = jnp.where(exact == 0, 0, lost / jnp.where(exact == 0, 1, jnp.abs(exact)))
        rows = [jnp.sum(lost**2, -1), jnp.sum(exact**2, -1), jnp.max(relative, -1, initial=0)] if leaf.ndim else []
        return rounded.astype(TO), *(rows or (lost**2, exact**2, relative))

    return jax.jit(run, out_shardings=(place, *3 * (everywhere,)))


def _round_on_host(leaf: jax.Array) -> tuple[jax.Array, RoundingLoss]:
    shards, loss = [], RoundingLoss()
    for shard in leaf.addressable_shards:
        values, lost = _round_in_chunks(np.asarray(shard.data))
        place = jax.sharding.SingleDeviceSharding(shard.device, memory_kind=leaf.sharding.memory_kind)
        shards.append(jax.device_put(values, place))
        loss += lost if shard.replica_id == 0 else RoundingLoss()
    return jax.make_array_from_single_device_arrays(leaf.shape, leaf.sharding, shards), loss


def _round_in_chunks(values: np.ndarray) -> tuple[np.ndarray, RoundingLoss]:
    flat, loss = values.reshape(-1), RoundingLoss()
    rounded = np.empty(flat.shape, TO)
    for start in range(0, flat.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        exact = flat[part].astype(np.float32)
        rounded[part] = exact.astype(TO)
        lost, size = np.abs(rounded[part].astype(np.float32) - exact), np.abs(exact)
        relative = np.divide(lost, size, out=np.zeros_like(lost), where=size > 0)
        squares = (float(np.sum(np.square(each), dtype=np.float64)) for each in (lost, size))
        loss += RoundingLoss(exact.size, *squares, float(relative.max()))
    return rounded.reshape(values.shape), loss
