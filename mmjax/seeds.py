"""From a seed to a random key: the one rule, for sampling and for training; and a key that is none, for shapes."""

import jax
from jaxtyping import Array, Key

from mmjax.validation import SEED

_WORD = 32  # bits that `jax.random.key` takes without 64-bit integers: of a larger seed it drops the rest in silence
_HIGH = 0x5EED  # folded in before the high word, which could otherwise be a sample's or a step's number


def random_key(seed: int) -> Key[Array, ""]:
    """The key of a seed of 0 to 2^64 - 1; each has its own.

    Below 2^32 it is `jax.random.key(seed)`; the high word of a larger seed is folded into the key of its low word.
    Raises `ConfigError` for any other number.
    """
    seed = SEED.checked("seed", seed)
    high, low = seed >> _WORD, seed & (2**_WORD - 1)
    key = jax.random.key(low)
    return jax.random.fold_in(jax.random.fold_in(key, _HIGH), high) if high else key


def abstract_key() -> jax.ShapeDtypeStruct:
    """A key's shape and dtype, for `jax.eval_shape` of what draws: no array is made, also where a mesh is not here."""
    return jax.eval_shape(lambda: jax.random.key(0))
