"""Were the records made by the encoders that the experiment names? Asked before the first step of a training run.

A configuration alone knows a stand-in's fingerprint whole and a network's in part (`mmjax.records.making`). Where it
also names the folder of a network's weights, the whole fingerprint is read from there, so that records of one T5 are
never trained with the empty prompt of another. Of weights only the face models' are read, which are small.
"""

from mmjax.config import Experiment
from mmjax.encoders.build import make_face_encoder, make_text_encoder
from mmjax.encoders.fingerprints import agrees
from mmjax.encoders.vae import autoencoder_fingerprint
from mmjax.errors import DataError
from mmjax.records.making import expected_encoders
from mmjax.records.sources import record_encoders


def known_encoders(config: Experiment) -> dict[str, str]:
    """`records.expected_encoders`, whole for each network whose folder the experiment names.

    Raises `CheckpointError`, `ConversionError` or `ConfigError` for a folder that is named and cannot be used.
    """
    names, known = config.encoders, expected_encoders(config)
    if names.text == "t5" and names.text_encoder:
        known["text"] = make_text_encoder(config).fingerprint
    if names.face_models and (names.face == "arcface" or (names.face == "photomaker" and names.photomaker)):
        known["face"] = make_face_encoder(config).fingerprint
    if config.autoencoder.name == "cogvideox" and config.autoencoder.weights:
        known["autoencoder"] = autoencoder_fingerprint(config.autoencoder.weights, config.precision)
    return known


def check_records(config: Experiment) -> dict[str, str]:
    """Fingerprints of the encoders that made the records of all sources: "text", "face" and "autoencoder".

    Raises:
      DataError: records of other encoders than the experiment's, or of different ones; both are named in full.
    """
    found, known = record_encoders(config), known_encoders(config)
    wrong = [what for what in found if not agrees(found[what], known[what])]
    if wrong:
        lines = "\n".join(f"  {what}:\n    expected {known[what]}\n    found    {found[what]}" for what in wrong)
        raise DataError(
            f"data.sources = {', '.join(config.data.sources)}: the records were made with other encoders than this "
            f"experiment names:\n{lines}\n  name the folders of those encoders, or prepare the records again with these"
        )
    return found
