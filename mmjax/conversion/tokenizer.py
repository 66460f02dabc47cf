"""T5's tokenizer as it is published: reading it, and whether it is whole and the text encoder's own."""

import importlib.util
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from mmjax.conversion.source import tokenizer_files
from mmjax.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from transformers import T5Tokenizer

_SPECIAL = {"<pad>": 0, "</s>": 1, "<unk>": 2}  # where every T5 has them
_ROUNDED = 128  # T5's table of embeddings is longer than its vocabulary, by less than this (32,128 of 32,100)
_SENTENCE = "A man is smiling in a park."


def load_tokenizer(folder: Path) -> "T5Tokenizer":
    """T5's tokenizer, from its `spiece.model` or `tokenizer.json`.

    Raises `ConversionError` when the folder holds none, `CheckpointError` when it is damaged, `ConfigError` when a
    package that reads `spiece.model` is not installed.
    """
    files = tokenizer_files(folder)
    lost = [name for name in ("sentencepiece", "protobuf") if not _installed(name)]
    if lost and not any(file.name == "tokenizer.json" for file in files):
        raise ConfigError(f"{folder}: reading spiece.model takes {' and '.join(lost)}: pip install {' '.join(lost)}")
    from transformers import T5Tokenizer  # takes seconds to import

    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # it tries other formats, and warns of each
    try:
        return T5Tokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # transformers and tokenizers raise plain Exceptions for a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        if "tiktoken" in reason or isinstance(error, TypeError):  # what it tries when SentencePiece cannot read a file
            reason = "spiece.model is no whole SentencePiece model"
        raise CheckpointError(f"{folder}: the tokenizer cannot be read ({reason}); copy or convert it again") from error
    finally:
        logger.setLevel(level)


def problem(tokenizer: "T5Tokenizer", vocabulary: int) -> str:
    """What keeps this tokenizer from serving an encoder whose table has `vocabulary` rows; "" for nothing."""
    size = len(tokenizer)
    if not vocabulary - _ROUNDED < size <= vocabulary:
        return (
            f"expected {max(vocabulary - _ROUNDED + 1, 1)} to {vocabulary} tokens, as the encoder's table has rows, "
            f"found {size}: it is cut short, or another model's"
        )
    found = {name: tokenizer.convert_tokens_to_ids(name) for name in _SPECIAL}
    if found != _SPECIAL:
        return f"expected T5's tokens {_SPECIAL}, found {found}: it is empty, or another model's"
    tokens = tokenizer(_SENTENCE, add_special_tokens=False).input_ids
    strange = [token for token in tokens if token in tokenizer.all_special_ids]
    if 2 * len(strange) >= len(tokens):
        return f'expected the words of "{_SENTENCE}" to be known, found {len(strange)} of {len(tokens)} tokens unknown'
    return ""


def _installed(package: str) -> bool:
    module = {"protobuf": "google.protobuf"}.get(package, package)
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the parent package is there
        return False
