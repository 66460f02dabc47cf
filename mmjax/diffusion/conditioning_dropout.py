"""Conditioning dropout (METHOD 4): samples that train without their text, their identity, or both.

It is what guidance needs at sampling: a model that knows what to predict from the empty prompt and from nobody.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from mmjax import config


def draw_kept_conditions(
    key: Key[Array, ""], batch: int, settings: config.Loss
) -> tuple[Bool[Array, " B"], Bool[Array, " B"]]:
    """Which samples keep their text and which keep their identity.

    Three events exclude each other in a sample: only the text is dropped (`drop_text`), only the identity
    (`drop_identity`), both (`drop_both`). One uniform number decides, so the probabilities are exact.
    """
    uniform = jax.random.uniform(key, (batch,))
    text, identity = settings.drop_text, settings.drop_text + settings.drop_identity
    both = (identity <= uniform) & (uniform < identity + settings.drop_both)
    keep_text = (text <= uniform) & ~both
    keep_identity = ((uniform < text) | (identity <= uniform)) & ~both
    return keep_text, keep_identity


def drop_conditions(
    batch: dict[str, Array],
    keep_text: Bool[Array, " B"],
    keep_identity: Bool[Array, " B"],
    unconditional_text: Float[Array, "L text_dim"],
) -> dict[str, Array]:
    """The batch with the empty prompt, which has no class word, in place of each text that is not kept.

    The model itself takes the identity away where the field `keep_identity` is False (METHOD 2, "No identity").

    Args:
      batch: with the field `text` [B L text_dim], and where the model reads it `class_mask` [B L], which are replaced,
        and any others.
      keep_text, keep_identity: of `draw_kept_conditions`.
      unconditional_text: embedding of the empty prompt.
    """
    empty = jnp.asarray(unconditional_text, batch["text"].dtype)
    kept = {"text": jnp.where(keep_text[:, None, None], batch["text"], empty), "keep_identity": keep_identity}
    if "class_mask" in batch:
        kept["class_mask"] = batch["class_mask"] & keep_text[:, None]
    return batch | kept
