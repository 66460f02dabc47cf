"""The recogniser of drawn people as a face embedder, for `mmjax.evaluate`:

--embedder mmjax.synthetic.embedder:fisherfaces:runs/tiny
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from mmjax.config import FISHERFACES
from mmjax.encoders.fingerprints import fingerprint
from mmjax.faces.detection import Face
from mmjax.synthetic import galleries
from mmjax.synthetic.fisherfaces import Fisherfaces


@dataclasses.dataclass(frozen=True, eq=False)
class DrawnPeople:
    """A `mmjax.encoders.embedders.FaceEmbedder`. A drawing has no face to find: it is looked at whole, always."""

    recogniser: Fisherfaces
    fingerprint: str
    name: str = FISHERFACES
    detects: bool = True

    def __call__(
        self, frames: Sequence[UInt8[np.ndarray, "h w 3"]], faces: Sequence[Face | None]
    ) -> Float[np.ndarray, "n width"]:
        """Unit embeddings of RGB frames; `faces` are not used."""
        found = [self.recogniser.embed(frame[None]) for frame in frames]
        return np.concatenate([np.zeros((0, self.recogniser.projection.shape[1])), *found])


def fisherfaces(run: str) -> DrawnPeople:
    """Fitted on drawn people of the training split, at the size of a run's, by its workdir.

    Raises `CheckpointError` for a folder that is no workdir.
    """
    from mmjax.weights.runs import read_config  # comes with JAX

    config = read_config(run)
    size = {"height": config.data.height, "width": config.data.width}
    counts = {"people": galleries.FIT_PEOPLE, "pictures": galleries.PICTURES}
    return DrawnPeople(galleries.fit_recogniser(config), fingerprint("fisherfaces/1", **size, **counts))
