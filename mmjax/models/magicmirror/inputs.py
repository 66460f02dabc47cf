"""What MagicMirror is given of a sample beside its latents and timestep: names, shapes and dtypes. NumPy only.

Training records hold these fields (`mmjax.records.schema` builds on this), samplers make them from a request.
"""

import dataclasses

import ml_dtypes
import numpy as np

from mmjax.config import Model

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
CONDITION_FIELDS = ("text", "class_mask", "id_embedding", "clip_last", "clip_penultimate")


@dataclasses.dataclass(frozen=True)
class Field:
    """Shape and dtype of one array of a sample, in memory."""

    shape: tuple[int, ...]
    dtype: np.dtype


def condition_fields(model: Model, references: int) -> dict[str, Field]:
    """`CONDITION_FIELDS` of one sample with R = `references` reference pictures (METHOD 2).

    text [L, text_dim], class_mask [L] (m of eq. 5), id_embedding [R, id_dim] (q_id), and CLIP's patch features
    [R, tokens, clip_dim]: clip_last for the ID perceiver, clip_penultimate for the face perceiver.
    """
    text, adapter = model.transformer, model.adapter
    patches = (references, adapter.clip_tokens, adapter.clip_dim)
    return {
        "text": Field((text.text_length, text.text_dim), BFLOAT16),
        "class_mask": Field((text.text_length,), np.dtype(bool)),
        "id_embedding": Field((references, adapter.id_dim), np.dtype(np.float32)),
        "clip_last": Field(patches, BFLOAT16),
        "clip_penultimate": Field(patches, BFLOAT16),
    }
