"""Nothing is lost on the way to a video: a sampler that computes nothing, and everything that can go wrong round it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmjax import files, sample
from mmjax.errors import DataError
from mmjax.sampling import products
from tests.helpers.fake_sampler import CLIP, FULL, LATENTS, PROMPT, SAFE, SETTINGS, Fake, command, ends, fails, there
from tests.test_config import ROOT


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
    assert said == "stopped; 1 of 3 videos are whole, and the same command makes the others"
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
