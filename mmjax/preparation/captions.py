"""What a sample's caption says: class word and trigger at the right place, whoever wrote it.

    A man is talking            ->  A man img is talking
    A close-up of a man's face  ->  A man img. A close-up of a man's face
    two people at a table       ->  A woman img. Two people at a table    (the class word by estimated gender and age)

The trigger goes behind the first class word that can be the person: not one that owns something ("a woman's hat"), is
part of a longer word ("man-made") or describes another one ("baby clothes"), and, where the gender is estimated, rather
one that does not contradict it. A caption without such a word is put behind one.
"""

import importlib
import re
import unicodedata
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

from mmjax.encoders.prompts import CLASS_WORDS, TRIGGER, split_at_trigger
from mmjax.errors import ConfigError, PromptError
from mmjax.preparation.items import Sample
from mmjax.preparation.reasons import Rejected
from mmjax.preparation.settings import Settings

# what the user's function is: frames uint8 [F, h, w, 3], the caption and the person that the input names -> caption
Captioner = Callable[[UInt8[np.ndarray, "F h w 3"], str | None, str | None], str]

TEMPLATES = {"sfhq": "A portrait of a {class_word} looking at the camera, a square photo with black borders."}  # [ours]
ADULT = 13  # years; below it is a boy or a girl [ours]
MAX_CHARACTERS = 10_000  # four times what the longest text length of 226 tokens can hold, and more
_FIELD = "{class_word}"
_MALE = {"man", "boy", "guy", "gentleman", "grandfather", "father", "actor"}
_FEMALE = {"woman", "girl", "lady", "grandmother", "mother", "actress"}
_DESCRIBES = {"baby", "toddler", "child", "kid", "teenager", "adult", "human"}  # other nouns, as in "human hand"
_OWNS = r"['’]s\b|(?<=s)['’]"  # man's, actress'
_WORD = re.compile(rf"(?<![\w\-])({'|'.join(CLASS_WORDS)})(?![\w\-]|{_OWNS})", re.IGNORECASE)
_OWNER = re.compile(rf"(?<![\w\-])({'|'.join(CLASS_WORDS)})(?:{_OWNS})", re.IGNORECASE)
_TRIGGER = re.compile(rf"(?<!\w){TRIGGER}(?!\w)\s*", re.IGNORECASE)
_NOBODY = re.compile(r"\b(no|per)\s+$", re.IGNORECASE)
# what follows a noun that stands alone
_ALONE = re.compile(
    r"\s*([^\w\s]|$)|\s+(\w+(ing|ed)|is|are|was|has|who|with|without|in|on|at|of|and|or|by|from|to|behind|beside|before|"
    r"near|under|over|next|while|looks?|smiles?|talks?|sits?|stands?|walks?|plays?|wears?|holds?)\b",
    re.IGNORECASE,
)


def caption_for(
    sample: Sample,
    frames: Callable[[], UInt8[np.ndarray, "F h w 3"]],
    settings: Settings,
    attributes: tuple[str, float] | None,
    captioner: Captioner | None,
) -> str:
    """The caption of a sample, with one class word before the trigger, so that `prompts.split_at_trigger` accepts it.

    The captioner, where there is one, is asked about every sample and sees the caption of the input; where it returns
    nothing, and where there is none, that caption is taken, and without one the template.

    Args:
      frames: reads the sample's pictures; called for the captioner only.
      attributes: (gender "man" or "woman", age in years) as estimated, None where nobody could.

    Raises:
      Rejected: "no_caption", "no_class_word" or, beyond `MAX_CHARACTERS`, "long_caption".
      ConfigError: the captioner returned something else than text.
    """
    text = _clean(sample.caption or "")
    if captioner is not None:
        text = _asked(captioner, frames(), text or None, sample.person) or text
    word = _class_word(settings, attributes)
    if not text and settings.caption_template:
        text = _filled(settings.caption_template, word)
    if not text:
        raise Rejected("no_caption", "expected a caption, a template or a captioner's answer, found none of them")
    if len(text) > MAX_CHARACTERS:
        raise Rejected("long_caption", f"expected at most {MAX_CHARACTERS} characters, found {len(text)}", len(text))
    return with_trigger(text, word, attributes and attributes[0])


def with_trigger(text: str, class_word: str = "", gender: str | None = None) -> str:
    """A caption with class word and trigger; one that has both at the right place stays as it is.

    Args:
      class_word: for a caption that names nobody who can be the person.
      gender: "man" or "woman": class words of the other one are taken only where there is no better.

    Raises:
      Rejected: "no_class_word": none in the caption, and none given.
    """
    if _is_sound(text):
        return text
    text = _TRIGGER.sub("", text).strip()  # stray ones, as in "img 1234"
    found = [match for match in _WORD.finditer(text) if _can_be_a_person(text, match)]
    if found:
        place = min(found, key=lambda match: _contradicts(match[1], gender)).end()  # the first of the best
        return f"{text[:place]} {TRIGGER}{text[place:]}"
    owner = _OWNER.search(text)
    word = owner[1].lower() if owner and not _contradicts(owner[1], gender) else class_word
    if not word:
        raise Rejected(
            "no_class_word",
            f'expected a class word (man, woman, person, ...) in "{text[:200]}", found none that is the person; set '
            "settings.class_word, or use a model pack that estimates gender and age",
        )
    return f"{_article(word).capitalize()} {word} {TRIGGER}. {text[:1].upper()}{text[1:]}".strip()


