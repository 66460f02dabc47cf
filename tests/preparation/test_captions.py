"""Captions: where the trigger goes, what a caption without a class word becomes, and whose word counts."""

import sys

import numpy as np
import pytest

from mmjax.encoders.prompts import split_at_trigger
from mmjax.errors import ConfigError
from mmjax.preparation.captions import MAX_CHARACTERS, caption_for, check_captions, load_captioner, with_trigger
from mmjax.preparation.reasons import Rejected
from mmjax.preparation.settings import Settings
from tests.helpers import face_pictures as fp
from tests.helpers.made_samples import sample

PICTURES = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
PROMPTS = fp.DATA / "prompts"


def caption(text=None, settings=None, attributes=None, captioner=None):
    return caption_for(sample("a.jpg", caption=text), lambda: PICTURES, settings or Settings(), attributes, captioner)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("A man is talking", "A man img is talking"),
        ("A man img is talking", "A man img is talking"),
        ("WOMAN, smiling", "WOMAN img, smiling"),
        ("a woman with her child", "a woman img with her child"),
        ("man walks his dog", "man img walks his dog"),
        ("portrait of a grandmother", "portrait of a grandmother img"),
        ("A man-made lake behind a girl", "A man-made lake behind a girl img"),
        ("a five-year-old boy runs", "a five-year-old boy img runs"),
        ("A man's hat on a boy", "A man's hat on a boy img"),
        ("A close-up of a man's face", "A man img. A close-up of a man's face"),
        ("the actress’ dress", "An actress img. The actress’ dress"),
        ("baby clothes on a child", "baby clothes on a child img"),
        ("a baby smiling", "a baby img smiling"),
        ("a human, seen from the front", "a human img, seen from the front"),
        ("no man in sight but a woman", "no man in sight but a woman img"),
        ("A man img and a woman img", "A man img and a woman"),
        ("a 'boy' and his man's hat", "a 'boy img' and his man's hat"),
        ("img 1234 of a man", "1234 of a man img"),
        ("IMG man", "man img"),
        ("imgs of a lady", "imgs of a lady img"),
    ],
)
def test_where_the_trigger_goes(text, expected):
    assert with_trigger(text) == expected
    split_at_trigger(expected)


@pytest.mark.parametrize(
    "text, gender, expected",
    [
        ("A man and a woman dance", "woman", "A man and a woman img dance"),
        ("A man and a woman dance", "man", "A man img and a woman dance"),
        ("A man and a woman dance", None, "A man img and a woman dance"),
        ("A man dances", "woman", "A man img dances"),
        ("A person and a girl", "woman", "A person img and a girl"),
    ],
)
def test_the_estimated_gender_chooses_among_class_words(text, gender, expected):
    assert with_trigger(text, "", gender) == expected


@pytest.mark.parametrize(
    "attributes, word",
    [(("man", 40.0), "man"), (("woman", 13.0), "woman"), (("man", 12.9), "boy"), (("woman", 3), "girl")],
)
def test_a_caption_without_class_word_is_put_behind_one(attributes, word):
    assert caption("two people at a table", attributes=attributes) == f"A {word} img. Two people at a table"
    assert caption("two people at a table", Settings(class_word="adult")) == "An adult img. Two people at a table"
    assert caption("two women", Settings(class_word="person"), attributes) == f"A {word} img. Two women", (
        "estimates first"
    )


def test_without_anybody_to_ask_it_is_dropped():
    with pytest.raises(Rejected, match="settings.class_word") as error:
        caption("two people at a table")
    assert error.value.reason == "no_class_word"
    for nothing in (None, "", " \n\t", "\x00\u200b"):
        with pytest.raises(Rejected) as error:
            caption(nothing, Settings(class_word="man"))
        assert error.value.reason == "no_caption"


