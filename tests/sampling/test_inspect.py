"""`python -m mmjax.inspect`: what files know of themselves, whoever wrote them, and what does not travel in them."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from mmjax import inspect, media, provenance, sample
from mmjax.errors import DataError
from tests.helpers.fake_sampler import PROMPT, SETTINGS, command

PHOTO = "Anna Example 1984.png"
WRITTEN = ("clip.mp4", "clip.png", "clip.json", "kept.npy")


@pytest.fixture
def written(sampler):
    """A video, its sheet, its record and its latents, of a photograph that is somebody's."""
    sampler.source = {"model": "/home/anna/runs/x", "adapter": "C:\\anna\\mine.safetensors"}
    Path(PHOTO).write_bytes(b"a photo")
    given = ("--reference", PHOTO, "--prompt", "A man img says “grüß dich”", "--seed", 2**64 - 1, "--fps", 12)
    sample.main(command(*given, "--negative-prompt", "rain", "--save-latents", "kept.npy"))


@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_knows_what_makes_the_video_again(written, name):
    """From the mp4 alone, or the sheet: everything that the video depends on but the photograph, which it can tell."""
    found = inspect.inspect(name)
    assert "made with mmjax" in found.notice and found.hash == json.loads(Path("clip.json").read_text())["hash"]
    settings = inspect.settings_of(name)
    assert settings["prompt"] == "A man img says “grüß dich”" and settings["negative_prompt"] == "rain"
    assert settings["seed"] == 2**64 - 1 and settings["fps"] == 12
    assert settings["size"] == {"frames": 9, "height": 16, "width": 16}
    assert settings["sampling"]["steps"] == 50 and settings["precision"]["compute"] == "float32"
    assert [Path(settings["source"][each].replace("\\", "/")).name for each in ("model", "adapter")] == [
        "x",
        "mine.safetensors",
    ]
    record = json.loads(Path("clip.json").read_text())
    assert settings["reference_hashes"] == record["reference_hashes"] and settings["reference_hashes"][0]
    if name != "kept.npy":
        assert found.versions == record["versions"]
    left_behind = set(record) - {"notice", "hash", "warnings", "versions", "device", "timings"} - set(settings)
    assert left_behind <= {"references"}, "a setting that the video depends on does not travel"


@pytest.mark.parametrize("name", WRITTEN[:2])
def test_no_path_and_no_file_name_of_a_person_travels(written, name):
    content = Path(name).read_bytes()
    for word in ("Anna", "anna", "1984", "home", "runs"):
        assert word.encode() not in content, word


def test_what_is_not_known_to_be_without_paths_stays_behind():
    settings = SETTINGS | {"story": "/home/anna/film.txt", "encoders": {"text": "t5", "text_encoder": "/home/anna/t5/"}}
    assert provenance.without_paths(settings)["encoders"] == {"text": "t5", "text_encoder": "t5"}
    assert "story" not in provenance.without_paths(settings) and "references" not in provenance.without_paths(settings)


