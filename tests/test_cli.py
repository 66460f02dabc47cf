"""What all commands share: paths with `~`, Ctrl-C, and what the system refuses, in one line each."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from absl import flags

from mmjax import cli, errors
from mmjax import config as c
from tests.test_config import ROOT


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def defined(monkeypatch):
    """Flags of a command of its own, which no other test sees."""
    values = flags.FlagValues()
    monkeypatch.setattr(flags, "FLAGS", values)
    for function in ("DEFINE", "DEFINE_multi"):
        given = getattr(flags, function)
        monkeypatch.setattr(flags, function, lambda *a, given=given, **k: given(*a, flag_values=values, **k))
    return values


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("~/a b/ü.mp4", "{home}/a b/ü.mp4"),
        ("~", "{home}"),
        ("a~b", "a~b"),
        ("x/~/y", "x/~/y"),
        ("~no-such-user/x", "~no-such-user/x"),
        ("plain ünïcode.mp4", "plain ünïcode.mp4"),
    ],
)
def test_a_path_of_any_flag(home, defined, given, expected):
    expected = expected.format(home=home)
    assert cli.path(given) == expected
    cli.define_path("output", None, "a file")
    cli.define_path("input", [], "files", multi=True)
    defined(["command", f"--output={given}", f"--input={given}", "--input", given])
    assert defined.output == expected and defined.input == [expected, expected]


def test_homes_in_settings_of_an_experiment(home):
    values = c.Experiment().to_config_dict()
    values.data.clip, values.data.sources, values.encoders.face_models = "~/c.mp4", ("~/records/x", "y"), "a~"
    found = cli._with_homes(values)
    assert found.data.clip == f"{home}/c.mp4" and found.data.sources == (f"{home}/records/x", "y")
    assert found.encoders.face_models == "a~"


@pytest.mark.parametrize("given", [["--config=~/x.py"], ["--config", "~/x.py"], ["-config=~/x.py"]])
def test_the_experiments_file_may_lie_at_home(home, given):
    assert f"{home}/x.py" in "".join(cli._with_config(["command", *given, "--other=~/y"], None))
    assert cli._with_config(["command", *given, "--other=~/y"], None)[-1] == "--other=~/y"


ENDS = {
    "Ctrl-C": (KeyboardInterrupt(), "stopped\n", 130),
    "Ctrl-C with a word": (KeyboardInterrupt("the same command goes on"), "stopped; the same command goes on\n", 130),
    "our error": (errors.DataError("a.png: damaged"), "error: a.png: damaged\n", 2),
    "a full disk": (OSError(28, "No space left on device", "x.npy"), "error: x.npy: No space left on device\n", 2),
    "a rename": (OSError(13, "Permission denied", "a", None, b"b"), "error: a: b: Permission denied\n", 2),
    "nameless": (BrokenPipeError(32, "Broken pipe"), "error: Broken pipe\n", 2),
}


@pytest.mark.parametrize("case", ENDS)
def test_how_commands_end(case, capsys):
    error, line, status = ENDS[case]
    with pytest.raises(SystemExit) as stopped:
        errors.exits_cleanly(lambda: (_ for _ in ()).throw(error))()
    assert capsys.readouterr().err == line and stopped.value.code == status


@pytest.mark.parametrize("error", [ValueError("a fault of ours"), OSError("a library's words")])
def test_faults_of_ours_keep_their_traceback(error):
    with pytest.raises(type(error)):
        errors.exits_cleanly(lambda: (_ for _ in ()).throw(error))()


def test_a_console_of_few_letters_kills_nothing():
    code = "from mmjax.errors import exits_cleanly; exits_cleanly(lambda: print('Zoë in 東京 \\udcff'))()"
    env = os.environ | {"PYTHONIOENCODING": "cp1252"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, check=True)
    assert done.stdout.strip() == b"Zo\xeb in \\u6771\\u4eac \\udcff"


def test_ctrl_c_is_not_lost_in_a_callback(capsys):
    class Noisy:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def main():
        Noisy()  # what its end raises, nobody sees
        time.sleep(5)

    with pytest.raises(SystemExit) as stopped:
        errors.exits_cleanly(main)()
    assert capsys.readouterr().err == "stopped\n" and stopped.value.code == 130


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="what a process has loaded is told on Linux")
def test_ctrl_c_while_a_command_is_imported():
    command = [sys.executable, "-m", "mmjax.sample", "--help"]
    started = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while "jaxlib" not in Path(f"/proc/{started.pid}/maps").read_text():
        assert started.poll() is None
        time.sleep(0.01)
    started.send_signal(signal.SIGINT)
    assert started.communicate(timeout=60) == ("", "stopped\n") and started.returncode == 130


# A command as `python -m mmjax.train` is one, in which XLA compiles for seconds
COMPILING = """
import importlib.machinery, os, signal, threading
import jax, jax.numpy as jnp
from mmjax.errors import exits_cleanly

__spec__ = importlib.machinery.ModuleSpec("mmjax.train", None)
signal.signal(signal.SIGINT, signal.default_int_handler)

def long(x):
    for _ in range(1000):
        x = jnp.sin(x @ x)
    return x

lowered = jax.jit(long).lower(jnp.ones((3, 3)))
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
exits_cleanly(lowered.compile)()
"""


def test_ctrl_c_while_xla_compiles():
    """What still compiles in a thread is not waited for, nor does the process end in a segmentation fault."""
    done = subprocess.run([sys.executable, "-c", COMPILING], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")