def test_templates():
    own = Settings(caption_template="A photo of a {class_word} at home", class_word="actor")
    assert caption(None, own) == "A photo of an actor img at home"
    assert caption("A girl", own) == "A girl img", "for what has no caption"
    sfhq = caption(None, Settings(caption_template="sfhq"), ("woman", 30.0))
    assert sfhq.startswith("A portrait of a woman img ") and "black borders" in sfhq
    assert (
        caption(None, Settings(caption_template="a {class_word} img {class_word}", class_word="boy")) == "a boy img boy"
    )
    with pytest.raises(Rejected) as error:
        caption(None, Settings(caption_template="sfhq"))
    assert error.value.reason == "no_class_word"


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"class_word": "dog"}, "class_word.*expected one of man, woman"),
        ({"class_word": "Man"}, "class_word"),
        ({"caption_template": "A {gender} {class_word}"}, r"found \{gender\}"),
        ({"caption_template": "A {class_word"}, r"found \{class_word"),
        ({"caption_template": "A nice portrait"}, "found neither"),
    ],
)
def test_wrong_settings_are_told_before_the_run(change, complaint):
    with pytest.raises(ConfigError, match=complaint):
        check_captions(Settings(**change))


def test_sound_settings_pass():
    for template in ("", "sfhq", "A {class_word} img", "a person smiling"):
        check_captions(Settings(caption_template=template, class_word="woman"))


def test_hostile_captions_come_out_as_one_clean_line():
    text = caption("A\u202e man\x00\r\n\tin \ud800 a   park\u200b")
    assert text == "A man img in a park"
    text.encode()
    with pytest.raises(Rejected) as error:
        caption("A man " + "x" * MAX_CHARACTERS * 10)
    assert error.value.reason == "long_caption"


def test_the_captioner_is_shown_frames_and_caption():
    seen = []

    def captioner(frames, text, person):
        seen.append((frames, text, person))
        return "A woman\nsings" if text is None else ""

    named = sample("a.jpg", person="anna")
    assert caption_for(named, lambda: PICTURES, Settings(), None, captioner) == "A woman img sings"
    assert caption("A man", captioner=captioner) == "A man img", "an empty answer leaves the caption"
    assert [each[1:] for each in seen] == [(None, "anna"), ("A man", None)] and seen[0][0] is PICTURES


def test_frames_are_read_for_a_captioner_only():
    def fails():
        raise AssertionError

    assert caption_for(sample("a.jpg", caption="A man"), fails, Settings(), None, None) == "A man img"


def test_a_captioner_that_fails_drops_the_sample_and_a_wrong_one_ends_the_run():
    with pytest.raises(Rejected, match="ZeroDivisionError") as error:
        caption("A man", captioner=lambda *_: 1 / 0)
    assert error.value.reason == "no_caption"
    with pytest.raises(ConfigError, match="return text, found int"):
        caption("A man", captioner=lambda *_: 7)


def test_a_captioner_is_loaded_by_name(tmp_path, monkeypatch):
    (tmp_path / "my_captions.py").write_text("SIZE = 3\ndef describe(frames, caption, person):\n    return 'A man'\n")
    (tmp_path / "broken_captions.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert caption(captioner=load_captioner("my_captions:describe")) == "A man img"
    for name, complaint in {
        "my_captions": "MODULE:FUNCTION",
        ":describe": "MODULE:FUNCTION",
        "no_such_module:describe": "PYTHONPATH",
        "broken_captions:describe": "no_such_package",
        "my_captions:tell": "found nothing",
        "my_captions:SIZE": "found int",
    }.items():
        with pytest.raises(ConfigError, match=complaint):
            load_captioner(name)
    sys.modules.pop("my_captions")


@pytest.mark.skipif(not PROMPTS.is_dir(), reason="no MMJAX_TEST_DATA with prompts")
def test_prompts_of_benchmarks_become_captions():
    """Shares that need no class word from elsewhere, as measured; with one all do."""
    shares = {"vbench/human.txt": 0.39, "vbench/human_action.txt": 1.0, "vbench/human_longer.txt": 0.58}
    shares |= {"vbench2_human/Human_Clothes.txt": 1.0, "vbench2_human/Human_Interaction.txt": 0.53}
    for name, share in shares.items():
        prompts, alone = [line for line in (PROMPTS / name).read_text().splitlines() if line.strip()], 0
        for prompt in prompts:
            split_at_trigger(with_trigger(prompt, "person"))
            try:
                split_at_trigger(with_trigger(prompt))
                alone += 1
            except Rejected:
                pass
        assert alone / len(prompts) >= share - 0.005, (name, alone, len(prompts))
