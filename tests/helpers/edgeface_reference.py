"""EdgeFace through timm, the reference, kept as a golden file: timm needs torchvision, which no test should install.

    PYTHONPATH=. MMJAX_TEST_DATA=... python -m tests.helpers.edgeface_reference    # writes the file; timm 1.0.31

It has timm's embeddings of two pictures of noise, for random weights and for the published ones of both sizes. Random
weights are made anew by each test, from the keys alone.
"""

import importlib.abc
import importlib.machinery
import sys
import types
import zlib
from pathlib import Path

import numpy as np

from mmjax.models.edgeface import XS, XXS
from tests.helpers.face_pictures import DATA

GOLDEN = Path(__file__).parent / "golden" / "edgeface_timm.npz"
WEIGHTS = DATA / "weights" / "edgeface"
SIZES = {"xs": XS, "xxs": XXS}
_TIMM = {"xs": "edgenext_x_small", "xxs": "edgenext_xx_small"}


def published(size: str) -> Path:
    return WEIGHTS / f"edgeface_{size}_q_dequantized_fp32.safetensors"


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), np.uint8)


def random_tensor(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Weights of a size at which every part of the network has its say, whatever the order in which they are made."""
    values = np.random.default_rng(zlib.crc32(key.encode())).normal(size=shape).astype(np.float32)
    if len(shape) > 1 and not key.endswith("temperature"):
        return values / np.float32(np.sqrt(np.prod(shape[1:])))
    return 0.1 * values + np.float32(not key.endswith("bias"))


class _Hollow(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """torchvision without contents: timm names much of it while it is imported, and EdgeNeXt uses nothing."""

    class _Named(type):
        def __getattr__(cls, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return name

    class _Module(types.ModuleType):
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return _Hollow._Named(name, (), {})

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return self._Module(spec.name)

    def exec_module(self, module):
        pass


def _main():
    sys.meta_path.insert(0, _Hollow())
    import timm
    import torch
    from safetensors.torch import load_file

    found, pictures = {}, torch.tensor(noise()).permute(0, 3, 1, 2).float() / 127.5 - 1
    for size, name in _TIMM.items():
        network = timm.create_model(name, num_classes=512).eval()
        shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
        random = {key: torch.tensor(random_tensor(f"model.{key}", shape)) for key, shape in shapes.items()}
        real = {key.removeprefix("model."): value for key, value in load_file(published(size)).items()}
        for kind, state in (("random", random), ("published", real)):
            network.load_state_dict(state)
            with torch.no_grad():
                found[f"{kind}_{size}"] = network(pictures).numpy()
    np.savez(GOLDEN, **found)


if __name__ == "__main__":
    _main()