def load_captioner(name: str) -> Captioner:
    """The user's function `MODULE:FUNCTION`, called as function(frames, caption, person).

    frames are the sample's, uint8 [F, h, w, 3], RGB, one for a photo; caption and person what the input says, or None.
    It returns a caption, with or without class word and trigger, or "" for none. It may be called in a worker process.

    Raises:
      ConfigError: no such module or function; says what it tried.
    """
    module, _, function = name.partition(":")
    if not module or not function:
        raise ConfigError(f'settings.captioner = "{name}": expected MODULE:FUNCTION, such as my_captions:describe')
    try:
        found = importlib.import_module(module)
    except Exception as error:  # whatever the user's module raises
        raise ConfigError(
            f'settings.captioner = "{name}": expected a module to import, found {type(error).__name__}: {error}; check '
            "its name, and that its folder is in PYTHONPATH"
        ) from error
    for part in function.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        instead = "nothing" if found is None else type(found).__name__
        raise ConfigError(f'settings.captioner = "{name}": expected a function {function} in {module}, found {instead}')
    return found


def check_captions(settings: Settings) -> None:
    """Raises `ConfigError` for a template or a class word that cannot give a caption."""
    if settings.class_word and settings.class_word not in CLASS_WORDS:
        raise ConfigError(
            f'settings.class_word = "{settings.class_word}": expected one of {", ".join(CLASS_WORDS)}, or ""'
        )
    if not settings.caption_template:
        return
    template = TEMPLATES.get(settings.caption_template, settings.caption_template)
    if unknown := re.findall(r"\{(?!class_word\})[^}]*\}?", template):
        raise ConfigError(
            f'settings.caption_template = "{template}": expected {_FIELD} as the only field, found '
            f"{', '.join(unknown)}; write {_FIELD}, or name one of {', '.join(TEMPLATES)}"
        )
    try:
        with_trigger(_filled(template, "person"))
    except Rejected as error:
        raise ConfigError(
            f'settings.caption_template = "{template}": expected {_FIELD} or a class word, found neither; such as '
            f'"{TEMPLATES["sfhq"]}"'
        ) from error


def _asked(captioner: Captioner, frames: np.ndarray, caption: str | None, person: str | None) -> str:
    try:
        answer = captioner(frames, caption, person)
    except Exception as error:  # the user's; one sample less, not the end of the run
        raise Rejected("no_caption", f"the captioner failed: {type(error).__name__}: {error}") from error
    if not isinstance(answer, str | None):
        raise ConfigError(f"settings.captioner: expected it to return text, found {type(answer).__name__}; mend it")
    return _clean(answer or "")


def _clean(text: str) -> str:
    """Without control and format characters, lone surrogates and runs of white space."""
    text = text[: 4 * MAX_CHARACTERS]
    visible = "".join(" " if unicodedata.category(letter)[0] == "C" else letter for letter in text)
    return " ".join(visible.split())


def _class_word(settings: Settings, attributes: tuple[str, float] | None) -> str:
    if attributes is None:
        return settings.class_word
    gender, age = attributes
    return gender if age >= ADULT else {"man": "boy", "woman": "girl"}[gender]


def _filled(template: str, word: str) -> str:
    """A template, or one of `TEMPLATES` by name, with the class word and the article that it asks for."""
    template = TEMPLATES.get(template, template)
    if _FIELD in template and not word:
        raise Rejected("no_class_word", "expected an estimated gender and age or settings.class_word for the template")
    if _article(word) == "an":
        template = re.sub(r"\b([Aa]) (?=\{class_word\})", r"\1n ", template)
    return _clean(template.replace(_FIELD, word))


def _is_sound(text: str) -> bool:
    try:
        split_at_trigger(text)
    except PromptError:
        return False
    return True


def _can_be_a_person(text: str, match: re.Match) -> bool:
    if _NOBODY.search(text[: match.start()]):
        return False
    return match[1].lower() not in _DESCRIBES or bool(_ALONE.match(text, match.end()))


def _contradicts(word: str, gender: str | None) -> bool:
    return word.lower() in {"man": _FEMALE, "woman": _MALE}.get(gender or "", ())


def _article(word: str) -> str:
    return "an" if word[:1] in "aeio" else "a"
