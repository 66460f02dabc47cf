"""Were the records made by the encoders that the experiment names? Asked before the first step of a training run.

Records carry the fingerprints of the encoders that made them. They are compared with each other, source with source,
and with what the configuration says of its encoders (`mmjax.encoders.expected`); no encoder is loaded for that, even
where the experiment names its folder. A run remembers them (`mmjax.weights.runs.write_encoders`) and goes on with
records of the same encoders alone.
"""

from collections.abc import Mapping

from mmjax.config import Experiment
from mmjax.encoders.expected import expected_fingerprints
from mmjax.encoders.fingerprints import agrees
from mmjax.errors import DataError
from mmjax.records.sources import record_encoders


def check_records(config: Experiment) -> dict[str, str]:
    """Fingerprints of the encoders that made the records of all sources: "text", "face" and "autoencoder".

    Raises:
      DataError: records of other encoders than the experiment's, or of different ones; both are named in full.
    """
    found = record_encoders(config)
    check_encoders(found, expected_fingerprints(config), f"data.sources = {', '.join(config.data.sources)}")
    return found


def check_encoders(found: Mapping[str, str], expected: Mapping[str, str], where: str) -> None:
    """Refuses records of other encoders than those expected. `where` names the records. Raises `DataError`."""
    wrong = [what for what in found if not agrees(found[what], expected[what])]
    if wrong:
        lines = "\n".join(f"  {what}:\n    expected {expected[what]}\n    found    {found[what]}" for what in wrong)
        raise DataError(
            f"{where}: the records were made with other encoders than this experiment names:\n{lines}\n"
            "  name those encoders, or prepare the records again with these"
        )
