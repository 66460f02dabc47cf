"""`python -m mmjax.convert`: what it prints, and the exit status of what cannot be done."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the test extra: pip install -e '.[test]'")

from mmjax import conversion, convert  # noqa: E402
from tests.helpers import diffusers_folders, reference  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "source"
    reference.torch_transformer("1.5-5b").to(torch.bfloat16).save_pretrained(folder)
    return folder


def refused(capsys, *args):
    """The message of a call that ends with status 2."""
    with pytest.raises(SystemExit) as caught:
        convert.main([str(arg) for arg in args])
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert not out and err.count("error: ") == 1 and "Traceback" not in err
    return err


@pytest.mark.slow
def test_there_and_back_from_the_shell(tmp_path, source):
    def run(*args):
        command = [sys.executable, "-m", "mmjax.convert", "transformer", *map(str, args)]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)

    there = run("--source", source, "--output", "ours")
    assert there.returncode == 0, there.stderr
    assert there.stdout.startswith("wrote ours: ") and "MB of bfloat16" in there.stdout
    back = run("--source", "ours", "--output", "back", "--reverse")
    assert back.returncode == 0, back.stderr
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    again = run("--source", source, "--output", "ours")
    assert again.returncode == 2
    assert again.stderr.startswith("error: ours is there already")


def test_unknown_component_gets_a_suggestion(capsys, tmp_path, source):
    message = refused(capsys, "transfomer", "--source", source, "--output", tmp_path / "ours")
    assert "did you mean transformer?" in message


def test_missing_source(capsys, tmp_path):
    message = refused(capsys, "transformer", "--source", tmp_path / "nowhere", "--output", tmp_path / "ours")
    assert "no such file or folder" in message


@pytest.mark.parametrize("component", ["transformer", "arcface", "photomaker", "cogvideox"])
def test_what_the_system_says_of_a_source_is_one_line(capsys, tmp_path, component, monkeypatch):
    """Permissions, disks that fail, and names that no file can have."""
    too_long = refused(capsys, component, "--source", "x" * 5000, "--output", tmp_path / "ours")
    assert "File name too long" in too_long and too_long.count("\n") == 1
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(convert.conversion, "convert", fails)
    monkeypatch.setattr(convert.conversion, "convert_pipeline", fails)
    message = refused(capsys, component, "--source", tmp_path, "--output", tmp_path / "ours")
    assert message == "error: secret.bin: expected files that can be read, found: Permission denied\n"


def fails(*args, **kwargs):
    raise PermissionError(13, "Permission denied", "secret.bin")


def test_unknown_dtype(capsys, tmp_path, source):
    message = refused(capsys, "transformer", "--source", source, "--output", tmp_path / "ours", "--dtype", "float16")
    assert "black videos" in message


def test_reverse_of_what_is_not_converted(capsys, tmp_path, source):
    message = refused(capsys, "transformer", "--source", source, "--output", tmp_path / "ours", "--reverse")
    assert "found no mmjax.json" in message


def test_traceback_on_request(tmp_path, source, monkeypatch):
    monkeypatch.setenv("MMJAX_TRACEBACK", "1")
    with pytest.raises(Exception, match="black videos"):
        convert.main(["transformer", "--source", str(source), "--output", str(tmp_path / "o"), "--dtype", "float16"])


def test_help_says_what_each_component_is(capsys):
    with pytest.raises(SystemExit):
        convert.main(["--help"])
    out = capsys.readouterr().out
    for name in (*conversion.COMPONENTS, conversion.PIPELINE):
        assert re.search(rf"^  {name} +\w.{{10,}}", out, re.MULTILINE), name
    assert max(map(len, out.splitlines())) <= 110


def test_whole_pipeline_there_and_back(tmp_path, capsys):
    diffusers_folders.pipeline(tmp_path / "source", "2b", "CogVideoXDDIMScheduler")
    capsys.readouterr()
    convert.main(["cogvideox", "--source", str(tmp_path / "source"), "--output", str(tmp_path / "ours")])
    assert capsys.readouterr().out.startswith(f"wrote {tmp_path / 'ours'}: ")
    sampling = conversion.read_pipeline(tmp_path / "ours").sampling
    assert sampling.sampler == "ddim" and not sampling.dynamic_guidance
    back = ["--source", str(tmp_path / "ours"), "--output", str(tmp_path / "back"), "--reverse"]
    convert.main(["cogvideox", *back])
    names = ["model_index.json", "scheduler", "text_encoder", "tokenizer", "transformer", "vae"]
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == names
    assert "wrote" in capsys.readouterr().out
    assert "is there already" in refused(capsys, "cogvideox", *back)
    assert "expected no --reverse" in refused(capsys, "cogvideox", *back, "--tokenizer", tmp_path)
    convert.main(["cogvideox", *back, "--overwrite"])


def test_pipeline_gets_a_suggestion(capsys, tmp_path, source):
    message = refused(capsys, "cogvideo", "--source", source, "--output", tmp_path / "ours")
    assert "did you mean cogvideox?" in message
