"""Frames and prompts to CLIP's common space: what text alignment is measured with. No torch has a part in it.

clip = load_clip("weights/clip")
cosines = clip.pictures(frames) @ clip.texts(["a man talks to the camera"])[0]
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from mmjax import config as c
from mmjax import sharding
from mmjax.conversion import load_component, plans, read_record
from mmjax.conversion.clip import COMPONENT
from mmjax.conversion.clip_tokenizer import load_clip_tokenizer
from mmjax.conversion.clip_tokenizer import problem as tokenizer_problem
from mmjax.conversion.source import tokenizer_files
from mmjax.conversion.store import MANIFEST
from mmjax.encoders.batching import run_in_batches
from mmjax.encoders.fingerprints import CLIP, fingerprint, hash_files, hash_leaves
from mmjax.errors import CheckpointError
from mmjax.models import sizes
from mmjax.models.clip import crop_picture, normalize_pictures
from mmjax.models.clip_text import ContrastiveCLIP
from mmjax.precision import Policy
from mmjax.trees import Tree, flatten, unflatten

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

_BATCH = 16  # pictures or texts that the network sees at once


class CLIPEncoder:
    """Both towers with their weights, in float32 on one device; made by `load_clip`.

    fingerprint: changes with the weights and the tokenizer, and with nothing else.
    scale: what CLIPScore multiplies cosines by, the model's own; 100 for published weights.
    """

    def __init__(self, record: sizes.CLIP, params: Tree, tokenizer: "CLIPTokenizer", fingerprint: str):
        self.record, self.fingerprint = record, fingerprint
        self._params, self._tokenizer = params, tokenizer
        self._mesh = sharding.make_mesh(c.Mesh(), jax.local_devices()[:1])
        network = ContrastiveCLIP(record, Policy())
        self.scale = float(np.exp(np.asarray(params["logit_scale"], np.float32))[0])
        self._pictures = jax.jit(
            lambda params, rows: network.apply({"params": params}, normalize_pictures(rows), method="pictures")
        )
        self._texts = jax.jit(lambda params, rows: network.apply({"params": params}, rows, method="texts"))

    def pictures(self, frames: Sequence[UInt8[np.ndarray, "h w 3"]]) -> Float[np.ndarray, "n p"]:
        """Directions of RGB pictures; of each its middle square is seen, as CLIP's own preprocessing has it."""
        squares = np.stack([crop_picture(frame, self.record.vision.side) for frame in frames])
        return self._run(self._pictures, squares)

    def texts(self, texts: Sequence[str]) -> Float[np.ndarray, "n p"]:
        """Directions of sentences; what does not fit into `record.text.length` tokens is cut off."""
        return self._run(self._texts, self.tokens(texts))

    def tokens(self, texts: Sequence[str]) -> Int[np.ndarray, "n l"]:
        """Token ids: a start token, the text's, an end token, and end tokens to fill up."""
        length, end = self.record.text.length, self.record.text.end_token
        rows = self._tokenizer(list(texts), truncation=True, max_length=length, verbose=False).input_ids
        return np.array([[*row, *[end] * (length - len(row))] for row in rows], np.int32)

    def cuts(self, text: str) -> bool:
        """Whether a text is too long to be read to its end."""
        return len(self._tokenizer(text, verbose=False).input_ids) > self.record.text.length

    def _run(self, function, rows: np.ndarray) -> np.ndarray:
        with sharding.use_mesh(self._mesh):
            return run_in_batches(lambda batch: function(self._params, batch), rows, _BATCH)


def load_clip(path: str | os.PathLike) -> CLIPEncoder:
    """CLIP from a folder that `python -m mmjax.convert clip` wrote, or from transformers' own folder of a CLIPModel.

    Raises:
      CheckpointError: nothing there, an incomplete folder, or one of something else or without a tokenizer that fits.
      ConversionError: a published folder whose tensors do not fit.
    """
    path = Path(path)
    if (path / MANIFEST).is_file() or not path.exists():
        read_record(path, COMPONENT.name)  # before the weights of some larger network are read
        record, params = load_component(path, dtype="float32")
        folder = path / plans.TOKENIZER
    else:
        plan = plans.forward(COMPONENT, str(path), "float32")
        if not plan.source.tokenizer:
            raise CheckpointError(f"{path}: expected a tokenizer beside the weights, found none; copy tokenizer.json")
        record, folder = plan.source.config, plan.source.tokenizer[0].parent
        params = unflatten({name: leaf.read() for name, leaf in plan.leaves.items()})
        params = jax.device_put(params, jax.local_devices()[0])
    if wrong := tokenizer_problem(folder, record.text):
        raise CheckpointError(f"{folder}: {wrong}. Convert again, with this model's tokenizer")
    weights, pieces = hash_leaves(record, flatten(params)), hash_files(tokenizer_files(folder))
    made_of = fingerprint(CLIP, weights=weights, tokenizer=pieces)
    return CLIPEncoder(record, params, load_clip_tokenizer(folder), made_of)
