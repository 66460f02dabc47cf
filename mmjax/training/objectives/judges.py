"""The networks that judge predictions: loaded once, whole on every device, and neither trained nor saved with the run.

They are small beside the model: a recogniser has up to 65 million parameters, the VAE's decoder in bfloat16 0.25 GB.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax

from mmjax import config as c
from mmjax import conversion, sharding
from mmjax.encoders.arcface import load_arcface
from mmjax.encoders.fingerprints import names
from mmjax.errors import CheckpointError, ConfigError
from mmjax.faces.packs import find_pack
from mmjax.model_settings import VAE
from mmjax.models.arcface.graph import OnnxGraph
from mmjax.precision import Policy
from mmjax.training.objectives.identity import Identity
from mmjax.training.objectives.terms import DENOISING, Term
from mmjax.trees import Tree


@dataclasses.dataclass(frozen=True, eq=False)
class Judges:
    """The recogniser of the identity loss, and the decoder that it needs to see anything."""

    graph: OnnxGraph
    vae: VAE | None  # None: latents are pixels
    params: Tree  # {"recogniser": ..., "decoder": ...}, replicated; arrays or shapes

    def identity(self, config: c.Experiment) -> Identity:
        """The term that they judge for."""
        policy = Policy(config.precision.decode, config.precision.float32_products)
        return Identity(config.loss.identity, config.autoencoder, self.graph, self.vae, policy)


def make_terms(config: c.Experiment, judges: Judges | None = None) -> Sequence[Term]:
    """The objective of an experiment: the denoising loss, and with judges the identity loss."""
    return (*DENOISING, *((judges.identity(config),) if judges else ()))


def check_judges(config: c.Experiment) -> None:
    """Refuses judges that are not there, before anything is read. Raises `ConfigError`, `CheckpointError`."""
    if not config.loss.identity.weight:
        return
    if config.autoencoder.name == "cogvideox" and not config.autoencoder.weights:
        raise ConfigError(
            "loss.identity.weight: the identity loss decodes what is predicted; expected autoencoder.weights, the "
            "folder of a converted VAE (python -m mmjax.convert vae --source DIR --output DIR), or a weight of 0"
        )
    try:
        find_pack(config.loss.identity.judge)
    except CheckpointError as error:
        raise CheckpointError(f"loss.identity.judge: {error}") from error


def load_judges(config: c.Experiment, face_encoder: str, mesh: jax.sharding.Mesh) -> Judges | None:
    """The judges that `config.loss.identity` asks for, on every device; None where its weight is 0.

    Args:
      face_encoder: fingerprint of what made the records' `id_embedding`.

    Raises:
      ConfigError: a recogniser that cannot be compared with the records' embeddings; an autoencoder without weights.
      CheckpointError, ConversionError: weights that are missing, damaged, or of something else.
    """
    if not config.loss.identity.weight:
        return None
    check_judges(config)
    recogniser = load_arcface(find_pack(config.loss.identity.judge))
    if config.loss.identity.target == "reference":
        _check_same(recogniser.fingerprint, face_encoder)
    place = sharding.replicated(mesh)
    params = {"recogniser": jax.device_put(jax.device_get(recogniser.params), place)}
    record = None
    if config.autoencoder.name == "cogvideox":
        folder = Path(config.autoencoder.weights)
        conversion.read_record(folder, "vae")  # refuses another component before its weights are read
        record, vae = conversion.load_component(folder, place)
        params["decoder"] = vae["decoder"]
    return Judges(recogniser.graph, record, params)


def _check_same(judge: str, face_encoder: str) -> None:
    if not names(face_encoder, judge):
        raise ConfigError(
            'loss.identity.target = "reference": expected as judge the recogniser that made the records\' embeddings, '
            f"found {judge} beside records by {face_encoder}; name that one in loss.identity.judge, or set "
            'loss.identity.target="frame", which judges by the true frame'
        )
