"""Whose video it is and what was asked for: from a manifest, a record beside it, folders and names."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmjax.errors import DataError
from mmjax.evaluation import inputs


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".png", ".jpg"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    else:
        path.write_bytes(b"")
    return path


def test_people_by_folder_and_by_name_the_longest_first(tmp_path):
    for name in ("anna/1.mp4", "anna/deep/2.gif", "anna-maria.mp4", "anna_3.webm", "annabel.mp4", "notes.txt"):
        touch(tmp_path / name)
    found = inputs.list_videos({"ours": tmp_path}, ["anna", "anna-maria", "ben"])
    assert {each.key: each.person for each in found} == {
        "ours/anna/1.mp4": "anna",
        "ours/anna/deep/2.gif": "anna",
        "ours/anna-maria.mp4": "anna-maria",
        "ours/anna_3.webm": "anna",
        "ours/annabel.mp4": None,
    }


def test_the_record_beside_a_video_says_its_prompt_seed_and_reference(tmp_path):
    video = touch(tmp_path / "anna" / "p000-s7.mp4")
    touch(video.with_suffix(".png"))
    record = {"references": ["/faces/anna/2.png"], "prompt": "A woman img", "seed": 7}
    video.with_suffix(".json").write_text(json.dumps(record))
    (found,) = inputs.list_videos({"ours": tmp_path}, ["anna"])
    assert (found.person, found.prompt, found.seed) == ("anna", "A woman img", 7)
    assert inputs.given_picture(found, [tmp_path / "1.png", tmp_path / "2.png"]) is None
    assert inputs.given_picture(found, [tmp_path / "1.png", Path("/faces/x/../anna/2.png")]) == 1


def given_of(root, video, given, pictures):
    """(person, picture that the generator was given, below the references) of a video whose record names a picture."""
    for each in pictures:
        touch(root / "people" / each)
    video = touch(root / "videos" / video)
    video.with_suffix(".json").write_text(json.dumps({"references": [given]}))
    listed = inputs.list_references(root / "people")
    (found,) = inputs.list_videos({"ours": root / "videos"}, [each.person for each in listed], None, listed)
    own = [each.path for each in listed if each.person == found.person]
    number = inputs.given_picture(found, own)
    return found.person, None if number is None else own[number].relative_to(root / "people").as_posix()


TWO = ("anna/1.png", "anna/2.png", "ben/1.png", "ben/3.png")  # the first pictures of both have one name


@pytest.mark.parametrize(
    ("video", "given", "pictures", "expected"),
    [
        ("a.mp4", "/elsewhere/people/ben/1.png", TWO, ("ben", "ben/1.png")),  # by the end of its path
        ("anna/a.mp4", "/elsewhere/people/ben/1.png", TWO, ("ben", "ben/1.png")),
        ("anna/a.mp4", "/elsewhere/1.png", TWO, ("anna", None)),  # two have this name
        ("anna/a.mp4", "/elsewhere/2.png", TWO, ("anna", "anna/2.png")),  # one has
        ("anna/a.mp4", "/elsewhere/3.png", TWO, ("anna", None)),  # somebody else has
        ("a.mp4", "/elsewhere/2.png", TWO, (None, None)),  # whose it is is not said by such a name
        ("a.mp4", "/elsewhere/ben.png", ("anna.png", "ben.png"), ("ben", "ben.png")),  # but it is by this one
    ],
)
def test_the_given_picture_is_told_by_its_path_below_the_references(tmp_path, video, given, pictures, expected):
    assert given_of(tmp_path, video, given, pictures) == expected


def test_one_video_and_one_picture(tmp_path):
    clip, face = touch(tmp_path / "walk.mp4"), touch(tmp_path / "anna.jpg")
    clip.with_suffix(".json").write_text(json.dumps({"prompt": "walks"}))
    (reference,) = inputs.list_references(face)
    assert (reference.person, reference.path, reference.alone) == ("anna", face, True)
    (found,) = inputs.list_videos({"ours": clip}, ["anna"], None, [reference])
    assert (found.key, found.person, found.prompt) == ("ours/walk.mp4", "anna", "walks")
    (tmp_path / "list.csv").write_text("path,person\nwalk.mp4,ben\n")
    assert [each.person for each in inputs.list_videos({"x": tmp_path / "list.csv"}, (), None, [reference])] == ["ben"]
    with pytest.raises(DataError, match="expected a folder of videos, a video .*found another kind of file"):
        inputs.list_videos({"ours": face})
    with pytest.raises(DataError, match="or one picture; found another kind of file"):
        inputs.list_references(clip)


def test_others_are_asked_for_what_videos_were_made_of(tmp_path):
    def of(system, name, person, prompt=""):
        return inputs.VideoInput(system, Path(name), f"{system}/{name}", person, prompt)

    made = [of("ours", f"{who}/p00{n}-s0.mp4", who, f"{who} {n}") for who in ("anna", "ben") for n in (0, 1)]
    made.append(of("ours", "cara/p000-s0.mp4", "cara", "cara smiles"))
    others = [
        (of("theirs", "anna/p001-s0.mp4", "anna"), "anna 1"),
        (of("theirs", "ben_p0_7.mp4", "ben"), "ben 0"),
        (of("theirs", "ben_p2.mp4", "ben"), ""),
        (of("theirs", "ben_top1.mp4", "ben"), ""),
        (of("theirs", "cara-x.mp4", "cara"), "cara smiles"),
        (of("theirs", "anna-p001.mp4", "anna", "its own"), "its own"),
        (of("theirs", "p001.mp4", None), ""),
    ]
    found = inputs.prompts_of_made([each for each, _ in others], made)
    assert [each.prompt for each in found] == [prompt for _, prompt in others]
    assert inputs.prompts_of_made([others[-1][0]], made[-1:])[0].prompt == "cara smiles"
    assert inputs.prompts_of_made([others[0][0]], [])[0].prompt == ""


def test_the_prompts_of_a_manifest(tmp_path):
    (tmp_path / "prompts.csv").write_text("path,prompt\na,walks\nb,smiles\nc,walks\nd,\n")
    assert inputs.manifest_prompts(tmp_path / "prompts.csv") == ["walks", "smiles"]
    (tmp_path / "none.csv").write_text("path,prompt\na,\n")
    with pytest.raises(DataError, match="none.csv: expected a prompt or more in the column prompt, found none"):
        inputs.manifest_prompts(tmp_path / "none.csv")


@pytest.mark.parametrize("content", ["[]", "3", "{", '{"references": 3}', '{"references": [1], "seed": "x"}'])
def test_a_record_that_is_none_says_nothing(tmp_path, content):
    touch(tmp_path / "a.mp4").with_suffix(".json").write_text(content)
    (found,) = inputs.list_videos({"ours": tmp_path})
    assert (found.prompt, found.seed, found.given) == ("", None, None)


def test_numbered_pictures_alone_in_a_folder_are_a_video(tmp_path):
    for number in range(3):
        touch(tmp_path / "anna-walks" / f"frame_{number:02d}.png")
        touch(tmp_path / "pictures" / f"holiday{number}x.png")
    touch(tmp_path / "one" / "0.png")
    (found,) = inputs.list_videos({"ours": tmp_path}, ["anna"])
    assert found.key == "ours/anna-walks" and found.person == "anna"


def test_a_manifest_of_videos(tmp_path):
    (tmp_path / "list.csv").write_text("path,person,prompt,seed\na.mp4,anna,A woman img,3\nb.mp4,,,\n")
    first, second = inputs.list_videos({"ours": tmp_path / "list.csv"}, ["ben"])
    assert (first.path, first.person, first.prompt, first.seed) == (tmp_path / "a.mp4", "anna", "A woman img", 3)
    assert (second.person, second.prompt, second.seed) == (None, "", None)
    (tmp_path / "list.csv").write_text("path,seed\na.mp4,-3\n")
    with pytest.raises(DataError, match="line 2: expected a whole number as seed, found '-3'"):
        inputs.list_videos({"ours": tmp_path / "list.csv"})


def test_prompts_by_path_name_or_stem(tmp_path):
    for name in ("videos/anna/1.mp4", "videos/2.mp4", "videos/3.mp4"):
        touch(tmp_path / name)
    (tmp_path / "prompts.csv").write_text("path,prompt\nanna/1,smiles\n2.mp4,walks\n")
    found = inputs.list_videos({"ours": tmp_path / "videos"}, (), tmp_path / "prompts.csv")
    assert {each.path.name: each.prompt for each in found} == {"1.mp4": "smiles", "2.mp4": "walks", "3.mp4": ""}


def test_references_by_folder_name_and_manifest(tmp_path):
    for name in ("anna/1.png", "anna/more/2.jpg", "ben.png", ".hidden.png", "notes.txt"):
        touch(tmp_path / "people" / name)
    found = inputs.list_references(tmp_path / "people")
    assert [(each.person, each.path.name) for each in found] == [
        ("anna", "1.png"),
        ("anna", "2.jpg"),
        ("ben", "ben.png"),
    ]
    lines = (
        "path,person,role,class_word,prompt\npeople/ben.png,ben,,man,A man img\npeople/anna/1.png,anna,given,woman,\n"
    )
    (tmp_path / "people.csv").write_text(lines)
    anna, ben = inputs.list_references(tmp_path / "people.csv")
    assert anna == inputs.ReferenceInput(
        "anna", tmp_path / "people/anna/1.png", True, True, "woman", below=Path("people/anna/1.png")
    )
    assert ben == inputs.ReferenceInput(
        "ben", tmp_path / "people/ben.png", False, True, "man", "A man img", None, ben.below
    )


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("people.csv", "path,person\na.png,\n", "line 2: expected a person beside the path"),
        ("people.csv", "path,person,role\na.png,anna,first\n", "line 2: expected a role of given, input or reference"),
        ("people.csv", "path,person\n", "expected a line for each picture, found none"),
        ("nowhere", None, "expected a folder with one folder of pictures a person.*found none"),
    ],
)
def test_references_that_cannot_serve(tmp_path, name, content, match):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=match):
        inputs.list_references(tmp_path / name)


def test_videos_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match="expected a folder of videos, a video .* or a manifest.*found none"):
        inputs.list_videos({"ours": tmp_path / "nowhere"})
    with pytest.raises(DataError, match=r"expected videos \(.mp4 .*\), found none"):
        inputs.list_videos({"ours": tmp_path})
    (tmp_path / "twice.csv").write_text("path\na.mp4\na.mp4\n")
    with pytest.raises(DataError, match=r"expected each once, found ours/a.mp4 twice"):
        inputs.list_videos({"ours": tmp_path / "twice.csv"})


def test_the_record_says_who_it_is_whatever_the_file_is_called(tmp_path):
    touch(tmp_path / "clips" / "x.mp4").with_suffix(".json").write_text(
        json.dumps({"references": [f"{tmp_path}/1.png"]})
    )
    known = [inputs.ReferenceInput("anna", tmp_path / "1.png"), inputs.ReferenceInput("ben", tmp_path / "2.png")]
    (found,) = inputs.list_videos({"ours": tmp_path / "clips"}, ["anna", "ben"], None, known)
    assert found.person == "anna"
