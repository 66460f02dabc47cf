"""Face embedders: who tells how alike two faces are, by the words that a user gives them with.

    embedders = open_embedders(["antelopev2", "weights/edgeface_xs.safetensors", "dlib"])
    embeddings = embedders["edgeface_xs"](frames, faces)  # raw, a row for each frame; NaN where there is no face

    an .onnx file, an insightface pack by name or folder, a folder of `mmjax.convert arcface`     ArcFace and its like
    a .safetensors file with timm's keys                                                          EdgeFace
    dlib                                                                                          the paper's own
    MODULE:FUNCTION or MODULE:FUNCTION:TEXT                                                       anybody's

The last is a plug-in: a Python function that takes nothing, or the text, and returns a `FaceEmbedder` of its own name,
such as `mmjax.synthetic.embedder:fisherfaces:runs/tiny` for drawn people.

Importing this imports no JAX: whoever opens embedders in processes of their own says first where JAX shall run.
"""

import dataclasses
import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8

from mmjax import config as c
from mmjax.encoders import fingerprints
from mmjax.errors import CheckpointError, ConfigError
from mmjax.faces.detection import Face, align, alignment
from mmjax.faces.dlib_faces import DLIB, load_dlib
from mmjax.faces.packs import find_pack

_PLUGIN = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_]\w*)(?::(.*))?", re.DOTALL)


class FaceEmbedder(Protocol):
    """Who knows faces.

    name: short and stable, for names of columns ("w600k_mbf", "edgeface_xs", "dlib").
    fingerprint: says what the embeddings depend on (`mmjax.encoders.fingerprints`).
    detects: whether it finds faces by itself. It then pays no heed to `faces`, which may all be None, and its rows are
      NaN where it finds nobody, whatever another detector found. One that does not has a row for each given face.
    """

    name: str
    fingerprint: str
    detects: bool

    def __call__(
        self, frames: Sequence[UInt8[np.ndarray, "h w 3"]], faces: Sequence[Face | None]
    ) -> Float[np.ndarray, "n width"]:
        """Raw embeddings, not of length one, of the face of each RGB frame; a row is NaN where there is none."""


@dataclasses.dataclass(frozen=True, eq=False)
class AlignedFaceEmbedder:
    """A `FaceEmbedder`: the faces that it is given, aligned as for ArcFace.

    network: embeddings of one aligned face or more, such as `ArcFace.in_batches`. width: of an embedding.
    """

    name: str
    fingerprint: str
    width: int
    network: Callable[[UInt8[np.ndarray, "n 112 112 3"]], Float[np.ndarray, "n width"]]
    detects: bool = False

    def __call__(
        self, frames: Sequence[UInt8[np.ndarray, "h w 3"]], faces: Sequence[Face | None]
    ) -> Float[np.ndarray, "n width"]:
        """Raw embeddings of the face of each RGB frame; NaN where there is none, or landmarks of no extent."""
        found = np.full((len(frames), self.width), np.nan, np.float32)
        seen = [
            (number, align(frame, face.landmarks))
            for number, (frame, face) in enumerate(zip(frames, faces, strict=True))
            if face is not None and _can_be_aligned(face)
        ]
        if seen:
            numbers, crops = zip(*seen, strict=True)
            found[list(numbers)] = self.network(np.stack(crops))
        return found


def open_embedders(specs: Sequence[str]) -> dict[str, FaceEmbedder]:
    """Embedders by unique names, in the order given. Raises as `open_embedder` and `names_of` do."""
    return {name: open_embedder(spec) for name, spec in names_of(specs).items()}


def open_embedder(spec: str) -> FaceEmbedder:
    """The embedder of a word, a path or a plug-in; see the module's docstring.

    Raises:
      CheckpointError: nothing there, or a package that is not installed. ConversionError: a file that cannot be read.
      ConfigError: a plug-in that cannot be used.
    """
    if spec == DLIB:
        return load_dlib()
    if (plugin := _plugin(spec)) is not None:
        return _open_plugin(spec, *plugin)
    path, name = _find(spec), name_of(spec)
    if path.suffix == ".safetensors":
        from mmjax.encoders.edgeface import load_edgeface

        edgeface = load_edgeface(path)
        return AlignedFaceEmbedder(name, edgeface.fingerprint, edgeface.sizes.embedding, edgeface.in_batches)
    from mmjax.encoders.arcface import load_arcface

    arcface = load_arcface(path)
    return AlignedFaceEmbedder(name, arcface.fingerprint, arcface.width, arcface.in_batches)


