"""Files of latents and of prompts that a command is given: whole, damaged, and by other programs."""

import json
import os
import types
from pathlib import Path

import numpy as np
import pytest

from mmjax import bench, outputs, sample, tiny
from mmjax import config as c
from mmjax.errors import DataError, OutputError
from mmjax.sampling import products
from mmjax.sampling.latents import read_latents
from tests.helpers.fake_sampler import CLIP, LATENTS, PROMPT, SAFE, SETTINGS, command, ends, fails, there


def test_settings_behind_latents_are_believed_where_they_are_whole(sampler):
    """A letter of the prompt that a disk has changed is no prompt; the latents are decoded all the same."""
    made = products.PlannedVideo(Path(), SETTINGS | {"prompt": "a man"})
    products.write_latents("kept.npy", LATENTS, made)
    assert products.settings_behind("kept.npy")["prompt"] == "a man"
    Path("kept.npy").write_bytes(Path("kept.npy").read_bytes().replace(b"a man", b"a can"))
    assert products.settings_behind("kept.npy") is None
    sample.main(command("--decode", "kept.npy"))
    assert json.loads(Path("clip.json").read_text())["prompt"] == ""


def test_latents_that_failed_before_are_not_replaced(sampler, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        fails(patch, "video")
        for count in (1, 2, 3):
            assert SAFE in ends(capsys, *PROMPT, "--seed", count)
    assert there() == ["clip-1.latents.npy", "clip-2.latents.npy", "clip.latents.npy"]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_latents_of_another_program_are_decoded(sampler, dtype):
    np.save("theirs.npy", LATENTS.astype(dtype))
    sample.main(command("--decode", "theirs.npy", "--fps", 4))
    record = json.loads(Path("clip.json").read_text())
    assert record["prompt"] == "" and record["fps"] == 4 and there() == [*CLIP, "theirs.npy"]
    assert record["size"] == {"frames": 9, "height": 16, "width": 16}


def damaged(kind):
    path = Path("x.npy")
    products.write_latents(path, LATENTS, products.PlannedVideo(Path(), SETTINGS))
    content = path.read_bytes()
    arrays = {
        "NaN": np.where(LATENTS > 0.99, np.nan, LATENTS),
        "infinity": np.where(LATENTS > 0.99, np.inf, LATENTS),
        "huge": LATENTS * 3e38,
        "integers": LATENTS.astype(int),
        "flat": LATENTS[0, 0, 0],
        "empty": LATENTS[:0],
        "channels": LATENTS[..., :2],
        "text": np.array(["a"]),
        "pickle": np.array([None]),
    }
    if kind in arrays:
        np.save(path, arrays[kind])
    elif kind == "archive":
        np.savez("x.npz", a=LATENTS)
        os.replace("x.npz", path)
    else:
        cut = {"header": content[:60], "cut": content[: len(content) // 2], "nothing": b"", "words": b"hello\n" * 99}
        path.write_bytes(cut[kind])
    return path


KINDS = ["NaN", "infinity", "huge", "integers", "flat", "empty", "channels", "text", "pickle", "archive"]


@pytest.mark.parametrize("path", ["/dev/zero", "."])
def test_latents_are_read_from_files(path):
    with pytest.raises(DataError, match="found a folder, a pipe or a device"):
        read_latents(path, c.Autoencoder("pixel"))


@pytest.mark.parametrize("kind", [*KINDS, "header", "cut", "nothing", "words"])
def test_latents_that_cannot_be_decoded_are_told(sampler, capsys, kind):
    said = ends(capsys, "--decode", damaged(kind))
    assert said.startswith("error: x.npy: expected") and there() == ["x.npy"]


def test_bytes_that_are_damaged_anywhere_give_a_line_or_an_array(tmp_path):
    """Two hundred damaged files (seed 0): no error of another kind, and settings only where they are whole."""
    rng, path = np.random.default_rng(0), tmp_path / "x.npy"
    products.write_latents(path, LATENTS, products.PlannedVideo(Path(), SETTINGS))
    whole = path.read_bytes()
    for _ in range(200):
        content = bytearray(whole)
        place = rng.choice([rng.integers(128), rng.integers(len(whole)), len(whole) - 1 - rng.integers(128)])
        content[place] ^= 1 << rng.integers(8)
        path.write_bytes(content)
        try:
            assert read_latents(path, c.Autoencoder("pixel")).ndim == 4
            assert products.settings_behind(path) in (None, SETTINGS)
        except DataError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfea\x00", ["a"]),
        ("a man".encode("utf-16-le"), ["a man"]),
        ("ein Mädchen".encode("latin-1"), ["ein Mädchen"]),
        ("мальчик".encode("koi8-r"), "expected text, found other bytes"),
        (b"\0" * 64, "expected text, found other bytes"),
        (b"", "found none"),
        (None, "No such file"),
    ],
)
def test_files_of_prompts(sampler, capsys, content, message):
    if content is not None:
        Path("p.txt").write_bytes(content)
    if isinstance(message, str):
        assert message in ends(capsys, "--prompts", "p.txt")
    else:
        sample.main(command("--prompts", "p.txt"))
        assert sampler.made == message


def test_words_that_are_no_text(sampler, capsys):
    assert "--prompt: expected text" in ends(capsys, "--prompt", "a m\udce4n")
    assert not sampler.made


def test_the_help_tells_the_rule(capsys):
    with pytest.raises(SystemExit):
        sample.main(["--help"])
    assert outputs.OVERWRITE_HELP in " ".join(capsys.readouterr().out.split())


def test_a_home_in_every_path_flag(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    parser = sample._parser()
    paths = [
        flag
        for flag in parser._actions
        if (flag.metavar or "").rstrip("N") not in ("", "X", "AXIS=") and not flag.choices
    ]
    for flag in paths:
        value = vars(parser.parse_args(["--model", "m", "--output", "o", flag.option_strings[-1], "~/a b"]))[flag.dest]
        assert value in (f"{tmp_path}/a b", [f"{tmp_path}/a b"]), flag.option_strings
    assert len(paths) == 16


def test_a_report_of_the_tiny_model_is_not_replaced_by_surprise(sampler, capsys, monkeypatch):
    monkeypatch.setattr(tiny, "load_sampler", lambda *_: sampler)
    monkeypatch.setattr(tiny, "held_out_clips", lambda *_: pytest.fail("began before it looked"))
    for content, message in ((outputs.MARK, "add --overwrite"), ("mine", "mmjax did not make")):
        Path("report.json").write_text(content)
        with pytest.raises(SystemExit):
            tiny.main(["--workdir", "."])
        assert message in capsys.readouterr().err and there() == ["report.json"]


def test_the_bench_looks_at_its_output_first(monkeypatch, tmp_path):
    given = types.SimpleNamespace(
        compilation_cache=None, repeats=1, only=None, overwrite=False, plan=False, topology=None
    )
    monkeypatch.setattr(bench.flags, "FLAGS", given)
    monkeypatch.setattr(bench.cli, "experiment", lambda: None)
    monkeypatch.setattr(bench, "_measured", lambda *_: ("a device", []))
    given.output = str(tmp_path / "new" / "x.json")
    bench.main()
    assert json.loads(Path(given.output).read_text())["device"] == "a device"
    monkeypatch.setattr(bench, "_measured", lambda *_: pytest.fail("measured before it looked"))
    with pytest.raises(OutputError, match="stands there already; add --overwrite"):
        bench.main()
    given.output, given.overwrite = str(tmp_path), True
    with pytest.raises(OutputError, match="found a folder of that name"):
        bench.main()
