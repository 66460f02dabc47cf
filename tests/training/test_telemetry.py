"""What a run says: rows, pictures, the parameter table, and the formula behind TFLOP/s."""

import json

import numpy as np
import pytest
from PIL import Image

from mmjax import config as c
from mmjax import trees
from mmjax.models import build, flops
from mmjax.trainable import split_trainable
from mmjax.training import summary, telemetry
from tests.helpers import tiny_run


def rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_rows_go_to_the_file_and_to_tensorboard(tmp_path, capsys):
    board = telemetry.Telemetry(tmp_path, 0, 10)
    board.write(2, {"train/loss": 0.5, "train/grad_norm": float("nan")})
    board.write(4, {"train/loss": 0.25, "speed/seconds_per_step": 2.0})
    board.picture(4, np.full((6, 8, 3), 200, np.uint8))
    board.close()
    assert rows(tmp_path) == [
        {"step": 2, "train/loss": 0.5},
        {"step": 4, "train/loss": 0.25, "speed/seconds_per_step": 2.0},
    ]
    assert Image.open(tmp_path / "samples" / "4.png").size == (8, 6)
    (events,) = (tmp_path / "tensorboard").glob("events.*")
    assert b"train/loss" in events.read_bytes() and b"samples" in events.read_bytes()
    assert "step 4 of 10: loss 0.2500, 2 s a step, 00:12 left" in capsys.readouterr().out


def test_a_resumed_run_drops_what_was_after_its_checkpoint(tmp_path):
    board = telemetry.Telemetry(tmp_path, 0, 10)
    for step in (2, 4, 6):
        board.write(step, {"train/loss": float(step)})
    board.close()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 8, "train/lo')  # the run was killed while it wrote
    board = telemetry.Telemetry(tmp_path, 4, 10)
    board.write(6, {"train/loss": 60.0})
    board.close()
    assert [(row["step"], row["train/loss"]) for row in rows(tmp_path)] == [(2, 2.0), (4, 4.0), (6, 60.0)]


def test_the_meter_means_over_its_window():
    meter = telemetry.Meter(train_steps=1000)
    for loss, bucket in ((1.0, 0), (3.0, 9)):
        sums, counts = np.zeros(10), np.zeros(10)
        sums[bucket], counts[bucket] = 4 * loss, 4
        figures = {
            "sums": {"loss": sums, "identity": np.float32(2 * loss), "dropped/text": np.float32(0)},
            "counts": {"loss": counts, "identity": np.float32(2 if bucket else 0), "dropped/text": np.float32(4)},
        }
        metrics = {"loss": np.float32(loss), "grad_norm": np.float32(loss), "skipped": np.False_} | figures
        meter.add(metrics, samples=4, flops=6e12)
    meter.seconds, meter.waited = 2.0, 0.5
    row = meter.row(devices=2, peak=10e12)
    assert row["train/loss"] == 2.0 and row["train/grad_norm"] == 3.0
    assert row["train/loss_t000-099"] == 1.0 and row["train/loss_t900-999"] == 3.0
    assert sum("loss_t" in tag for tag in row) == 2, "buckets without samples have no mean"
    assert row["speed/seconds_per_step"] == 1.0 and row["speed/samples_per_second"] == 4.0
    assert row["speed/data_wait"] == 0.25
    assert row["train/identity"] == 4.0, "of the steps in which it counted"
    assert row["train/dropped/text"] == 0.0 and row["train/skipped"] == 0.0
    assert row["speed/tflops_per_device"] == 3.0 and row["speed/mfu"] == pytest.approx(0.3)
    assert "speed/mfu" not in meter.row(devices=2, peak=None)


def test_skipped_steps_are_counted_and_left_out_of_all_means():
    meter = telemetry.Meter(train_steps=1000)
    for loss, skipped in ((1.0, False), (np.nan, True), (3.0, False)):
        figures = {"sums": {"loss": np.full(10, loss)}, "counts": {"loss": np.ones(10)}}
        meter.add({"loss": np.float32(loss), "skipped": np.bool_(skipped)} | figures, samples=4, flops=6e12)
    row = meter.row(devices=1, peak=None)
    assert row["train/loss"] == 2.0 and row["train/loss_t000-099"] == 2.0
    assert row["train/skipped"] == pytest.approx(1 / 3)
    meter.clear()
    meter.add({"loss": np.float32(np.nan), "skipped": np.True_} | figures, samples=4, flops=6e12)
    assert meter.row(devices=1, peak=None) == {"train/skipped": 1.0}