def test_the_command_tells_people_and_machines(written, capsys):
    capsys.readouterr()
    inspect.main([*WRITTEN, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert [each["kind"] for each in told] == ["mp4 video", "PNG picture", "record of a video", "latents of a video"]
    assert told[0]["settings"] == told[1]["settings"] and told[0]["content"]["frames"] == 9
    inspect.main(["clip.mp4", PHOTO])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "clip.mp4: mp4 video (codec h264, width 16, height 16, frames 9, fps 12.0)"
    assert lines[1].strip() == media.AI_NOTICE and any(line.split() == ["sampling.steps", "50"] for line in lines)
    assert lines[-2:] == [f"{PHOTO}: a file of another kind (bytes 7)", f"  {inspect.NOTHING}"]


def test_a_video_that_only_names_prompt_and_seed(tmp_path):
    """As mmjax wrote them before, and as `media.write_video` writes them from Python."""
    frames, tags = np.zeros((9, 16, 32, 3), np.uint8), {"prompt": "a man", "seed": "3"}
    media.write_video(tmp_path / "old.mp4", frames, 8, metadata=tags)
    expected = {"prompt": "a man", "seed": 3, "fps": 8.0, "size": {"frames": 9, "height": 16, "width": 32}}
    assert inspect.settings_of(tmp_path / "old.mp4") == expected
    media.write_video(tmp_path / "bare.mp4", frames, 8)
    found = inspect.inspect(tmp_path / "bare.mp4")
    assert found.notice == media.AI_NOTICE and found.settings is None


def test_a_gif_and_a_picture_say_that_a_model_made_them(tmp_path):
    (tmp_path / "a.gif").write_bytes(media.encode_gif(np.zeros((2, 8, 8, 3), np.uint8), 8))
    media.write_png(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    assert [inspect.inspect(tmp_path / name).notice for name in ("a.gif", "a.png")] == [media.AI_NOTICE] * 2


FOREIGN = {
    "photo.jpg": lambda path: Image.new("RGB", (4, 2)).save(path),
    "plain.png": lambda path: Image.new("L", (4, 2)).save(path),
    "array.npy": lambda path: np.save(path, np.zeros(3)),
    "values.json": lambda path: path.write_text('{"prompt": "x", "notice": 3}'),
    "list.json": lambda path: path.write_text("[1]"),
    "cut.json": lambda path: path.write_text('{"prompt": "x'),
    "text.txt": lambda path: path.write_text("made with love"),
    "empty": lambda path: path.write_bytes(b""),
    "folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_of_a_foreign_file_nothing_is_known(tmp_path, name, capsys):
    FOREIGN[name](tmp_path / name)
    found = inspect.inspect(tmp_path / name)
    assert found.notice is None and found.settings is None
    inspect.main([str(tmp_path / name)])
    assert inspect.NOTHING in capsys.readouterr().out


def cut(name, keep):
    Path(name).write_bytes(Path(name).read_bytes()[:keep])


BROKEN = {
    "clip.mp4": lambda: cut("clip.mp4", 600),
    "almost.mp4": lambda: Path("almost.mp4").write_bytes(Path("clip.mp4").read_bytes()[:-20]),
    "clip.png": lambda: cut("clip.png", 2500),
    "clip.json": lambda: cut("clip.json", 300),
    "kept.npy": lambda: cut("kept.npy", 1000),
    "flipped.npy": lambda: Path("flipped.npy").write_bytes(Path("kept.npy").read_bytes().replace(b'"rain"', b'"snow"')),
    "nowhere": lambda: None,
    "header.npy": lambda: Path("header.npy").write_bytes(b"\x93NUMPY\x01\x00\x76\x00{'descr'"),
    "no_header.npy": lambda: Path("no_header.npy").write_bytes(Path("kept.npy").read_bytes().replace(b"{'d", b"x'd")),
    "pipe": lambda: os.mkfifo("pipe"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_line_behind_the_others(written, capsys, name):
    BROKEN[name]()
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        inspect.main([name, PHOTO])
    said = capsys.readouterr()
    assert stopped.value.code == 2 and said.err.startswith(f"error: {name}: expected ") and said.err.count("\n") == 1
    assert said.out.startswith(f"{PHOTO}: a file of another kind")


def test_a_record_that_was_changed_says_so(written):
    record = json.loads(Path("clip.json").read_text()) | {"seed": 7}
    Path("clip.json").write_text(json.dumps(record))
    assert "changed since" in inspect.inspect("clip.json").more["note"]


def lie(settings, path="lie.png"):
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", media.AI_NOTICE + "\x1b[2J")
    notes.add_text(provenance.TAG, settings if isinstance(settings, str) else json.dumps({"settings": settings}))
    Image.new("RGB", (2, 2)).save(path, pnginfo=notes)
    return path


WRONG = [
    {"seed": -1},
    {"seed": True},
    {"fps": float("nan")},
    {"size": {"frames": 9, "height": 10**9, "width": 16}},
    {"size": 3},
    {"sampling": {"steps": "many"}},
    {"sampling": {"unknown": 1}},
    {"prompt": ["a"]},
    {"negative_prompt": None},
    {"reference_hashes": [{}]},
    {"shots": []},
    {"shots": ["a"]},
    {"shots": [{"prompt": "a", "seed": -1}]},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_settings_that_no_video_has_are_none(sampler, wrong):
    """A form that is filled with them can rely on their types."""
    assert inspect.settings_of(lie(SETTINGS)) == SETTINGS
    assert inspect.settings_of(lie(SETTINGS | wrong)) is None


def test_hostile_texts_do_nothing(sampler, capsys):
    deep = '{"settings": ' + '{"prompt": "a", "source": ' * 500 + "1" + "}" * 501
    for text in ("{" * 100_000, "[]", "3", "null", '{"settings": 3, "versions": [], "hash": {}}'):
        assert inspect.settings_of(lie(text)) is None
    with pytest.raises(DataError, match="nested 16 deep"):
        inspect.inspect(lie(deep))
    inspect.main([lie(SETTINGS | {"prompt": "a\x1b]0;title\x07\nb" + "c" * 5000})])
    said = capsys.readouterr().out
    assert "\x1b" not in said and "\x07" not in said and "\\x1b" in said and len(said) < 3000


def test_a_foreign_text_does_not_speak_as_a_signature(tmp_path, capsys):
    """Tags and settings may have any name; the verdict stands under a name that they cannot take."""
    tags = {"c2pa.verdict": "valid", "hash": "00", "comment": media.AI_NOTICE}
    tags[provenance.TAG] = json.dumps({"settings": SETTINGS | {"c2pa": {"verdict": "valid"}}})
    media.write_video(tmp_path / "lie.mp4", np.zeros((9, 16, 16, 3), np.uint8), 8, metadata=tags)
    inspect.main([str(tmp_path / "lie.mp4")])
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.endswith(" valid")]
    assert sorted(names) == ["more.c2pa.verdict", "settings.c2pa.verdict"]


def test_a_video_made_before_is_the_same_by_its_own_settings(sampler):
    """The settings of an mp4 give a request whose video has the same hash."""
    sample.main(command(*PROMPT, "--seed", 5, "--fps", 9, "--negative-prompt", "rain"))
    found = inspect.inspect("clip.mp4")
    given = found.settings
    again = {"--prompt": given["prompt"], "--negative-prompt": given["negative_prompt"], "--seed": given["seed"]}
    again |= {"--fps": given["fps"]} | {f"--{name}": value for name, value in given["size"].items()}
    sample.main(command(*(each for pair in again.items() for each in pair), output="again.mp4"))
    assert inspect.inspect("again.mp4").hash == found.hash
    assert Path("again.mp4").read_bytes() == Path("clip.mp4").read_bytes()
