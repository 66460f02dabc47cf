"""PhotoMaker V2 files with drawn weights, and the published code's answers to them (`tests/golden`, numbers only).

Each weight is drawn by its published name, from Philox's raw words, which no release of numpy changes. The answers are
those of PhotoMaker's `QFormerPerceiver` at commit 060b4fcb, run in float32 on these very weights and inputs.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from mmjax.conversion.photomaker import COMPONENT
from mmjax.models.sizes import CLIPVision, PhotoMaker

GOLDEN = Path(__file__).parent / "golden"
TINY = PhotoMaker(CLIPVision(layers=2, width=64, heads=1, hidden=96, side=28, patch=7), id_dim=64, width=256, depth=4)
FULL = PhotoMaker()


def uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of mean 0 and deviation 1, float32, fixed by the name."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    words = np.random.Philox(key=key).random_raw(int(np.prod(shape)))
    return ((words >> 40).astype(np.float32) * np.float32(2**-23) - 1).reshape(shape) * np.float32(3**0.5)


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A weight by its published name, such as `qformer_perceiver.token_norm.weight`."""
    values = uniform(name, shape)
    if len(shape) == 1:
        return values * np.float32(0.1) + np.float32(name.endswith("weight"))
    return values * np.float32(np.prod(shape[1:]) ** -0.5)


def inputs(record: PhotoMaker, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """(q_id, features) for the ID perceiver."""
    features = (batch, record.clip.tokens, record.clip.width)
    return uniform("q_id", (batch, record.id_dim)), uniform("features", features)


def golden(name: str) -> np.ndarray:
    """The published code's output: "tiny" [3, 2, 256] or "full" [1, 2, 2048]."""
    return np.load(GOLDEN / "photomaker_perceiver.npz")[name]


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the published ID encoder, from instantiating its class."""
    rows = json.loads((GOLDEN / "photomaker_v2_shapes.json").read_text())
    return {name.format(i=i): tuple(shape) for name, blocks, shape in rows for i in range(blocks or 1)}


def state(record: PhotoMaker = TINY) -> dict[str, np.ndarray]:
    """The `id_encoder` entry of the pickle at the record's sizes, its unused tensors in small."""
    shapes = {key: leaf.source_shape for leaf in COMPONENT.leaves(record) for key in leaf.keys}
    names = {key.removeprefix("id_encoder."): shape for key, shape in shapes.items()}
    names |= {
        "visual_projection.weight": (3, 4),
        "visual_projection_2.weight": (5, 4),
        "fuse_module.mlp1.fc1.bias": (6,),
    }
    names |= {"vision_model.post_layernorm.weight": (4,), "vision_model.post_layernorm.bias": (4,)}
    return {name: weight(name, shape) for name, shape in names.items()}


def save(file: Path, tensors: dict[str, np.ndarray] | None = None, dtype: str = "float32", **more) -> Path:
    """Writes `photomaker-v2.bin` as published: `id_encoder` and `lora_weights`. `more` are further entries."""
    import torch

    file.parent.mkdir(parents=True, exist_ok=True)
    kind = getattr(torch, dtype)
    encoder = {key: torch.from_numpy(value).to(kind) for key, value in (tensors or state()).items()}
    encoder["vision_model.embeddings.position_ids"] = torch.arange(TINY.clip.tokens)[None]
    torch.save({"id_encoder": encoder, "lora_weights": {"unet.to_q.lora.down.weight": torch.ones(2, 2)}, **more}, file)
    return file
