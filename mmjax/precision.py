"""The one dtype policy.

Weights are kept in the dtypes of `config.Precision` (trained ones in float32, frozen ones in bfloat16 by default),
matrix products run in the compute dtype, and what is delicate runs in float32 whatever the policy: norms, softmax,
rotary and time embeddings, the modulated sums, the loss. Modules cast at their own border; nothing else casts.
"""

import jax.numpy as jnp

from mmjax.config import Precision

FLOAT32 = Precision(compute="float32", trained="float32", frozen="float32", decode="float32")


def compute_dtype(precision: Precision) -> jnp.dtype:
    """Dtype of matrix products and of the residual streams."""
    return jnp.dtype(precision.compute)


def trained_dtype(precision: Precision) -> jnp.dtype:
    """Dtype in which trained weights are kept."""
    return jnp.dtype(precision.trained)


def frozen_dtype(precision: Precision) -> jnp.dtype:
    """Dtype in which frozen weights are kept."""
    return jnp.dtype(precision.frozen)
