"""The scaling factor of a trained VAE: one over the standard deviation of its latents of training records.

    WORKDIR/latents.json    written at the end of a run: the step, mean and deviation of the latents, the factor

The diffusion model that learns these latents sees them multiplied by it, with a deviation of 1 (METHOD 9).
"""

import dataclasses
import json
import math
from pathlib import Path

import jax
import numpy as np

from mmjax import files
from mmjax.errors import CheckpointError
from mmjax.records.sources import RecordFolders
from mmjax.training import vae_evaluation
from mmjax.trees import Tree
from mmjax.vae_experiment import VAEExperiment

FILE = "latents.json"
_RECORDS = 128  # of each source that are measured


@dataclasses.dataclass(frozen=True)
class LatentScale:
    """Of the posterior's mean, over all numbers of the latents of all `records`; sources weigh the same."""

    mean: float
    std: float
    records: int

    @property
    def factor(self) -> float:
        """The scaling factor."""
        return 1 / self.std


def measure(config: VAEExperiment, encoder: Tree, sources: RecordFolders) -> LatentScale:
    """Encodes training records of every source, spread evenly, as preparation would.

    Raises `DataError` for records that cannot be read.
    """
    moments, count = [], 0
    with vae_evaluation.on_one_device(encoder) as encoder:
        for index, size in enumerate(config.data.batches):
            records = vae_evaluation.spread_records(sources, index, "train", _RECORDS)
            encoded = vae_evaluation.encode(config.vae, config.precision, encoder, records, size)
            latents = np.concatenate([each for _, each in encoded]).astype(np.float64)
            moments.append([latents.mean(), np.square(latents).mean()])
            count += len(records)
    mean, square = np.mean(moments, axis=0)
    return LatentScale(float(mean), math.sqrt(square - mean**2), count)


def write(workdir: Path, step: int, scale: LatentScale) -> None:
    """Notes what was measured of the weights of a step."""
    if jax.process_index() == 0:
        row = {"step": step, "scaling_factor": scale.factor} | dataclasses.asdict(scale)
        files.write_json(Path(workdir) / FILE, row)


def read(workdir: Path, step: int) -> LatentScale | None:
    """What was noted of a step; None where nothing was. Raises `CheckpointError` for a damaged file."""
    path = Path(workdir) / FILE
    if not path.is_file():
        return None
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        if row["step"] != step:
            return None
        scale = LatentScale(*(float(row[name]) for name in ("mean", "std")), int(row["records"]))
        if not 0 < scale.std < math.inf:
            raise ValueError(f"a deviation of {scale.std}")
        return scale
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; delete it, and it is measured anew") from error
