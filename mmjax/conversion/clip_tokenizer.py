"""CLIP's tokenizer as it is published: reading it, and whether it is whole and the text tower's own."""

from pathlib import Path
from typing import TYPE_CHECKING

from mmjax.conversion.source import tokenizer_files
from mmjax.errors import CheckpointError
from mmjax.models.sizes import CLIPText

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

_SENTENCE = "a man is smiling in a park"


def load_clip_tokenizer(folder: Path) -> "CLIPTokenizer":
    """CLIP's tokenizer, from its `tokenizer.json`, or its `vocab.json` and `merges.txt`.

    Raises `ConversionError` when the folder holds none, `CheckpointError` when it is damaged.
    """
    tokenizer_files(folder)
    from transformers import CLIPTokenizer  # takes seconds to import

    try:
        return CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # transformers and tokenizers raise plain Exceptions for a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise CheckpointError(f"{folder}: the tokenizer cannot be read ({reason}); copy or convert it again") from error


def problem(folder: Path, record: CLIPText) -> str:
    """What keeps the tokenizer of a folder from serving this text tower; "" for nothing."""
    tokenizer = load_clip_tokenizer(folder)
    if len(tokenizer) > record.vocabulary:
        return f"expected at most {record.vocabulary} tokens, as the table has rows, found {len(tokenizer)}"
    if tokenizer.eos_token_id != record.end_token:
        return f"expected the end token {record.end_token}, found {tokenizer.eos_token_id}: it is another model's"
    tokens = tokenizer(_SENTENCE, add_special_tokens=False).input_ids
    strange = [token for token in tokens if token in tokenizer.all_special_ids]
    if not tokens or 2 * len(strange) >= len(tokens):
        return f'expected the words of "{_SENTENCE}" to be known, found {len(strange)} of {len(tokens)} tokens unknown'
    return ""
