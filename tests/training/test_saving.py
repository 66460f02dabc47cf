"""Checkpoints that cannot be written, and what bits that flipped later do: told in one line, with what is safe."""

import resource
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.errors import CheckpointError
from mmjax.records import pipeline
from mmjax.training import checkpoints as saving
from mmjax.training.checkpoints import Checkpoints
from mmjax.training.workdir import write_run
from mmjax.weights import checksums, parameters
from tests.helpers import tiny_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(experiment, its sources, a state of some thousand numbers)."""
    config = tiny_run.experiment(tmp_path_factory.mktemp("records"))
    _, _, state = tiny_run.fresh_state(config, 1)
    return config, tiny_run.sources(config), state


@pytest.fixture
def opened(run, tmp_path):
    """(checkpoints of an empty workdir, `save(step)`)."""
    config, sources, state = run
    made = Checkpoints(tmp_path / "my run", config, pipeline.order_fingerprint(config, sources))

    def save(step):
        made.save(state.replace(step=jnp.full_like(state.step, step)))

    yield made, save
    made.close()


GOES_ON = r"the one of step 3 is whole. Make room .*; python -m mmjax.train --workdir '.*my run' goes on from it"


def test_a_disk_without_room_is_told_before_anything_is_written(opened, monkeypatch):
    made, save = opened
    save(3)
    made.wait()
    monkeypatch.setattr(saving, "free_bytes", lambda folder: 10)
    with pytest.raises(CheckpointError, match=r"expected room for a checkpoint, about .* MiB, found .*; " + GOES_ON):
        save(5)
    assert parameters.complete_step(made.workdir) == 3 and made.last_saved == 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_disk_that_is_full_meanwhile_costs_the_checkpoint_alone(opened, capfd):
    """A limit on the size of files stands for the disk: Orbax fails as it would, and prints nothing of it."""
    made, save = opened
    save(3)
    made.wait()
    with files_up_to(2000), pytest.raises(CheckpointError, match=r"step 5 could not be written: .*; " + GOES_ON):
        save(5)
        made.wait()
    made.close()
    assert [path.name for path in (made.workdir / "checkpoints").iterdir() if path.name[0].isdigit()] == ["3"]
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_save_that_failed_is_made_good_by_the_next(opened, monkeypatch, caplog):
    made, save = opened
    failing = {3}

    def write(folder):  # called behind, when the arrays of a step are written
        if folder.name.partition(".")[0] in map(str, failing):
            raise OSError(28, "No space left on device")
        return checksums.write_checksums(folder)

    monkeypatch.setattr(saving, "write_checksums", write)
    save(3)
    save(5)
    assert "the checkpoint of step 3 could not be written: the disk is full" in caplog.text
    assert parameters.complete_step(made.workdir) == made.last_saved == 5, "it was waited for"
    failing |= {7, 9}
    save(7)
    with pytest.raises(CheckpointError, match="step 9 could not be written: the disk is full"):
        save(9)
    assert parameters.complete_step(made.workdir) == 5


class files_up_to:
    """No file may grow beyond so many bytes meanwhile."""

    def __init__(self, size):
        self.size = size

    def __enter__(self):
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.before[1]))

    def __exit__(self, *error):
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)


# Damage


@pytest.fixture(scope="module")
def saved(run, tmp_path_factory):
    """A workdir with checkpoints of steps 3 and 5, and the state of 5."""
    config, sources, state = run
    workdir = tmp_path_factory.mktemp("saved") / "run"
    made = Checkpoints(workdir, config, pipeline.order_fingerprint(config, sources))
    for step in (3, 5):
        made.save(state.replace(step=jnp.full_like(state.step, step)))
    made.close()
    write_run(workdir, config, {})
    return config, workdir, state


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bytes(content))


def test_every_flipped_bit_is_found(saved, tmp_path):
    """One bit in each file that Orbax wrote, at a place that a seed chose, and fifty in the arrays."""
    folder, chance = shutil.copytree(saved[1] / "checkpoints" / "5", tmp_path / "5"), np.random.default_rng(0)
    unchecked = {"checksums.json", "_CHECKPOINT_METADATA", "commit_success.txt"}
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in unchecked]
    arrays = max(paths, key=lambda path: path.stat().st_size)
    assert checksums.damage(folder) == "" and len(paths) > 5
    for path in [path for path in paths if path.stat().st_size] + 50 * [arrays]:
        bit = int(chance.integers(8 * path.stat().st_size))
        flip(path, bit)
        assert path.relative_to(folder).as_posix() in checksums.damage(folder)
        flip(path, bit)
    assert checksums.damage(folder) == ""


def test_checksums_see_every_piece_and_every_missing_file(tmp_path):
    """Of a file of several pieces, the first one as well."""
    (tmp_path / "large").write_bytes(np.random.default_rng(0).bytes(3 * 2**20))
    (tmp_path / "small").write_bytes(b"small")
    assert checksums.write_checksums(tmp_path) == 3 * 2**20 + 5
    for bit in (5, 8 * 2**20 + 5, 8 * 3 * 2**20 - 1):
        flip(tmp_path / "large", bit)
        assert checksums.damage(tmp_path).endswith("such as large")
        flip(tmp_path / "large", bit)
    assert checksums.damage(tmp_path) == ""
    (tmp_path / "small").unlink()
    assert checksums.damage(tmp_path) == "1 of 2 files are not as they were written, such as small"


@pytest.mark.parametrize(
    "content, said",
    [("{", "checksums.json is damaged"), ("[]", "checksums.json is damaged"), ('{"files": {"a": 3}}', "is damaged")],
)
def test_checksums_that_are_damaged_themselves_are_told(tmp_path, content, said):
    (tmp_path / "checksums.json").write_text(content)
    assert said in checksums.damage(tmp_path)


def test_a_damaged_checkpoint_is_told_and_a_whole_one_offered(saved, tmp_path):
    config, workdir, state = saved
    workdir = shutil.copytree(workdir, tmp_path / "my run")
    flip(arrays_of(workdir, 5), 12345)
    wanted = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state.ema)
    offered = "1 of .* files are not as they were written.*move it away to go on from step 3: mv '.*/5' '.*/damaged-5'"
    with pytest.raises(CheckpointError, match=offered):
        parameters.load_trained(workdir, wanted)
    tiny_run.assert_bit_equal(parameters.load_trained(workdir, wanted, step=3), state.ema)
    flip(arrays_of(workdir, 3), 12345)
    with pytest.raises(CheckpointError, match="there is no other one: start a new run"):
        parameters.load_trained(workdir, wanted)


def test_frozen_parameters_have_checksums_too(saved, tmp_path):
    config, workdir, state = saved
    workdir = shutil.copytree(workdir, tmp_path / "run")
    tiny_run.assert_bit_equal(parameters.read_frozen(workdir, state.frozen), state.frozen)
    flip(max((workdir / "frozen" / "d").iterdir(), key=lambda path: path.stat().st_size), 4321)
    with pytest.raises(CheckpointError, match="frozen parameters cannot be read .1 of .* files are not as they were"):
        parameters.read_frozen(workdir, state.frozen)


def test_frozen_parameters_are_on_their_way_before_the_first_checkpoint(run, opened):
    """As the loop has it, after the first step; a run that ends without a checkpoint waits for them, and is none."""
    made, save = opened
    made.begin(run[2])
    made.begin(run[2])
    made.close()
    assert (made.workdir / "frozen" / checksums.FILE).exists() and parameters.last_step(made.workdir) is None
    tiny_run.assert_bit_equal(parameters.read_frozen(made.workdir, run[2].frozen), run[2].frozen)


def test_frozen_parameters_that_another_run_left_are_replaced(run, opened):
    made, save = opened
    (made.workdir / "frozen").mkdir()
    (made.workdir / "frozen" / "of another run").write_text("")
    made.begin(run[2])
    save(3)
    made.wait()
    tiny_run.assert_bit_equal(parameters.read_frozen(made.workdir, run[2].frozen), run[2].frozen)
    assert not (made.workdir / "frozen" / "of another run").exists()


def test_a_checkpoint_of_before_checksums_is_read_and_said(saved, tmp_path, caplog):
    config, workdir, state = saved
    workdir = shutil.copytree(workdir, tmp_path / "run")
    (workdir / "checkpoints" / "5" / "checksums.json").unlink()
    tiny_run.assert_bit_equal(parameters.load_trained(workdir, state.ema), state.ema)
    assert "5 has no checksums" in caplog.text


def arrays_of(workdir, step):
    """The file that holds most of a checkpoint's arrays."""
    files = (workdir / "checkpoints" / str(step) / "state").rglob("*")
    return max((path for path in files if path.is_file()), key=lambda path: path.stat().st_size)
