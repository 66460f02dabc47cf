"""Gender and age of a face, as a model pack estimates them: for the class word of a caption that has none.

insightface's packs buffalo_l, buffalo_s and antelopev2 bring `genderage.onnx`, which sees a face at 96 x 96 pixels and
answers with two gender logits and a hundredth of the age. It is an estimate of how somebody appears and no more:
nothing but the choice between man, woman, boy and girl follows from it.

This was tested with a network of the same shapes and random weights, never with the published ones.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mmjax.faces.detection import Face
from mmjax.faces.packs import PROVIDERS, file_fingerprint, open_network, session_options

_SIDE = 96  # pixels that the network sees
_GENDERS = ("woman", "man")  # in the order of the logits


class Attributes:
    """Estimates gender and age; see `load_attributes`. `fingerprint` names the file."""

    def __init__(self, network: Any, fingerprint: str):
        self._network, self.fingerprint = network, fingerprint

    def __call__(self, picture: UInt8[np.ndarray, "h w 3"], face: Face) -> tuple[str, float]:
        """("man" or "woman", age in years) of a face in an RGB picture, seen in 1.5 times its box."""
        from insightface.app.common import Face as Found  # takes a second to import

        blue_first = np.ascontiguousarray(picture[..., ::-1])
        gender, age = self._network.get(blue_first, Found(bbox=np.asarray(face.box, np.float32)))
        return _GENDERS[int(gender)], float(max(age, 0))


def load_attributes(pack: str | os.PathLike) -> Attributes | None:
    """Opens a pack's network of gender and age, recognised by its shapes; None where the pack has none.

    Args:
      pack: a folder with `*.onnx` files. If several fit, the first by name is taken.

    Raises:
      CheckpointError: a damaged file.
    """
    for file in sorted(Path(pack).glob("*.onnx")):
        if _estimates_gender_and_age(file):
            from insightface.model_zoo import get_model  # takes a second to import

            network = get_model(str(file), providers=PROVIDERS, sess_options=session_options())
            return Attributes(network, file_fingerprint(file))
    return None


def _estimates_gender_and_age(file: Path) -> bool:
    session = open_network(file)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    return len(outputs) == 1 and inputs[0].shape[2:] == [_SIDE, _SIDE] and outputs[0].shape[1:] == [3]
