"""Nothing is lost on the way to a video: a sampler that computes nothing, and everything that can go wrong round it."""

import errno
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from mmjax import bench, files, media, outputs, quickstart, sample
from mmjax import config as c
from mmjax.errors import DataError, OutputError
from mmjax.sampling import Sampler, products
from mmjax.sampling.latents import read_latents
from mmjax.sampling.text_to_video import Encoded
from tests.helpers import tiny_run
from tests.test_config import ROOT

LATENTS = np.random.default_rng(0).uniform(-1, 1, (9, 16, 16, 3)).astype(np.float32)
SETTINGS = {"prompt": "a", "references": [], "size": {"frames": 9, "height": 16, "width": 16}, "fps": 8.0}
SAFE = "the latents are safe: python -m mmjax.sample"


class Fake(Sampler):
    """Makes the same latents of every request at once."""

    def __init__(self):
        super().__init__(tiny_run.experiment(data={"frames": (9,)}), {}, source={"model": "runs/x"})
        self.made = []  # prompts that were denoised

    def check(self, references):
        return []

    def estimate(self, size, references=1):
        return type("Estimate", (), {"fits": True, "__str__": lambda self: "an estimate"})()

    def encode(self, requests):
        return [Encoded(request, {}, np.zeros(0), []) for request in requests]

    def latents(self, encoded, size, progress=None, noise=None):
        self.made += [each.request.prompt for each in encoded]
        return LATENTS[None]

    def decode(self, latents):
        return np.round((latents + 1) * 127.5).astype(np.uint8)


@pytest.fixture
def sampler(monkeypatch, tmp_path):
    """The commands' sampler; they run in a folder of their own."""
    fake = Fake()
    monkeypatch.setattr(sample, "load_sampler", lambda *_, **__: fake)
    monkeypatch.chdir(tmp_path)
    return fake


def command(*given, output="clip.mp4"):
    return ["--model", "runs/x", "--output", output, "--compilation-cache", "", *map(str, given)]


def ends(capsys, *given, status=2, **changed):
    """The last line that the command leaves on stderr."""
    with pytest.raises(SystemExit) as stopped:
        sample.main(command(*given, **changed))
    said = capsys.readouterr().err
    assert stopped.value.code == status and "Traceback" not in said
    return said.splitlines()[-1]


def there():
    return sorted(path.name for path in Path().iterdir())


CLIP = ["clip.json", "clip.mp4", "clip.png"]
PROMPT = ("--prompt", "a man")


def test_a_reference_is_not_taken_for_the_sheet(sampler, capsys):
    Path("anna.png").write_bytes(b"a photo")
    said = ends(capsys, "--reference", "anna.png", "--prompt", "A man img", output="anna.mp4")
    assert "contact sheet beside --output anna.png: that is --reference anna.png" in said
    assert there() == ["anna.png"] and Path("anna.png").read_bytes() == b"a photo" and not sampler.made


@pytest.mark.parametrize("flag", ["--prompts", "--init-latents", "--decode"])
def test_no_input_is_written_to(sampler, capsys, flag):
    name, given = ("clip-000.json", ()) if flag == "--prompts" else ("clip.json", PROMPT)
    products.write_latents(name, LATENTS, products.PlannedVideo(Path(), {}))
    if flag == "--prompts":
        Path(name).write_bytes(b"a prompt")
    before = Path(name).read_bytes()
    assert f"that is {flag} {name}" in ends(capsys, "--overwrite", flag, name, *given)
    assert there() == [name] and Path(name).read_bytes() == before


def test_noise_to_start_from_stays(sampler, capsys):
    np.save("clip.latents.npy", LATENTS)
    sample.main(command(*PROMPT, "--init-latents", "clip.latents.npy"))
    assert there() == ["clip.json", "clip.latents.npy", "clip.mp4", "clip.png"]
    assert json.loads(Path("clip.json").read_text())["noise"]
    np.testing.assert_array_equal(np.load("clip.latents.npy"), LATENTS)


