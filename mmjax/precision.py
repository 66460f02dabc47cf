"""The one precision policy: which dtype a product runs in, what a float32 product means, in which dtype weights rest.

Matrix products and convolutions run in the compute dtype, and what is delicate runs in float32 whatever the policy:
norms, softmax, rotary and time embeddings, the modulated sums, the loss. Layers do not decide: they ask the `Policy`
that they were given, by their path, so that another kind of product can be chosen for some paths without touching them.
ArcFace, whose graph is data, has its own rule (`models/arcface/operators.py`).

A float32 product is not one on every machine, and `config.Precision.float32_products` says which one is meant, in XLA's
words. On Hopper `highest` is IEEE float32, `high` and `default` are TF32 (10 bits of mantissa); on a TPU they are six,
three and one passes of bfloat16; on a CPU all three are IEEE float32. It matters above all for the VAE's encoder, whose
latents enter records. Measured on one H100, 49 x 480 x 720, random weights of He's scale: TF32 moves the latents by
0.11 % (rms over rms; 0.16 % at most of the largest), less than records' rounding to bfloat16 does (0.17 %; 0.26 %), and
takes 0.68 s where IEEE float32 takes 4.47 s. Hence `high` by default.
"""

import dataclasses
import re

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmjax import config as c

FLOAT32 = c.Precision(compute="float32", trained="float32", frozen="float32", decode="float32")
_LARGE = re.compile(r"(?!.*time_embed).*kernel")  # what rests in the dtype of frozen weights: products' kernels


@dataclasses.dataclass(frozen=True)
class Policy:
    """How a network computes; the object that its layers ask.

    compute: dtype of products and of the residual streams.
    float32_products: "highest" (IEEE float32), "high" or "default"; see the module's docstring.
    attention: back-end of the joint attention, see `mmjax.nn.attention`.
    """

    compute: str = "float32"
    float32_products: str = "highest"
    attention: str = "auto"

    @property
    def dtype(self) -> jnp.dtype:
        """The compute dtype."""
        return jnp.dtype(self.compute)

    @property
    def product(self) -> jax.lax.Precision | None:
        """XLA's precision of a product in the compute dtype; None where the dtype says all."""
        return jax.lax.Precision(self.float32_products) if self.dtype == jnp.float32 else None

    @property
    def in_float32(self) -> "Policy":
        """The policy of a layer that is float32 whatever the others are: the time embedding, norms' own layers."""
        return dataclasses.replace(self, compute="float32", float32_products="highest")

    @property
    def on_xla(self) -> "Policy":
        """The policy of attention that is too small, or of too few heads, for a fused kernel."""
        return dataclasses.replace(self, attention="xla")

    def dot(self, x: Float[Array, "*b i"], kernel: Float[Array, "i o"], path: tuple[str, ...] = ()) -> Array:
        """x @ kernel in the compute dtype. `path` is the layer's, by which another product may be chosen for it."""
        return jnp.matmul(x.astype(self.dtype), kernel.astype(self.dtype), precision=self.product)


def make_policy(precision: c.Precision, runtime: c.Runtime) -> Policy:
    """The policy of the transformer and its adapter, the same for training and for sampling."""
    return Policy(precision.compute, precision.float32_products, runtime.attention)


def storage_dtype(precision: c.Precision, path: str, trained: bool) -> jnp.dtype:
    """Dtype in which a parameter rests, for training and for sampling alike.

    A trained one has `precision.trained`. Of frozen ones the kernels of products have `precision.frozen`; norms, biases
    and the time embedding, which are small and delicate, stay float32.
    """
    if trained:
        return jnp.dtype(precision.trained)
    return jnp.dtype(precision.frozen) if _LARGE.fullmatch(path) else jnp.dtype(jnp.float32)
