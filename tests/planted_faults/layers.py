"""Faults of the parts without a model: attention, layers, modulation, the perceiver."""

from tests.planted_faults.fault import Fault

ATTENTION, LAYERS = "mmjax/nn/attention.py", "mmjax/nn/layers.py"
MODULATION, PERCEIVER = "mmjax/nn/modulation.py", "mmjax/nn/perceiver.py"

_5B = ("tests/models/test_dit_parity.py::test_output_equals_diffusers[5b-size4]",)
_REFERENCE = ("tests/models/test_magicmirror_reference.py::test_velocity_and_conditions[full-2-rope]",)
_ATTENTION = (
    "tests/nn/test_attention.py::test_backend_equals_numpy",
    "tests/nn/test_attention.py::test_few_keys_take_the_plain_product_on_every_back_end",
    "tests/nn/test_attention.py::test_many_keys_are_corrected_to_float32_accuracy",
)
_FUSED = (f"{_ATTENTION[0]}[150-150-99-splash]",)
_PERCEIVER = ("tests/conversion/test_photomaker.py::test_id_perceiver_equals_the_published_code",)

LAYER_PARTS = (
    Fault(
        "attention is scaled by the width of a head, not by its root",
        ATTENTION,
        "preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5",
        "preferred_element_type=jnp.float32) * q.shape[-1] ** -1.0",
        _ATTENTION,
    ),
    Fault(
        "attention counts all keys",
        ATTENTION,
        "for x in (q, k[:, :keys], v[:, :keys]))",
        "for x in (q, k, v))",
        _ATTENTION,
    ),
    Fault(
        "the softmax runs over the queries",
        ATTENTION,
        "jax.nn.softmax(scores, axis=-1)",
        "jax.nn.softmax(scores, axis=-2)",
        _ATTENTION,
    ),
    Fault(
        "surplus keys of the fused kernel count",
        ATTENTION,
        "(jnp.arange(k.shape[2]) >= keys)",
        "(jnp.arange(k.shape[2]) > keys)",
        _FUSED,
    ),
    Fault(
        "one key too many takes the plain product",
        ATTENTION,
        "if keys <= FEW_KEYS:",
        "if keys <= FEW_KEYS + 1:",
        _ATTENTION,
    ),
    Fault(
        "the correction for zero keys has the other sign",
        ATTENTION,
        "/ (1 - share)[..., None]",
        "/ (1 + share)[..., None]",
        _ATTENTION[2:],
    ),
    Fault(
        "the variance of a layer norm is not that of centred values",
        LAYERS,
        "jnp.square(x - mean).mean(-1, keepdims=True)",
        "jnp.square(x).mean(-1, keepdims=True)",
        _5B,
    ),
    Fault(
        "the variance of a layer norm is divided by one less",
        LAYERS,
        "jnp.square(x - mean).mean(-1, keepdims=True)",
        "x.var(-1, keepdims=True, ddof=1)",
        _5B,
    ),
    Fault(
        "a layer norm's bias is left out",
        LAYERS,
        " * scale.astype(jnp.float32) + bias.astype(jnp.float32)",
        " * scale.astype(jnp.float32)",
        _5B,
    ),
    Fault(
        "the transformer's GELU is the exact one",
        LAYERS,
        "gelu_tanh(x.astype(jnp.float32)) if self.tanh",
        "nn.gelu(x.astype(jnp.float32), approximate=False) if self.tanh",
        _5B,
    ),
    Fault(
        "the perceivers' GELU is the tanh form",
        LAYERS,
        "nn.gelu(x.astype(jnp.float32), approximate=False)\n        return Dense(self.features",
        "gelu_tanh(x.astype(jnp.float32))\n        return Dense(self.features",
        _PERCEIVER,
    ),
    Fault(
        "modulation scales without adding one",
        MODULATION,
        "(normed * (1 + mod.scale) + mod.shift)",
        "(normed * mod.scale + mod.shift)",
        _5B,
    ),
    Fault(
        "modulation shifts before it scales",
        MODULATION,
        "(normed * (1 + mod.scale) + mod.shift)",
        "((normed + mod.shift) * (1 + mod.scale))",
        _5B,
    ),
    Fault(
        "the residual step is not gated",
        MODULATION,
        "+ mod.gate * change.astype(jnp.float32)",
        "+ change.astype(jnp.float32)",
        _5B,
    ),
    Fault(
        "the identity's residual reaches the attention half alone",
        MODULATION,
        "BlockMods(self.attn + other.attn, self.ffn + other.ffn)",
        "BlockMods(self.attn + other.attn, self.ffn)",
        _REFERENCE,
    ),
    Fault(
        "the perceiver's keys are those of the features alone",
        PERCEIVER,
        "both = whole_samples(jnp.concatenate([features, latents], axis=1))",
        "both = features",
        _PERCEIVER,
    ),
    Fault(
        "the perceiver's keys and values are exchanged",
        PERCEIVER,
        "        k, v = (self._heads(x)",
        "        v, k = (self._heads(x)",
        _PERCEIVER,
    ),
    Fault(
        "the perceiver's attention has no residual",
        PERCEIVER,
        "whole_samples(latents + attend(latents, features))",
        "whole_samples(attend(latents, features))",
        _PERCEIVER,
    ),
    Fault(
        "the perceiver's feed-forward layer reads what is not normalised",
        PERCEIVER,
        "            )(normed)\n",
        "            )(latents)\n",
        _PERCEIVER,
    ),
)