def names_of(specs: Sequence[str]) -> dict[str, str]:
    """The specs by unique names: of those with one name the second is NAME-2, and so on.

    Raises `ConfigError` for a spec that is given twice, and as `name_of` does.
    """
    found: dict[str, str] = {}
    places: dict[str, str] = {}
    for spec in specs:
        if (place := _place(spec)) in places:
            twice = "it twice" if places[place] == spec else f"{places[place]}, which is the same"
            raise ConfigError(f"embedder {spec}: expected each embedder once, found {twice}; leave one out")
        name, number, places[place] = name_of(spec), 1, spec
        while (unique := name if number == 1 else f"{name}-{number}") in found:
            number += 1
        found[unique] = spec
    return found


def name_of(spec: str) -> str:
    """The name of the embedder that `open_embedder` gives, without its weights.

    Of a network it is the name of the published ONNX file, by whichever way the network is given; of an EdgeFace its
    size's, of a plug-in the function's. Raises as `open_embedder` does.
    """
    if spec == DLIB:
        return DLIB
    if (plugin := _plugin(spec)) is not None:
        return plugin[1]
    path = _find(spec)
    if path.suffix == ".safetensors":
        from mmjax.conversion.edgeface import read_sizes
        from mmjax.encoders.edgeface import published_name

        return published_name(read_sizes(path)) or path.stem
    from mmjax.conversion.arcface import recogniser_file
    from mmjax.conversion.store import MANIFEST, read_manifest

    if (path / MANIFEST).is_file():
        return Path(read_manifest(path)["source"]["name"]).stem
    return recogniser_file(path).stem


def needs_detector(spec: str) -> bool:
    """Whether somebody else has to find the faces: dlib does it itself, and plug-ins say so when they are opened."""
    return spec != DLIB and _plugin(spec) is None


def pack_of(spec: str) -> Path | None:
    """The folder of a model pack, which has a detector beside the recogniser; None for every other embedder.

    Raises `CheckpointError` where there is nothing.
    """
    if spec == DLIB or _plugin(spec) is not None:
        return None
    from mmjax.conversion.store import MANIFEST

    path = _find(spec)
    return path if path.is_dir() and not (path / MANIFEST).is_file() else None


def part_in_training(embedder: str, face_encoder: str, identity: c.IdentityLoss) -> str:
    """What the embedder with this fingerprint has to do with a model's training; empty for nothing.

    An embedder with a part in it finds what the model makes more alike than it is. The judge is read only where that
    can matter: when the embedder is of the judge's kind and does not condition the model.

    Args:
      face_encoder: fingerprint of what made the identity features of the records (`Sources.encoders["face"]`).
      identity: the run's identity loss.

    Raises:
      CheckpointError, ConversionError: a judge that cannot be found or read, of which nothing can be said.
    """
    part = fingerprints.part_in_training(embedder, [face_encoder])
    if part or not identity.weight or not embedder.startswith(f"{fingerprints.ARCFACE} "):
        return part
    from mmjax.encoders.arcface import load_arcface

    return fingerprints.part_in_training(embedder, [], [load_arcface(find_pack(identity.judge)).fingerprint])


def _can_be_aligned(face: Face) -> bool:
    with np.errstate(invalid="ignore", divide="ignore"):
        return bool(np.isfinite(alignment(face.landmarks)).all())


def _place(spec: str) -> str:
    """The same for two ways to write one embedder: a path with a slash at its end, a link, a pack's name."""
    return spec if spec == DLIB or _plugin(spec) is not None else str(_find(spec).resolve())


def _find(spec: str) -> Path:
    try:
        return find_pack(spec)
    except CheckpointError as error:
        raise CheckpointError(
            f"embedder {spec}: expected an .onnx file, a model pack, a converted folder, EdgeFace's .safetensors file, "
            f"{DLIB}, or MODULE:FUNCTION; found none of these. {error}"
        ) from error


def _plugin(spec: str) -> tuple[str, str, str | None] | None:
    """(module, function, text) of a plug-in, None for what is none; a path that is there is a path."""
    match = _PLUGIN.fullmatch(spec)
    return None if match is None or Path(spec).exists() else match.groups()


def _open_plugin(spec: str, module: str, function: str, text: str | None) -> FaceEmbedder:
    try:
        make: Callable[..., FaceEmbedder] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"embedder {spec}: expected a function that can be imported: {error}") from error
    found = make() if text is None else make(text)
    kinds: Mapping[str, type] = {"name": str, "fingerprint": str, "detects": bool}
    wrong = [name for name, kind in kinds.items() if not isinstance(getattr(found, name, None), kind)]
    if wrong or not callable(found):
        lacks = ", ".join(wrong) or "__call__"
        raise ConfigError(
            f"embedder {spec}: expected a FaceEmbedder (see mmjax.encoders.embedders), found {type(found).__name__} "
            f"without {lacks}"
        )
    if found.name != function:
        raise ConfigError(f"embedder {spec}: expected an embedder with the function's name, found {found.name!r}")
    return found
