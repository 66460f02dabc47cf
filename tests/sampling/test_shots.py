"""The file of a story: plain lines and TOML, what the head gives to the shots, and mistakes by file, shot and field."""

import pytest

from mmjax.errors import DataError
from mmjax.sampling.shots import Shot, frames_of, read_shots

HEAD = """
class_word = "woman"
clothes = "in a red coat"
style = "soft light"
negative_prompt = "blurry"
seconds = 6
seed = 7
"""


def read(tmp_path, text, name="story.toml"):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_shots(tmp_path / name)


def test_a_prompt_a_line(tmp_path):
    shots = read(tmp_path, "\ufeff# at the sea\nA man img  walks\n\n  A man img sits é\r\n", "story.txt")
    assert [(shot.prompt, shot.seed, shot.frames, shot.seconds) for shot in shots] == [
        ("A man img walks", None, None, None),
        ("A man img sits é", None, None, None),
    ]
    assert shots[1].where.endswith("story.txt, shot 2 (line 4)")


def test_the_heads_parts_stand_in_their_places(tmp_path):
    blocks = [
        'prompt = "A {class_word} img walks along a beach."',
        'prompt = """\nA {class_word}\n  img, smiling"""\nframes = 17\nseed = 3\nnegative_prompt = ""',
        'prompt = "On a train: an old man img"\nseconds = 2.5',
    ]
    first, second, third = read(tmp_path, HEAD + "".join(f"[[shot]]\n{block}\n" for block in blocks))
    assert first.prompt == "A woman img in a red coat walks along a beach, soft light"
    assert (first.negative_prompt, first.seed, first.seconds, first.frames) == ("blurry", 7, 6, None)
    assert second.prompt == "A woman img in a red coat, smiling, soft light"
    assert (second.negative_prompt, second.seed, second.seconds, second.frames) == ("", 3, None, 17)
    assert third.prompt == "On a train: an old man img in a red coat, soft light"
    assert (third.seed, third.seconds) == (9, 2.5)


MISTAKES = {
    "no shot": ("seed = 1", "story.toml: expected a shot or more, found none"),
    "no TOML": ("[[shot]]\nprompt = A man", "story.toml: expected TOML, found what is none: Invalid value (at line 2"),
    "one bracket": ('[shot]\nprompt = "a"', "story.toml, shot: expected blocks that begin with [[shot]]"),
    "no prompt": ("[[shot]]\nseed = 1", "story.toml, shot 1, prompt: expected text, found none"),
    "an empty prompt": ('[[shot]]\nprompt = " "', "shot 1, prompt: expected text, found none"),
    "no text": ("[[shot]]\nprompt = 3", "shot 1, prompt = 3: expected text in quotes"),
    "a wrong name": ('[[shot]]\nprompt = "a"\nsecond = 3', "shot 1, 'second': expected prompt"),
    "which was meant": ('[[shot]]\nprompt = "a"\nsecond = 3', "did you mean seconds?"),
    "a head's field in a shot": ('[[shot]]\nprompt = "a"\nstyle = "b"', "shot 1, 'style': it belongs into the head"),
    "a shot's field in the head": ('prompt = "a"\n[[shot]]\nprompt = "a"', "'prompt': it belongs into a block"),
    "a size": ('[[shot]]\nprompt = "a"\nheight = 64', "shot 1, 'height': all shots of a film have one picture size"),
    "two lengths": ('[[shot]]\nprompt = "a"\n[[shot]]\nprompt = "a"\nframes = 9\nseconds = 1', "shot 2: expected sec"),
    "a seed that is none": ('[[shot]]\nprompt = "a"\nseed = -1', "shot 1, seed = -1: expected a whole number of 0"),
    "a seed in words": ('[[shot]]\nprompt = "a"\nseed = "x\\ny"', "shot 1, seed = 'x\\ny': expected a whole number"),
    "no time": ('seconds = 0\n[[shot]]\nprompt = "a"', "story.toml, seconds = 0: expected a number above 0"),
    "no number": ('[[shot]]\nprompt = "a"\nseconds = nan', "shot 1, seconds = nan: expected a number above 0"),
    "another place": ('[[shot]]\nprompt = "A {person} img"', "shot 1, prompt: expected {class_word} as the only word"),
    "no class word": (
        '[[shot]]\nprompt = "A {class_word} img"',
        "shot 1, prompt: found {class_word}, and no class_word",
    ),
    "none that is one": ('class_word = "hero"\n[[shot]]\nprompt = "a"', 'class_word = "hero": expected one of man, '),
    "a place in the head": (
        'style = "{class_word}s"\n[[shot]]\nprompt = "a"',
        "story.toml, style: expected no word in b",
    ),
    "clothes of nobody": ('clothes = "in red"\n[[shot]]\nprompt = "a sea"', "shot 1, prompt: the head's clothes stand"),
    "deep": ("a = " + "[" * 5000, "story.toml: expected TOML"),
    "no letters": (b"\x00\xff", "story.toml: expected text, found other bytes"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_with_file_shot_and_field(case, tmp_path):
    text, message = MISTAKES[case]
    with pytest.raises(DataError) as raised:
        read(tmp_path, text)
    assert message in str(raised.value) and "\n" not in str(raised.value)
    assert f"--shots {tmp_path}" in str(raised.value)


def test_blocks_in_a_text_file_are_told(tmp_path):
    with pytest.raises(DataError, match=r"story.txt, line 2: found \[\[shot\]\], which is TOML"):
        read(tmp_path, '# x\n[[ shot ]]\nprompt = "a"', "story.txt")
    with pytest.raises(DataError, match="--shots .*none.txt: expected a text file, one prompt a line, or a .toml"):
        read_shots(tmp_path / "none.txt")


@pytest.mark.parametrize(
    "length, frames",
    [
        ({}, 41),
        ({"frames": 17}, 17),
        ({"seconds": 6}, 49),
        ({"seconds": 6.13}, 49),
        ({"seconds": 5}, 41),
        ({"seconds": 3.1}, 25),
        ({"seconds": 0.1}, 1),
    ],
)
def test_seconds_are_brought_to_the_nearest_length(length, frames):
    assert frames_of(Shot("a", **length), 8, 49, 41) == frames


@pytest.mark.parametrize(
    "length, message",
    [
        (
            {"seconds": 6.5},
            r"s, shot 1, seconds = 6.5: expected at most 49 frames \(6.125 s at 8 a second\), the longest .* two",
        ),
        ({"frames": 57}, "frames = 57: expected at most 49 frames"),
        ({"frames": 20}, r"frames = 20: expected 8k \+ 1, nearest 17 frames \(2.125 s .*\) or 25 frames \(3.125 s"),
    ],
)
def test_what_the_model_cannot_make_is_refused_with_the_nearest_way(length, message):
    with pytest.raises(DataError, match=message):
        frames_of(Shot("a", where="s, shot 1", **length), 8, 49, 49)
