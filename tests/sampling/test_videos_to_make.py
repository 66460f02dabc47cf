"""Which videos an evaluation asks for."""

from pathlib import Path

import pytest

from mmjax.errors import DataError
from mmjax.sampling.people import PersonToShow, videos_to_make

OUT = Path("out")


def test_each_person_with_each_prompt_and_seed():
    people = [PersonToShow("Anna Ü.", ["1.png", "2.png"], "woman"), PersonToShow("ben", ["b.png"], "man")]
    found = videos_to_make(people, ["A {class_word} img smiles", "A {class_word} img runs"], [3, 5], OUT)
    assert len(found) == 8 and len({each.path for each in found}) == 8
    first, last = found[0], found[-1]
    assert first.path == OUT / "Anna_Ü" / "p000-s3.mp4" and first.person == "Anna Ü."
    assert (first.request.prompt, first.request.references, first.request.seed) == (
        "A woman img smiles",
        ("1.png", "2.png"),
        3,
    )
    assert last.path == OUT / "ben" / "p001-s5.mp4" and last.request.prompt == "A man img runs"


def test_a_persons_own_prompt_and_seed_take_the_others_place():
    people = [PersonToShow("anna", ["1.png"], "woman", "A woman img waves", 7), PersonToShow("ben", ["b.png"])]
    found = videos_to_make(people, ["A man img"], [0, 1], OUT)
    assert [(each.person, each.request.prompt, each.request.seed) for each in found] == [
        ("anna", "A woman img waves", 7),
        ("ben", "A man img", 0),
        ("ben", "A man img", 1),
    ]


def test_names_that_would_be_one_folder_are_two():
    people = [PersonToShow(name, ["1.png"]) for name in ("a/b", "a?b", "..", "/", "x" * 200)]
    found = videos_to_make(people, ["A man img"], [0], OUT)
    folders = [each.path.parent.name for each in found]
    assert len(set(folders)) == 5 and all(each.path.parent.parent == OUT for each in found)
    assert not any(name in ("", ".", "..") or len(name) > 90 for name in folders)


def test_what_is_missing_is_said():
    with pytest.raises(DataError, match="expected one for anna, found none; give --prompts"):
        videos_to_make([PersonToShow("anna", ["1.png"])], [], [0], OUT)
    with pytest.raises(DataError, match="expected a class word for anna, found none"):
        videos_to_make([PersonToShow("anna", ["1.png"])], ["A {class_word} img"], [0], OUT)
