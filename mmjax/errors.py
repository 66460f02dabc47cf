"""Errors that are the user's to mend, and how an entry point shows them.

Every error of this family carries one clear message: the thing, what was expected, what was found and
what to do. An entry point wrapped by `exits_cleanly` prints that message without a traceback and exits with 2.
"""

import functools
import os
import sys
from collections.abc import Callable


class MMJaxError(Exception):
    """Base of all errors that a user can mend."""


class ConfigError(MMJaxError):
    """A setting is unknown, of the wrong type, out of range, or at odds with another one."""


class DataError(MMJaxError):
    """A record, data set, picture or clip cannot be used."""


class MediaError(DataError):
    """A picture or video cannot be read; the message says what was found, and does not name the file.

    Attributes:
      reason: "unreadable", "too_large" or "unsupported" (it says of itself what is not read rightly).
      value: what was measured, such as megapixels; None where nothing was.
    """

    def __init__(self, reason: str, detail: str, value: float | None = None):
        super().__init__(detail)
        self.reason, self.detail, self.value = reason, detail, value


class PromptError(MMJaxError):
    """A prompt lacks what the identity needs: the class word and the trigger."""


class UnreadableError(PromptError):
    """A prompt of which the text encoder can read too little, such as one in another script."""


class CheckpointError(MMJaxError):
    """A checkpoint is missing, incomplete, or does not fit the model."""


class ConversionError(MMJaxError):
    """A source folder does not hold the tensors that the model needs."""


class TreeError(MMJaxError):
    """Two parameter trees that should match do not."""


def error_text(error: BaseException) -> str:
    """What a library says of its trouble, in one short line."""
    text = getattr(error, "strerror", None) or str(error)  # libav's has no more to say than this
    return text.strip().partition("\n")[0][:200] or type(error).__name__


def exits_cleanly(main: Callable) -> Callable:
    """Wraps an entry point: `MMJaxError` becomes one message on stderr and exit status 2.

    Set MMJAX_TRACEBACK=1 to see the traceback as well.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except MMJaxError as error:
            if os.environ.get("MMJAX_TRACEBACK"):
                raise
            print(f"error: {error}", file=sys.stderr, flush=True)
            sys.exit(2)

    return wrapped
