"""Locks between processes: one holds it, and its file says who; races with files that come and go."""

import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from mmjax import locks
from tests.test_config import ROOT


def test_one_holds_it_and_is_named(tmp_path):
    """Whoever held it before, with a longer name."""
    (tmp_path / "lock").write_text("a-machine-of-a-very-long-name.of.a.very.long.domain.that.nobody.has 123456789")
    assert locks.holder(tmp_path / "lock") is None
    with locks.held(tmp_path / "lock"):
        assert re.fullmatch(rf"process {os.getpid()} on \S+", locks.holder(tmp_path / "lock"))
        with pytest.raises(locks.Held, match=rf"^process {os.getpid()} on \S+$"), locks.held(tmp_path / "lock"):
            pytest.fail("held twice")
    assert locks.holder(tmp_path / "lock") is None and (tmp_path / "lock").exists()


def test_it_ends_with_its_process(tmp_path):
    code = (
        f"import os\nfrom mmjax import locks\nwith locks.held({str(tmp_path / 'lock')!r}):\n    os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == -signal.SIGKILL
    assert locks.holder(tmp_path / "lock") is None
    with locks.held(tmp_path / "lock"):
        pass


def test_a_lock_whose_file_was_removed_meanwhile_is_none(tmp_path, monkeypatch):
    """Its holder removes the file at the end; who opened it just before would hold what nobody else sees."""
    take, path = locks._take, tmp_path / "lock"

    def late(descriptor):
        monkeypatch.setattr(locks, "_take", take)
        path.unlink()
        return take(descriptor)

    monkeypatch.setattr(locks, "_take", late)
    with locks.held(path, temporary=True):
        assert locks.holder(path) == locks._named(path.read_text())
    assert not path.exists()


def test_who_asks_keeps_nobody_out(tmp_path):
    """Asking takes the lock for a moment, as others may hold it who ask as well."""
    (tmp_path / "lock").write_text("")
    asking = open(tmp_path / "lock")  # noqa: SIM115
    fcntl.flock(asking, fcntl.LOCK_SH)
    threading.Thread(target=lambda: (time.sleep(0.2), asking.close())).start()
    with locks.held(tmp_path / "lock"):
        assert asking.closed
