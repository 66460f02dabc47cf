"""bfloat16 compute stays near float32, and what is delicate stays in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.precision import Policy
from tests.helpers import tiny


@pytest.mark.slow
def test_bfloat16_compute_is_near_float32():
    params, batch, (latents, timesteps) = tiny.drawn(), tiny.batch(), tiny.inputs()

    def run(compute):
        return jax.jit(tiny.make(policy=Policy(compute)).apply)({"params": params}, batch, latents, timesteps)

    exact, half = (run(name) for name in ("float32", "bfloat16"))
    error = float(np.linalg.norm(half - exact) / np.linalg.norm(exact))
    print(f"bfloat16 compute: {error:.1e} off float32 (norm of the difference over the norm)")
    assert exact.dtype == half.dtype == jnp.float32
    assert 1e-4 < error < 5e-2


@pytest.mark.slow
def test_frozen_bfloat16_weights_are_what_the_compute_dtype_would_have_made_of_them():
    params, batch, (latents, timesteps) = tiny.drawn(), tiny.batch(), tiny.inputs()

    def stored(path, leaf):  # the time embedding computes in float32 and reads all its digits
        return leaf.astype(jnp.bfloat16) if path[-1].key == "kernel" and "time_embed" not in str(path) else leaf

    kernels = jax.tree.map_with_path(stored, params)
    apply = jax.jit(tiny.make(policy=Policy("bfloat16")).apply)
    np.testing.assert_array_equal(
        apply({"params": params}, batch, latents, timesteps), apply({"params": kernels}, batch, latents, timesteps)
    )
