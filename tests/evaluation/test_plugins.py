"""Metrics from a user's file: the example of the docstring works, and what is wrong with others is said in one line."""

import pickle
import textwrap

import numpy as np
import pytest

from mmjax.errors import ConfigError
from mmjax.evaluation import plugins
from mmjax.evaluation.metrics.interface import VideoToScore
from mmjax.evaluation.observation import DecodedVideo, FacesSeen, Observation
from mmjax.evaluation.plugins import fingerprint_plugin, load_plugins

METRIC = """
class Mine:
    name, title, better, needs, version = "mine", "a number", "", frozenset(), 1
    rate = share = False
    def score(self, case): ...
    def statistic(self, scores): ...
def metrics():
    return [Mine()]
"""


def case_of(frames) -> VideoToScore:
    count = len(frames)
    nobody = FacesSeen(np.zeros(count, int), *(np.full((count, *s), np.nan) for s in ((4,), (5, 2), (), (0, 2))), {})
    video = DecodedVideo(frames, np.arange(count) / 8, np.arange(count), count)
    return VideoToScore(Observation(frames.shape[1:3], video.seconds, video.numbers, count, nobody), video=video)


def example() -> str:
    """The indented part of the module's docstring."""
    lines = plugins.__doc__.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("    "))
    last = max(number for number, line in enumerate(lines) if line.startswith("    "))
    return textwrap.dedent("\n".join(lines[first : last + 1]))


def write(folder, text, name="mine.py"):
    file = folder / name
    file.write_text(text)
    return file


def test_the_example_works_and_can_be_sent_to_workers(tmp_path):
    file = write(tmp_path, example())
    (metric,) = load_plugins([file])
    frames = np.stack([np.full((4, 6, 3), value, np.uint8) for value in (10, 30)])
    score = pickle.loads(pickle.dumps(metric)).score(case_of(frames))
    assert (metric.name, score.value, score.series) == ("brightness", 20.0, [10.0, 30.0])
    assert metric.statistic([score, score]) == 20
    assert load_plugins([file])[0].__class__ is metric.__class__  # a file is run once


def test_several_files_keep_their_order(tmp_path):
    files = [write(tmp_path, METRIC.replace('"mine"', f'"{name}"'), f"{name}.py") for name in ("b", "a")]
    assert [metric.name for metric in load_plugins(files)] == ["b", "a"]
    assert fingerprint_plugin(files[0]).startswith("b.py ") and len(fingerprint_plugin(files[0])) == len("b.py ") + 16


WRONG = {
    "syntax": ("def metrics(:", r"cannot be run: SyntaxError"),
    "import": ("import nowhere_to_be_found", r"cannot be run: ModuleNotFoundError: No module named 'nowhere"),
    "exit": ("raise SystemExit('bye')", r"cannot be run: SystemExit: bye"),
    "no function": ("x = 1", r"expected a function metrics\(\) that returns metrics, found none"),
    "not callable": ("metrics = []", r"expected a function metrics\(\)"),
    "fails": ("def metrics(): return 1 / 0", r"metrics\(\) failed with ZeroDivisionError: division by zero"),
    "no list": ("def metrics(): return 3", "expected metrics.. to return a list of metrics, found int"),
    "text": ("def metrics(): return 'mine'", "list of metrics, found str"),
    "class": (METRIC.replace("Mine()", "Mine"), "Mine is no metric: it is a class; return an object of it"),
    "no name": (METRIC.replace('"mine"', '""'), "name: expected a text, found ''"),
    "better": (
        METRIC.replace('number", ""', 'number", "up"'),
        "better: expected 'higher', .*'', found 'up'",
    ),
    "needs": (METRIC.replace("frozenset()", "{'sound'}"), "needs: expected a frozenset of pixels, .*found {'sound'}"),
    "needs unset": (METRIC.replace("frozenset()", "None"), "needs: expected a frozenset"),
    "version": (METRIC.replace("1\n", "'1'\n", 1), "version: expected a whole number, found '1'"),
    "no rate": (METRIC.replace("    rate = share = False\n", ""), "rate: expected True or False, found none; MeanOver"),
    "no score": (METRIC.replace("def score", "def scores"), "score: expected a method, found none"),
    "no statistic": (METRIC.replace("def statistic", "def mean"), "statistic: .*MeanOverVideos has one to inherit"),
    "several": ("def metrics(): return [object()]", "object is no metric: name: .*title: .*better: .*score: "),
    "twice": (METRIC.replace("[Mine()]", "[Mine(), Mine()]"), r"'mine' is taken by .*twice\.py"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_said_in_one_line(tmp_path, kind):
    text, message = WRONG[kind]
    with pytest.raises(ConfigError, match=message) as caught:
        load_plugins([write(tmp_path, text, f"{kind}.py")])
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_paths_and_names_that_do_not_do(tmp_path):
    with pytest.raises(ConfigError, match="expected a Python file, found nothing there"):
        load_plugins([tmp_path / "nowhere.py"])
    with pytest.raises(ConfigError, match="found a folder there"):
        load_plugins([tmp_path])
    with pytest.raises(ConfigError, match=r"whose name ends in \.py"):
        load_plugins([write(tmp_path, METRIC, "mine.txt")])
    with pytest.raises(ConfigError, match="'mine' is taken by mmjax's own"):
        load_plugins([write(tmp_path, METRIC)], taken={"mine"})
