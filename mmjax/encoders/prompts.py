"""From a prompt to tokens that carry an identity: the class word, the trigger `img`, and the mask m of eq. 5.

"A man img is talking" says whose identity goes where: the trigger stands right after the class word. It is dropped,
and the class word's token is repeated once for each identity token of each reference picture, so that every repeated
token is fused with one of them (METHOD 2).
"""

import re
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool

from mmjax.errors import PromptError

TRIGGER = "img"
CLASS_WORDS = (
    *("man", "woman", "boy", "girl", "person", "guy", "lady", "gentleman", "child", "kid", "baby", "toddler"),
    *("teenager", "adult", "human", "grandmother", "grandfather", "mother", "father", "actor", "actress"),
)
_EXAMPLE = f'write the class word and then the trigger, such as "A man {TRIGGER} is smiling"'
_TRIGGER = re.compile(rf"(?<!\w){TRIGGER}(?!\w)", re.IGNORECASE)
_LAST_WORD = re.compile(r"(\w+)\s*$")


def expand_trigger(
    prompt: str, tokenize: Callable[[str], Sequence], references: int, id_tokens: int
) -> tuple[list, Bool[np.ndarray, " n"]]:
    """Tokens of a prompt with the class word's token repeated, and m of eq. 5 that marks the repeated ones.

    Args:
      prompt: text with one class word of `CLASS_WORDS` followed by the trigger.
      tokenize: any tokenizer, text to tokens, without an end-of-text token. Where it splits the class word into several
        pieces, the last piece is repeated.
      references: pictures of the person.
      id_tokens: identity tokens of each.

    Returns:
      The tokens, not padded, and the mask of the same length; references * id_tokens of it are True.

    Raises:
      PromptError: no trigger, two of them, or one that does not follow a class word.
    """
    check_text(prompt)
    before, after = split_at_trigger(prompt)
    head, tail = list(tokenize(before)), list(tokenize(after)) if after.strip() else []
    count = references * id_tokens
    tokens = head[:-1] + [head[-1]] * count + tail
    mask = np.zeros(len(tokens), bool)
    mask[len(head) - 1 : len(head) - 1 + count] = True
    return tokens, mask


def split_at_trigger(prompt: str) -> tuple[str, str]:
    """The text up to and with the class word, and the text behind the trigger. Raises `PromptError`."""
    found = list(_TRIGGER.finditer(prompt))
    if not found:
        missing = "" if _has_class_word(prompt) else " and no class word (man, woman, boy, girl, person, ...)"
        raise PromptError(f'prompt "{prompt}": found no trigger "{TRIGGER}"{missing}; {_EXAMPLE}')
    if len(found) > 1:
        raise PromptError(f'prompt "{prompt}": expected one trigger "{TRIGGER}", found {len(found)}; {_EXAMPLE}')
    before, after = prompt[: found[0].start()], prompt[found[0].end() :]
    word = _LAST_WORD.search(before)
    if not word or word[1].lower() not in CLASS_WORDS:
        instead = f'"{word[1]}"' if word else "nothing"
        raise PromptError(
            f'prompt "{prompt}": expected a class word ({", ".join(CLASS_WORDS)}) right before "{TRIGGER}", '
            f"found {instead}; {_EXAMPLE}"
        )
    return before.rstrip(), after.lstrip()


def check_text(prompt: str) -> None:
    """Raises `PromptError` for what is no text: bytes of another encoding, as a shell passes them on."""
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        shown = prompt.encode(errors="backslashreplace").decode()
        raise PromptError(
            f'prompt "{shown}": expected UTF-8, found bytes of another encoding; write it again'
        ) from error


def check_trigger(prompt: str, negative: str, references: int) -> None:
    """Raises `PromptError` for a trigger that nothing follows: without references it would show a stranger."""
    for text in (prompt, negative):
        check_text(text)
    if _TRIGGER.search(prompt) and not references:
        raise PromptError(
            f'prompt "{prompt}": found the trigger "{TRIGGER}" and no reference picture of the person; name one '
            f'(--reference FACE.jpg), or leave "{TRIGGER}" out for a video of nobody in particular'
        )
    if _TRIGGER.search(negative):
        raise PromptError(f'negative prompt "{negative}": expected no trigger "{TRIGGER}" in it; leave it out')


def check_length(prompt: str, tokens: Sequence, length: int) -> None:
    """Raises `PromptError` when the tokens do not fit the text length of the model."""
    if len(tokens) > length:
        raise PromptError(
            f'prompt "{prompt}": expected at most {length} tokens (model.transformer.text_length), the repeated class '
            f"word included, found {len(tokens)}; write it shorter"
        )


def _has_class_word(prompt: str) -> bool:
    return any(word.lower() in CLASS_WORDS for word in re.findall(r"\w+", prompt))