def test_latents_that_were_kept_stay(sampler, capsys):
    sample.main(command(*PROMPT, "--save-latents", "clip.latents.npy"))
    sample.main(command(*PROMPT, output="other.mp4"))
    sample.main(command(*PROMPT, "--overwrite"))
    assert "clip.latents.npy stands there already; add --overwrite" in ends(
        capsys, *PROMPT, "--save-latents", "clip.latents.npy", output="third.mp4"
    )
    Path("mine.npy").write_bytes(b"foreign")
    said = ends(capsys, *PROMPT, "--overwrite", "--save-latents", "mine.npy", output="third.mp4")
    assert "--save-latents mine.npy: a file stands there that mmjax did not make" in said
    np.testing.assert_array_equal(np.load("clip.latents.npy"), LATENTS)
    sample.main(command(*PROMPT, "--overwrite", "--save-latents", "clip.latents.npy", output="third.mp4"))


@pytest.mark.parametrize("name", CLIP)
def test_what_stands_there_is_replaced_with_overwrite_and_only_where_mmjax_made_it(sampler, capsys, name):
    sample.main(command(*PROMPT, "--seed", 1))
    before = Path(name).read_bytes()
    assert "stands there already; add --overwrite" in ends(capsys, *PROMPT, "--seed", 2)
    sample.main(command(*PROMPT, "--seed", 2, "--overwrite"))
    assert Path(name).read_bytes() != before or name == "clip.png"
    Path(name).write_bytes(b"mine")
    for extra in ((), ("--overwrite",)):
        assert f"{name}: a file stands there that mmjax did not make" in ends(capsys, *PROMPT, "--seed", 2, *extra)
    assert there() == CLIP and Path(name).read_bytes() == b"mine" and len(sampler.made) == 2


UNWRITABLE = ["afile/x.mp4", "folder.mp4", "n" * 260 + ".mp4", "/proc/x.mp4", "prompts.mp4/../afile/x.mp4"]


@pytest.mark.parametrize("output", UNWRITABLE)
def test_where_nothing_can_be_written_is_told_before_anything_slow(sampler, capsys, output):
    Path("afile").write_text("")
    Path("folder.mp4").mkdir()
    assert ends(capsys, *PROMPT, output=output).startswith("error: --output ")
    assert not sampler.made and there() == ["afile", "folder.mp4"]


@pytest.mark.parametrize("name", ["n" * 250, "é" * 125, "日本 語"])
def test_the_longest_names_that_a_disk_takes(sampler, name):
    sample.main(command(*PROMPT, output=f"{name}.mp4"))
    assert there() == [f"{name}.{ending}" for ending in ("json", "mp4", "png")]


FULL = OSError(errno.ENOSPC, "No space left on device")


def fails(monkeypatch, where, error=FULL):
    """Has one of the writers fail after half of its work."""
    module, name = {"video": (media, "write_video"), "sheet": (media, "write_png"), "record": (files, "write_json")}[
        where
    ]

    def fail(path, *_, **__):
        with files.written_whole(path) as partial:
            partial.write_bytes(b"half")
            raise error

    monkeypatch.setattr(module, name, fail)


@pytest.mark.parametrize("where", ["video", "sheet", "record"])
def test_a_full_disk_leaves_the_latents_and_the_command_that_goes_on(sampler, capsys, monkeypatch, where):
    with monkeypatch.context() as patch:
        fails(patch, where)
        said = ends(capsys, *PROMPT)
    name = {"video": "clip.mp4", "sheet": "clip.png", "record": "clip.json"}[where]
    assert f"error: {name} cannot be written (No space left on device)" in said
    assert f"{SAFE} --model runs/x --decode clip.latents.npy --output clip.mp4 --fps 8.0 goes on from there" in said
    assert "clip.latents.npy" in there() and not [name for name in there() if "partial" in name or "lock" in name]
    sample.main(said.partition("mmjax.sample ")[2].removesuffix(" goes on from there").split())
    assert there() == sorted([*CLIP, "clip.latents.npy"]) and sampler.made == ["a man"]
    assert json.loads(Path("clip.json").read_text())["prompt"] == "a man"
    assert "clip.mp4 stands there already; add --overwrite" in ends(capsys, *PROMPT)


