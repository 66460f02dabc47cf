"""What processes must have in common before the first step; here they are threads around one store."""

import dataclasses
import json
import threading

import pytest

from mmjax.errors import ConfigError, DataError
from mmjax.peers import Peers
from mmjax.training import agreement
from tests.helpers import tiny_run
from tests.helpers.store import Store

CONFIG = tiny_run.experiment()


def told(check, *of_each) -> list[str]:
    """What `check(peers, *arguments)` raises at each process; empty for nothing."""
    store, count = Store(), len(of_each)
    found = [""] * count

    def one(number):
        try:
            check(Peers(store, number, count, "127.0.0.1:9", "run"), *of_each[number])
        except (ConfigError, DataError) as error:
            found[number] = str(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return found


def test_settings_that_differ_are_named_to_all():
    other = dataclasses.replace(
        CONFIG,
        optim=dataclasses.replace(CONFIG.optim, learning_rate=0.5),
        train=dataclasses.replace(CONFIG.train, steps=3),
    )
    assert told(agreement.check_settings, (CONFIG,), (CONFIG,)) == ["", ""]
    lines = told(agreement.check_settings, (CONFIG,), (other,), (CONFIG,))
    assert len(set(lines)) == 1
    assert "optim.learning_rate = 0.01 at process 0 and 1 more, 0.5 at process 1 and train.steps = 12 at" in lines[0]


def test_other_code_is_named(monkeypatch):
    digests = iter(["one", "other"])
    monkeypatch.setattr(agreement, "digest_of_code", lambda: next(digests))
    for line in told(agreement.check_settings, (CONFIG,), (CONFIG,)):
        assert "version of mmjax's files = one at process" in line or "version of mmjax's files = other at" in line


def test_records_that_differ_are_named_to_all():
    order, other = json.dumps({"seed": 0, "sources": ["a/1"]}), json.dumps({"seed": 0, "sources": ["a/2"]})
    same, wrong = {"face": "arcface/1"}, {"face": "arcface/2"}
    assert told(agreement.check_records, (order, same), (order, same)) == ["", ""]
    (line, again) = told(agreement.check_records, (order, same), (other, wrong))
    assert line == again and "encoder of face = arcface/1 at process 0, arcface/2 at process 1 and sources = " in line


def test_more_differences_than_a_line_holds_are_counted():
    said = [json.dumps(dict.fromkeys("abcdef", value)) for value in (1, 2)]
    assert agreement.differences(said).endswith("d = 1 at process 0, 2 at process 1 and 2 more")
    assert agreement.differences(['{"a": 1}', "{}"]) == "a = 1 at process 0, nothing at process 1"


def test_a_workdir_that_is_not_shared_is_refused_to_all(tmp_path, monkeypatch):
    monkeypatch.setattr(agreement, "_GRACE", 0.5)
    (tmp_path / "shared").mkdir()
    assert told(agreement.check_shared, *[(tmp_path / "shared",)] * 3) == ["", "", ""]
    assert not list((tmp_path / "shared").iterdir()), "nothing stays"
    lines = told(agreement.check_shared, (tmp_path / "shared",), (tmp_path / "shared",), (tmp_path / "other",))
    assert all("does not come to process 2 on " in line and "/other) within" in line for line in lines)
    assert not list(tmp_path.glob("*/.*"))


def test_a_file_that_a_network_disk_shows_late_is_waited_for(tmp_path):
    path = tmp_path / "token"
    threading.Timer(0.5, path.touch).start()
    assert agreement._appears(path)


@pytest.mark.parametrize("check", [agreement.check_settings, agreement.check_shared])
def test_one_process_is_not_asked(check):
    check(Peers(None, 0, 1, "", ""), None)
