"""The embedding of the empty prompt, which stands beside the records: what training and sample sheets need of T5.

    FOLDER/unconditional_text.npy   [text_length, text_dim], bfloat16 as the uint16 with the same bits

Conditioning dropout and the unconditional half of guidance (METHOD 4) use it in place of a caption's embedding. It is
in bfloat16 as the texts of the records are, so that training on prepared records loads no text encoder. NumPy only.
"""

import io
import os
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from mmjax import files
from mmjax.config import Experiment
from mmjax.encoders.interface import TextEncoder
from mmjax.errors import DataError
from mmjax.records.schema import BFLOAT16

FILE = "unconditional_text.npy"


def write_unconditional_text(folder: str | os.PathLike, text: Float[np.ndarray, "L text_dim"]) -> Path:
    """Writes the embedding into a folder of records, whole or not at all; values are rounded to bfloat16."""
    content = io.BytesIO()
    np.save(content, np.asarray(text).astype(BFLOAT16).view(np.uint16))
    return files.write_bytes(Path(folder) / FILE, content.getvalue())


def encode_unconditional_text(encoder: TextEncoder) -> Float[np.ndarray, "L text_dim"]:
    """What the text encoder makes of the empty prompt."""
    return encoder.encode_plain([""])[0]


def read_unconditional_text(folder: str | os.PathLike, config: Experiment) -> Shaped[np.ndarray, "L text_dim"]:
    """The embedding beside the records of a folder, in bfloat16, bit for bit as it was written.

    Raises:
      DataError: no such file, a damaged one, one of other sizes than the experiment's text, or not finite.
    """
    path, transformer = Path(folder) / FILE, config.model.transformer
    wanted = transformer.text_length, transformer.text_dim
    try:
        bits = np.load(path)
    except FileNotFoundError as error:
        raise _unusable(path, wanted, "no such file") from error
    except (OSError, ValueError, EOFError) as error:
        raise _unusable(path, wanted, f"a damaged file ({str(error).partition(chr(10))[0]})") from error
    if bits.dtype != np.uint16 or bits.shape != wanted:
        raise _unusable(path, wanted, f"{bits.dtype}{list(bits.shape)}")
    text = bits.view(BFLOAT16)
    if not np.all(np.isfinite(text.astype(np.float32))):
        raise _unusable(path, wanted, "inf or NaN")
    return text


def _unusable(path: Path, wanted: tuple[int, int], found: str) -> DataError:
    return DataError(
        f"{path}: expected the embedding of the empty prompt, the bits of finite bfloat16{list(wanted)}, "
        f"found {found}; prepare the records again"
    )