FAILURES = {
    "no memory": (MemoryError("no memory left"), 2, "decoding ran out of memory (--low-memory takes less)"),
    "no device memory": (RuntimeError("RESOURCE_EXHAUSTED: 9 GiB"), 2, "decoding ran out of memory"),
    "our error": (DataError("clip: expected this"), 2, "error: clip: expected this"),
    "Ctrl-C": (KeyboardInterrupt(), 130, "stopped; the latents"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_decoder_that_fails_costs_nothing(sampler, capsys, monkeypatch, case):
    error, status, words = FAILURES[case]
    monkeypatch.setattr(Fake, "decode", lambda *_: (_ for _ in ()).throw(error))
    said = ends(capsys, *PROMPT, status=status)
    assert words in said and SAFE in said and there() == ["clip.latents.npy"]
    np.testing.assert_array_equal(np.load("clip.latents.npy"), LATENTS)


def test_denoising_that_runs_out_of_memory(sampler, capsys, monkeypatch):
    full = RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 GiB\nmore lines")
    monkeypatch.setattr(Fake, "latents", lambda *_: (_ for _ in ()).throw(full))
    assert ends(capsys, *PROMPT).startswith("error: clip.mp4: the device ran out of memory; --low-memory takes less")
    assert not there()


def test_no_room_for_the_latents_either(sampler, capsys, monkeypatch, tmp_path):
    """They go to the system's temporary files, and to nowhere where those are full too; the video is still tried."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    whole = files.written_whole
    full = lambda path, *a: whole(path, *a) if "temporary" in str(path) else (_ for _ in ()).throw(FULL)  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(files, "written_whole", full)
        said = ends(capsys, *PROMPT)
    assert "clip.mp4 cannot be written" in said and f"--decode {tmp_path}/temporary/mmjax-" in said
    assert len(list(tmp_path.glob("temporary/*/clip.latents.npy"))) == 1
    with monkeypatch.context() as patch:
        patch.setattr(products, "write_latents", lambda *_: (_ for _ in ()).throw(FULL))
        sample.main(command(*PROMPT))
        assert "the latents cannot be kept" in capsys.readouterr().out
    assert there() == [*CLIP, "temporary"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
@pytest.mark.parametrize("size", ["28k", "2200k"])
def test_a_disk_that_is_really_full(sampler, capsys, tmp_path, size):
    """Too small a disk is told before; one that fills while the video is made, afterwards, with the latents safe."""
    Path("disk").mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", "disk"], capture_output=True).returncode:
        pytest.skip("this machine mounts nothing")
    try:
        if size == "28k":
            assert "of room for what is going to be written, found 28.0 KiB" in ends(
                capsys, *PROMPT, output="disk/v.mp4"
            )
            assert not sampler.made and not list(Path("disk").iterdir())
            return
        sampler.decode = lambda latents: (fill("disk/big"), Fake.decode(sampler, latents))[1]
        said = ends(capsys, *PROMPT, output="disk/v.mp4")
        assert "disk/v.mp4 cannot be written (No space left on device)" in said and SAFE in said
        assert sorted(path.name for path in Path("disk").iterdir()) == ["big", "v.latents.npy"]
        np.testing.assert_array_equal(np.load("disk/v.latents.npy"), LATENTS)
    finally:
        subprocess.run(["umount", "-l", "disk"], check=True)


def fill(path):
    with open(path, "wb", buffering=0) as opened:
        try:
            while opened.write(b"0" * 1024):
                pass
        except OSError:
            pass


def test_a_batch_that_was_stopped_goes_on_where_it_was(sampler, capsys, monkeypatch):
    Path("prompts.txt").write_bytes("\ufeffa man\n\na gîrl\na boy\n".encode())
    batch = ("--prompts", "prompts.txt")

    def stop(self, encoded, *_):
        if len(self.made) == 1:
            raise KeyboardInterrupt
        return Fake.latents(self, encoded, None)

    monkeypatch.setattr(sampler, "latents", stop.__get__(sampler))
    said = ends(capsys, *batch, status=130)
    assert said == "stopped; 1 of 3 videos are whole, and the same command without --overwrite makes the others"
    monkeypatch.setattr(sampler, "latents", Fake.latents.__get__(sampler))
    before = Path("clip-000.mp4").stat()
    sample.main(command(*batch))
    assert "1 of 3 videos are finished already, with the same settings" in capsys.readouterr().out
    assert sampler.made == ["a man", "a gîrl", "a boy"] and Path("clip-000.mp4").stat() == before
    Path("clip-001.json").unlink()  # as by a kill between two files
    sample.main(command(*batch))
    assert sampler.made[3:] == ["a gîrl"] and len(there()) == 10
    sample.main(command(*batch))
    assert len(sampler.made) == 4 and "3 of 3 videos" in capsys.readouterr().out
    said = ends(capsys, *batch, "--seed", 7)
    assert "clip-000.mp4 stands there already; add --overwrite" in said and len(sampler.made) == 4
    sample.main(command(*batch, "--seed", 7, "--overwrite"))
    assert len(sampler.made) == 7


def test_another_picture_under_the_same_name_is_another_setting(sampler, capsys):
    Path("face.png").write_bytes(b"one")
    given = ("--reference", "face.png", "--prompt", "A man img", "--videos", 2)
    sample.main(command(*given))
    Path("face.png").write_bytes(b"two")
    assert "stands there already" in ends(capsys, *given)


def test_two_commands_for_one_output_lose_no_video(sampler, capsys, monkeypatch):
    """The second is refused at its start; what any other program writes meanwhile is left as it is."""
    code = """
import sys
from mmjax import outputs
with outputs.claim([outputs.Output("--output", "clip.mp4")]):
    print("claimed", flush=True)
    sys.stdin.read()
"""
    first = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    first.stdout.readline()
    said = ends(capsys, *PROMPT)
    assert f"--output clip.mp4: process {first.pid} on " in said and "is writing it now" in said
    first.communicate(timeout=30)
    assert not there()

    def meanwhile(self, latents):
        Path("clip.png").write_text("mine")
        return Fake.decode(self, latents)

    monkeypatch.setattr(sampler, "decode", meanwhile.__get__(sampler))
    said = ends(capsys, *PROMPT)
    assert "clip.png: another program wrote it in the meantime; it stays as it is" in said and SAFE in said
    assert there() == ["clip.latents.npy", "clip.png"] and Path("clip.png").read_text() == "mine"


def test_what_appears_while_latents_are_decoded_stays(sampler, capsys, monkeypatch):
    products.write_latents("kept.npy", LATENTS, products.PlannedVideo(Path(), SETTINGS))

    def meanwhile(self, latents):
        Path("clip.png").write_text("mine")
        return Fake.decode(self, latents)

    monkeypatch.setattr(sampler, "decode", meanwhile.__get__(sampler))
    said = ends(capsys, "--decode", "kept.npy")
    assert "clip.png: another program wrote it in the meantime; it stays as it is" in said and "kept.npy" in said
    assert there() == ["clip.png", "kept.npy"] and Path("clip.png").read_text() == "mine"


def test_a_whole_batch_is_made_anew_with_overwrite(sampler, capsys):
    sample.main(command(*PROMPT, "--videos", 2))
    sample.main(command(*PROMPT, "--videos", 2))
    assert len(sampler.made) == 2, "they are finished"
    Path("clip-001.png").unlink()
    sample.main(command(*PROMPT, "--videos", 2))
    assert len(sampler.made) == 3 and Path("clip-001.png").exists(), "the sheet belongs to it"
    sample.main(command(*PROMPT, "--videos", 2, "--overwrite"))
    assert len(sampler.made) == 5


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
    paths = [flag for flag in parser._actions if (flag.metavar or "").rstrip("N") not in ("", "X") and not flag.choices]
    for flag in paths:
        value = vars(parser.parse_args(["--model", "m", "--output", "o", flag.option_strings[-1], "~/a b"]))[flag.dest]
        assert value in (f"{tmp_path}/a b", [f"{tmp_path}/a b"]), flag.option_strings
    assert len(paths) == 12


def test_a_report_of_the_quickstart_is_not_replaced_by_surprise(sampler, capsys, monkeypatch):
    monkeypatch.setattr(quickstart, "load_sampler", lambda *_: sampler)
    monkeypatch.setattr(quickstart, "held_out_clips", lambda *_: pytest.fail("began before it looked"))
    for content, message in ((outputs.MARK, "add --overwrite"), ("mine", "mmjax did not make")):
        Path("report.json").write_text(content)
        with pytest.raises(SystemExit):
            quickstart.main(["--workdir", "."])
        assert message in capsys.readouterr().err and there() == ["report.json"]


def test_the_bench_looks_at_its_output_first(monkeypatch, tmp_path):
    given = types.SimpleNamespace(compilation_cache=None, repeats=1, only=None, overwrite=False)
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
