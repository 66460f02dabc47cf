"""Which encoders an experiment expects its records to have been made with. NumPy only; no weights are read."""

from mmjax.config import Experiment
from mmjax.encoders.build import make_autoencoder, make_face_encoder, make_text_encoder
from mmjax.encoders.fingerprints import COGVIDEOX_VAE, PHOTOMAKER, T5, fingerprint
from mmjax.encoders.latent_patches import LatentPatches
from mmjax.encoders.placeholders import ArcFacePatches


def expected_fingerprints(config: Experiment) -> dict[str, str]:
    """Fingerprints of the experiment's encoders, by what they encode: "text", "face" and "autoencoder".

    They are whole for placeholder encoders. Of networks they say what is known from the configuration, whether or not
    it names their folders: training on prepared records needs none of them. `mmjax.encoders.fingerprints.agrees`
    compares them with what records say. Raises `ConfigError` for sizes that a placeholder encoder cannot have.
    """
    return {"text": _text(config), "face": _face(config), "autoencoder": _autoencoder(config)}


def _text(config: Experiment) -> str:
    if config.encoders.text == "t5":
        length, id_tokens = config.model.transformer.text_length, config.model.adapter.id_tokens
        return fingerprint(T5, length=length, id_tokens=id_tokens)
    return make_text_encoder(config).fingerprint


def _face(config: Experiment) -> str:
    if config.encoders.face == "photomaker":
        return fingerprint(PHOTOMAKER)
    if config.encoders.face == "arcface":
        return ArcFacePatches.of(config).fingerprint
    if config.encoders.face == "arcface_vae":
        return LatentPatches.of(config).fingerprint
    return make_face_encoder(config).fingerprint


def _autoencoder(config: Experiment) -> str:
    if config.autoencoder.name == "cogvideox":
        return fingerprint(COGVIDEOX_VAE)
    return make_autoencoder(config).fingerprint
