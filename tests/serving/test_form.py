"""What somebody asks for: values of any kind become a checked form, or one line; a form becomes videos."""

import pytest

from mmjax import config as c
from mmjax.errors import MMJaxError
from mmjax.serving import form as forms
from mmjax.serving.form import Offer, asked_videos, checked_form, offer_of, values_of_settings, with_trigger
from mmjax.serving.limits import Limits

OFFER = Offer((1, 9), ((16, 16), (8, 8)), 8, 4, 6.0, True)
GOOD = {"prompt": "A man is smiling", "class_word": "person", "compare": "one", "second_prompt": "", "likeness": 1}
GOOD |= {"frames": 9, "size": "16 x 16", "steps": 4, "guidance": 6, "seed": "7", "negative_prompt": "", "consent": True}


@pytest.mark.parametrize(
    "prompt, word, read",
    [
        ("A man is smiling", "person", "A man img is smiling"),
        ("A man img is smiling", "person", "A man img is smiling"),
        ("a man and a woman", "woman", "a man and a woman img"),
        ("a man and a woman", "person", "a man img and a woman"),
        ("Smiling in a park", "woman", "A woman img smiling in a park"),
        ("In rain", "actor", "An actor img in rain"),
        ("the womanly mankind", "girl", "A girl img the womanly mankind"),
        ("  a   MAN,\n old ", "boy", "a MAN img, old"),
    ],
)
def test_class_word_and_trigger_are_put_in(prompt, word, read):
    assert with_trigger(prompt, word) == read


def test_a_good_form():
    form = checked_form(GOOD | {"steps": 4.0, "seed": str(2**64 - 1)}, OFFER)
    assert (form.steps, form.size, form.seed, form.likeness) == (4, (16, 16), 2**64 - 1, 1.0)


WRONG = {
    "not ticked": ({"consent": False}, "not ticked"),
    "ticked by a text": ({"consent": "true"}, "not ticked"),
    "no prompt": ({"prompt": " \n "}, "prompt: expected what is to be seen, found nothing"),
    "a long prompt": ({"prompt": "a" * 1001}, "prompt: expected at most 1000 letters, found 1001"),
    "half a letter": ({"prompt": "a man \udce9"}, "halves of letters"),
    "a list for a prompt": ({"prompt": ["a"]}, "prompt: expected text, found list"),
    "no second prompt": ({"compare": "prompts"}, "second prompt: expected what is to be seen"),
    "an unknown comparison": ({"compare": "all"}, "side by side: expected one of one, likeness"),
    "a class word of one's own": ({"class_word": "king"}, "class word: expected one of man, woman"),
    "a record for a class word": ({"class_word": {}}, "found dict"),
    "likeness beyond": ({"likeness": 3}, "likeness = 3: expected a number of 0 to 2"),
    "likeness that is none": ({"likeness": float("nan")}, "likeness = nan"),
    "likeness in words": ({"likeness": "high"}, "likeness = high"),
    "frames off the list": ({"frames": 17}, "frames: expected one of 1, 9, found 17"),
    "frames that are true": ({"frames": True}, "frames: expected one of"),
    "a size off the list": ({"size": "9999 x 9999"}, "size: expected one of 16 x 16, 8 x 8"),
    "a path for a size": ({"size": "../../etc/passwd"}, "size: expected one of"),
    "many steps": ({"steps": 101}, "steps = 101: expected a whole number of 1 to 100"),
    "half a step": ({"steps": 1.5}, "steps = 1.5"),
    "no guidance": ({"guidance": None}, "guidance = None"),
    "a seed in words": ({"seed": "lucky"}, "seed = lucky"),
    "a negative seed": ({"seed": -1}, "seed = -1"),
    "a seed beyond 64 bits": ({"seed": str(2**64)}, "seed = 18446744073709551616"),
    "a long seed": ({"seed": "9" * 10_000}, "seed = 9999"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_asked_for_is_one_line(case):
    change, said = WRONG[case]
    with pytest.raises(MMJaxError) as refused:
        checked_form(GOOD | change, OFFER)
    assert said in str(refused.value) and "\n" not in str(refused.value) and len(str(refused.value)) < 400


def test_a_form_of_nothing_is_refused():
    with pytest.raises(MMJaxError):
        checked_form({}, OFFER)
    with pytest.raises(MMJaxError):
        checked_form({"consent": True}, OFFER)


def test_side_by_side():
    form = lambda **changes: checked_form(GOOD | changes, OFFER)  # noqa: E731
    one = asked_videos(form(), {})
    assert [each.request.prompt for each in one] == ["A man is smiling"] and one[0].sampling["identity_scale"] == 1
    scales = asked_videos(form(compare="likeness", likeness=0.5), {"a": ["x"]})
    assert [each.sampling["identity_scale"] for each in scales] == [0, 1, 0.5]
    assert len({each.request for each in scales}) == 1 and scales[0].label == "likeness 0"
    prompts = asked_videos(form(compare="prompts", second_prompt="he runs"), {"a": ["x"]})
    assert [each.request.prompt for each in prompts] == ["A man img is smiling", "A person img he runs"]
    people = asked_videos(form(compare="people"), {"a": ["x"], "b": ["y", "z"]})
    assert [each.request.references for each in people] == [("x",), ("y", "z")]
    with pytest.raises(MMJaxError, match="expected a picture of the second person"):
        asked_videos(form(compare="people"), {"a": ["x"]})
    with pytest.raises(MMJaxError, match="expected one trigger"):
        asked_videos(form(prompt="a man img and img"), {"a": ["x"]})


def test_settings_of_a_file_fill_the_form():
    settings = {"prompt": "A man img", "seed": 5, "size": {"frames": 9, "height": 8, "width": 8}}
    settings["sampling"] = {"steps": 3, "guidance": 2.5, "identity_scale": 0.25}
    values, said = values_of_settings(settings, OFFER)
    form = checked_form(GOOD | values, OFFER)
    assert (form.prompt, form.seed, form.frames, form.size) == ("A man img", 5, 9, (8, 8)) and not said
    assert (form.steps, form.guidance, form.likeness, form.negative_prompt) == (3, 2.5, 0.25, "")
    settings |= {"size": {"frames": 49, "height": 480, "width": 720}, "reference_hashes": ["0"]}
    settings["sampling"] |= {"steps": 5000}
    values, said = values_of_settings(settings, OFFER)
    assert checked_form(GOOD | values, OFFER).size == (16, 16) and len(said) == 3
    film = {
        "shots": [{"prompt": "one", "seed": 1}, {"prompt": "two"}],
        "size": {"frames": 18, "height": 16, "width": 16},
    }
    values, said = values_of_settings(film, OFFER)
    assert values["prompt"] == "one" and "film" in said[0]


def test_what_a_model_offers_can_all_be_sampled():
    from mmjax.sampling import checked_size

    offer = offer_of(c.Experiment(), Limits())
    for frames in offer.frames:
        for size in offer.sizes:
            checked_size(c.Experiment(), frames, *size)
    assert forms.size_text(offer.sizes[0]) == f"{c.Data().height} x {c.Data().width}"
