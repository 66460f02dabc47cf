"""Text of files that people wrote, in whatever encoding their editor or spreadsheet chose."""

import codecs
import os
import re

from mmjax.errors import DataError, error_text

_LONGEST = 2**26  # bytes of a file that are read
_MARKS = (  # the longer first: UTF-32's begins like UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LETTERS = "À-ÖØ-öø-ÿŠšŽžŒœŸ"
_SIGNS = "‘’‚“”„–—…•€£°´©®™«»§¿¡·\u00a0"
_LATIN = re.compile(rf"[\x00-\x7f{_LETTERS}{_SIGNS}]*")
_ODD = re.compile(rf"[{_LETTERS}]{{2}}|[A-Za-z{_LETTERS}][£°©®™«»§¿¡][A-Za-z{_LETTERS}]")


def read_text(path: str | os.PathLike, name: str, holds: str) -> str:
    """The text of a file that somebody wrote.

    Args:
      name: what messages call it, such as "--prompts prompts.txt".
      holds: what it should be, such as "a text file, one prompt a line".

    Raises:
      DataError: no file, or bytes that are no text.
    """
    try:
        with open(path, "rb") as opened:  # may be a pipe
            content = opened.read(_LONGEST)
    except OSError as error:
        raise DataError(f"{name}: expected {holds}, found: {error_text(error)}") from error
    try:
        text, _ = decode_text(content)
    except ValueError:
        text = "\0"
    if "\0" in text:  # no text has it, but devices and binary files do
        raise DataError(f"{name}: expected text, found other bytes; save it as UTF-8")
    return text


def decode_text(data: bytes) -> tuple[str, str]:
    """Text and the encoding that it was taken for: "utf-8", "utf-16", "utf-32" or "cp1252".

    UTF-16 and UTF-32 are known by their mark, UTF-16 also by every other byte being zero. Windows-1252 (of which
    Latin-1 is a part) has no mark: text is taken for it only where every sign is one that Western European text has, no
    two accented letters stand side by side, as in Cyrillic or East Asian encodings nearly all do, and no sign stands
    within a word, as in those of Central Europe.

    Raises:
      ValueError: none of them; says so in a few words.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding), encoding.removesuffix("-sig")
    if encoding := _without_mark(data):
        return data.decode(encoding), "utf-16"
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError as error:
        text = data.decode("cp1252", "replace")
        if _LATIN.fullmatch(text) and not _ODD.search(text):
            return text, "cp1252"
        raise ValueError(f"neither UTF-8 nor UTF-16, at byte {error.start}") from error


def _without_mark(data: bytes) -> str:
    """UTF-16 of mostly ASCII; "" where it is not."""
    count = len(data) // 2
    if count < 2 or len(data) % 2:
        return ""
    low, high = data[0::2].count(0), data[1::2].count(0)
    if high > 0.7 * count and low < 0.05 * count:
        return "utf-16-le"
    return "utf-16-be" if low > 0.7 * count and high < 0.05 * count else ""