def test_the_parameter_table_adds_up():
    config = tiny_run.experiment(adapter=True)
    params = build.abstract_params(config, tiny_run.mesh_of(config))
    trained, frozen = split_trainable(config, params)
    lines = [line.split() for line in summary.parameter_table(trained, frozen).splitlines()]
    found = {name: tuple(int(number.replace(",", "")) for number in numbers) for name, *numbers in lines[1:]}
    assert lines[0] == ["parameters", "trained", "total"]
    assert found["all"] == (trees.count(trained), trees.count(params))
    adapter = params["transformer"]["blocks"]["adapter"]
    for part in ("can", "cross", "face_modulation"):
        assert found[f"transformer/blocks/adapter/{part}"] == (trees.count(adapter[part]),) * 2
    assert found["transformer/blocks/even"][0] == 0 < found["transformer/blocks/even"][1]
    sums = np.sum([numbers for name, numbers in found.items() if name != "all"], axis=0)
    assert tuple(sums) == found["all"]


def flops_of(adapter_enabled, **switches):
    """The 5B model at 49 x 480 x 720."""
    config = c.Experiment(model=c.Model(c.Transformer(), c.Adapter(enabled=adapter_enabled, **switches)))
    params = build.abstract_params(config, tiny_run.mesh_of(config))
    if adapter_enabled:
        trained, frozen = split_trainable(config, params)
    else:
        trained, frozen = {}, params
    return flops.sample_flops(config, trained, frozen, (13, 60, 90, 16))


def test_flops_of_the_full_size_model_are_the_published_ones():
    """METHOD 1: 169 TFLOP in linear layers and 163 in attention; frozen, with gradients passing through, 827 a step."""
    base = flops_of(False)
    assert base.frozen / 1e12 == pytest.approx(169, abs=0.5) and base.trained == 0
    assert base.attention / 1e12 == pytest.approx(163, abs=0.5)
    assert base.training / 1e12 == pytest.approx(827, abs=3)


def test_the_adapter_costs_little():
    base, whole = flops_of(False), flops_of(True)
    share = whole.forward / base.forward - 1
    print(f"measured: the adapter adds {share:.2%} to a forward pass")
    assert 0.001 < share < 0.025 and whole.trained > 0
    assert flops_of(True, structural_branch=False).attention == base.attention


def test_peaks_are_known_by_device_kind():
    assert flops.peak_flops("NVIDIA H200") == flops.peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert flops.peak_flops("TPU v5 lite") == 197e12 and flops.peak_flops("TPU v5p") == 459e12
    assert flops.peak_flops("cpu") is None


@pytest.mark.parametrize(
    "line",
    [b"not json", b'{"train/loss": 1.0}', b"[1]", b"3", b'{"step": "two"}', b"\xff\xfe\x00{", b"[" * 100_000, b"\0"],
)
def test_an_unreadable_line_does_not_stop_a_resume(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 2}\n' + line + b'\n\n{"step": 4}\n{"step": 6}\n')
    assert telemetry.drop_rows_after(path, 4) == 1
    assert rows(tmp_path) == [{"step": 2}, {"step": 4}]


def test_lines_that_are_lost_are_counted(tmp_path, capsys):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 2}\n\xff\xff\n{"step"')
    telemetry.Telemetry(tmp_path, 4, 10).close()
    assert "metrics.jsonl: 2 lines could not be read and are left out" in capsys.readouterr().out


def test_what_cannot_be_written_is_said_once_and_ends_nothing(tmp_path, capsys):
    """Folders stand where files should: no row, no events, no picture, and a run that goes on."""
    for name in ("metrics.jsonl", "samples/4.png"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "tensorboard").write_text("")
    board = telemetry.Telemetry(tmp_path, 0, 10)
    for step in (2, 4):
        board.write(step, {"train/loss": 0.5})
    board.picture(4, np.zeros((6, 8, 3), np.uint8))
    board.log("goes on")
    board.close()
    printed = capsys.readouterr().out
    assert printed.count("cannot be written") == 3 and "goes on" in printed
    assert all(
        f"{tmp_path / name} cannot be written" in printed for name in ("metrics.jsonl", "samples", "tensorboard")
    )


def test_a_full_disk_in_the_middle_of_a_row_costs_that_row(tmp_path, capsys, monkeypatch):
    board = telemetry.Telemetry(tmp_path, 0, 10)
    board.write(2, {"train/loss": 0.5})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "tra')  # what fitted
    monkeypatch.setattr(board._board._writer, "write_event", _full)
    for step in (6, 8):
        board.write(step, {"train/loss": 0.25})
    board.close()
    assert telemetry.drop_rows_after(tmp_path / "metrics.jsonl", 10) == 1
    assert [row["step"] for row in rows(tmp_path)] == [2, 6, 8]
    assert capsys.readouterr().out.count("tensorboard cannot be written (No space left on device)") == 1


def _full(event):
    raise OSError(28, "No space left on device")


def test_a_reader_who_has_gone_ends_no_run(tmp_path, monkeypatch):
    board = telemetry.Telemetry(tmp_path, 0, 10)
    monkeypatch.setattr(board._bar, "write", _gone)
    board.log("anybody there?")
    board.close()


def _gone(*_, **__):
    raise BrokenPipeError(32, "Broken pipe")
