"""`python -m mmjax.sample` and the functions under it, on a run with drawn weights: nothing in it is zero."""

import dataclasses
import json
import signal
import warnings

import av
import jax
import numpy as np
import pytest
from PIL import Image

from mmjax import config as c
from mmjax import convert, inspect, media, provenance, sample, sharding
from mmjax import tiny as report_of_tiny
from mmjax import train as entry
from mmjax.diffusion import samplers, schedule
from mmjax.errors import CheckpointError, ConfigError, DataError, PromptError
from mmjax.records import pipeline
from mmjax.sampling import Preview, Request, Sampler, checked_size, load_sampler
from mmjax.synthetic import galleries, portraits
from mmjax.training import optimizer, state
from mmjax.training.checkpoints import Checkpoints
from mmjax.training.tasks.registry import make_task
from mmjax.training.workdir import write_run
from tests.helpers import tiny
from tests.helpers.tiny_run import sources

# The same arithmetic in batches of another size or on another mesh rounds differently. Measured on the 8-bit frames:
# 0 between batches, 1 between meshes.
LEVELS = 2


def experiment(data_dir):
    transformer = c.Transformer(
        layers=2,
        heads=2,
        head_dim=16,
        latent_channels=3,
        text_dim=16,
        text_length=24,
        time_dim=16,
        base_frames=9,
        base_height=8,
        base_width=8,
    )
    adapter = c.Adapter(
        id_dim=24,
        clip_dim=8,
        clip_tokens=5,
        perceiver_width=16,
        perceiver_depth=1,
        perceiver_head_dim=8,
        queries=2,
        can_condition_dim=8,
        can_hidden=8,
    )
    return c.Experiment(
        autoencoder=c.Autoencoder("pixel"),
        name="sample_test",
        model=c.Model(transformer, adapter),
        data=c.Data(
            dir=str(data_dir),
            sources=("drawn_clips",),
            weights=(1.0,),
            batches=(8,),
            frames=(9,),
            height=16,
            width=16,
            people=4,
            held_out_people=3,
            clips_per_person=2,
        ),
        train=c.Train(trainable=(".*",), sample_count=2),
        sampling=c.Sampling(steps=4),
        precision=c.Precision(compute="float32", trained="float32", frozen="float32"),
    ).validated()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    config, workdir = experiment(folder / "data"), folder / "workdir"
    mesh = sharding.make_mesh(config.mesh, jax.devices()[:1])  # for every further one Orbax compiles slices
    fresh = state.create_state(make_task(config), optimizer.make_optimizer(config.optim, 2), mesh)
    put = lambda tree: jax.device_put(tree, jax.tree.map(lambda leaf: leaf.sharding, fresh.trained))  # noqa: E731
    raw, average = (put(tiny.redrawn(fresh.trained, seed)) for seed in (1, 2))
    write_run(workdir, config, {})
    checkpoints = Checkpoints(workdir, config, "")
    checkpoints.save(fresh.replace(step=fresh.step + 2, trained=raw, ema=average))
    checkpoints.close()
    return workdir


@pytest.fixture(scope="module")
def sampler(run):
    return load_sampler(run)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    paths = [portraits.save_portrait(folder / f"{n}.png", portraits.draw_portrait(1_000_000 + n, 16)) for n in (0, 1)]
    Image.new("RGB", (20, 20), (200, 160, 140)).save(folder / "photo.png")
    (folder / "broken.png").write_bytes(b"this is no picture")
    return [str(path) for path in paths]


def arguments(run, output_, **changed):
    given = {"model": run, "prompt": "A man img is smiling", "output": output_, "seed": 3, "steps": 4} | changed
    return [part for name, value in given.items() if value is not None for part in (f"--{name}", str(value))]


def test_video_sheet_and_record_lie_side_by_side(run, faces, tmp_path, capsys):
    output = tmp_path / "new" / "clip.mp4"
    sample.main([*arguments(run, output, fps=16), "--reference", faces[0]])
    with av.open(str(output)) as container:
        assert container.metadata["comment"] == media.AI_NOTICE and container.metadata["seed"] == "3"
        stream = container.streams.video[0]
        assert (stream.height, stream.width, float(stream.average_rate)) == (16, 16, 16)
        assert len(list(container.decode(stream))) == 9
    with Image.open(output.with_suffix(".png")) as sheet:
        assert sheet.height > 144 and sheet.width > 7 * 144  # a reference and six frames
    record = json.loads(output.with_suffix(".json").read_text())
    assert record["seed"] == 3 and record["prompt"] == "A man img is smiling" and record["references"] == [faces[0]]
    assert record["size"] == {"frames": 9, "height": 16, "width": 16} and record["fps"] == 16
    assert record["sampling"] == {
        "sampler": "dpm",
        "steps": 4,
        "guidance": 6.0,
        "dynamic_guidance": True,
        "identity_scale": 1.0,
    }
    assert record["source"] == {"model": str(run), "step": 2, "weights": "ema"}
    assert {"jax", "python"} <= record["versions"].keys() and record["timings"]["denoising_seconds"] > 0
    printed = capsys.readouterr()
    assert "step 2, ema weights" in printed.out and str(output) in printed.out
    assert "4/4" in printed.err  # the progress bar came to its end


@pytest.mark.slow
def test_several_prompts_go_to_numbered_files_each_with_its_own_seed(run, tmp_path, sampler):
    (tmp_path / "prompts.txt").write_text("a man is smiling\n\n  a girl on a beach \n")
    sample.main(arguments(run, tmp_path / "out.mp4", prompt=None, prompts=tmp_path / "prompts.txt"))
    names = sorted(path.name for path in tmp_path.glob("out*"))
    assert names == [f"out-00{n}.{kind}" for n in (0, 1) for kind in ("json", "mp4", "png")]
    records = [json.loads((tmp_path / f"out-00{n}.json").read_text()) for n in (0, 1)]
    assert [record["prompt"] for record in records] == ["a man is smiling", "a girl on a beach"]
    assert [record["seed"] for record in records] == [3, 4] and records[0]["references"] == []
    request = Request("a girl on a beach", seed=4)
    alone = sampler.sample([request], progress=lambda done, total: None)[0]
    tags = {"prompt": request.prompt, "seed": "4", "title": request.prompt, "settings": records[1]["hash"]}
    tags[provenance.TAG] = provenance.record_text(inspect.settings_of(tmp_path / "out-001.json"))
    again = media.write_video(tmp_path / "again.mp4", alone.frames, fps=8, metadata=tags)
    assert again.read_bytes() == (tmp_path / "out-001.mp4").read_bytes()


@pytest.mark.slow
def test_a_story_by_a_real_sampler_is_the_same_however_often_it_was_stopped(
    run, sampler, faces, tmp_path, capsys, monkeypatch
):
    story = 'clothes = "in green"\n' + "".join(
        f'[[shot]]\nprompt = "A man img is {how}"\n' for how in ("sad", "talking")
    )
    (tmp_path / "story.toml").write_text(story)
    monkeypatch.setattr(sample, "load_sampler", lambda *_, **__: sampler)  # compiled already

    def tell(folder):
        given = {"prompt": None, "shots": tmp_path / "story.toml", "reference": faces[0]}
        sample.main(arguments(run, tmp_path / folder / "film.mp4", **given))

    tell("once")
    said = capsys.readouterr().out
    assert "shot 2, 1.125 to 2.25 s, seed 4, 9 frames: A man img in green is talking" in said
    with monkeypatch.context() as patch:
        write, stops = media.write_png, iter([False, True])
        patch.setattr(
            media,
            "write_png",
            lambda *a, **more: write(*a, **more) if not next(stops) else signal.raise_signal(signal.SIGINT),
        )
        with pytest.raises(SystemExit):
            tell("again")
    assert "; 1 of 2 videos are whole, and the same command makes the others" in capsys.readouterr().err
    tell("again")
    for name in ("film.mp4", "film.png", "film.json", "film-001.mp4", "film-002.mp4"):
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    assert json.loads((tmp_path / "once" / "film.json").read_text())["size"] == {
        "frames": 18,
        "height": 16,
        "width": 16,
    }


@pytest.mark.slow
def test_a_clip_depends_neither_on_its_neighbours_nor_on_the_mesh(run, sampler, faces):
    assert jax.device_count() == 8
    requests = [
        Request(*(("A girl img is talking", faces[1:]) if seed % 2 else ("a man on a beach",)), seed=seed)
        for seed in range(8)
    ]
    together = sampler.sample(requests)  # one on each device
    elsewhere = load_sampler(run, mesh=c.Mesh(data=1, fsdp=2, context=4))
    for number, other in ((2, sampler), (3, sampler), (3, elsewhere)):
        alone = other.sample([requests[number]])[0]
        off = np.abs(alone.frames.astype(int) - together[number].frames)
        print(f"largest difference to the clip among others: {off.max()} of 255")
        assert off.max() <= LEVELS
    assert np.mean(together[1].frames != together[3].frames) > 0.5


def test_progress_does_not_change_the_clip(sampler, faces):
    seen = []
    request = Request("A man img is smiling", faces[:1], seed=7)
    watched = sampler.sample([request], progress=lambda done, total: seen.append((done, total)))[0]
    assert seen == [(step, 4) for step in range(1, 5)]
    off = np.abs(watched.frames.astype(int) - sampler.sample([request])[0].frames)
    assert off.max() <= LEVELS


@pytest.mark.slow
def test_identity_prompt_and_weights_reach_the_clip(run, sampler, faces, tmp_path):
    def frames(params=sampler.params, **request):
        chosen = Sampler(sampler.config, params)
        chosen.denoiser = sampler.denoiser  # compiled already
        return chosen.sample([Request(**{"prompt": "A man img is smiling", "references": faces[:1]} | request)])[
            0
        ].frames

    first = frames()
    assert np.any(first != frames(references=faces[1:]))
    assert np.any(first != frames(prompt="A man img is sad"))
    assert np.any(first != frames(negative_prompt="sad"))
    assert np.any(first != frames(load_sampler(run, weights="raw").params))
    np.testing.assert_array_equal(first, frames(load_sampler(run, adapter=run).params))
    convert.convert("adapter", run, exported := tmp_path / "a.safetensors")
    np.testing.assert_array_equal(first, frames(load_sampler(run, adapter=exported).params))
    with pytest.raises(ConfigError, match="expected raw weights"):
        load_sampler(run, weights="raw", adapter=exported)
    ddim = load_sampler(run, sampler="ddim", steps=3)
    assert ddim.config.sampling == c.Sampling(sampler="ddim", steps=3)


def test_several_references_of_one_person(sampler, faces):
    two = sampler.sample([Request("A man img is smiling", faces)])[0]
    assert len(two.references) == 2 and two.frames.shape == (9, 16, 16, 3)
    with pytest.raises(DataError, match="equally many"):
        sampler.sample([Request("A man img", faces), Request("A man img", faces[:1])])


def test_other_sizes_on_the_grid(sampler):
    clip = sampler.sample([Request("a man")], size=(17, 12, 20))[0]
    assert clip.frames.shape == (17, 12, 20, 3)


@pytest.mark.slow
def test_preview_shows_held_out_people_and_repeats_itself(run, sampler):
    preview = Preview(sampler.config, sources(sampler.config))
    first = preview(sampler.params, 2)
    assert first.sheet.shape[0] > 2 * 144 and first.sheet.shape[1] > 6 * 144
    assert len(first.people) == len(first.videos) and first.fps == sampler.config.data.fps
    again = preview(sampler.params, 2)
    np.testing.assert_array_equal(first.sheet, again.sheet)
    np.testing.assert_array_equal(first.videos, again.videos)
    blank = jax.tree.map(lambda leaf: 0 * leaf, sampler.params)
    assert np.any(preview(blank, 2).sheet != first.sheet)


def test_an_embedder_knows_drawn_people_by_their_names(run, sampler, monkeypatch):
    """Real clips are nearer to their own person than to others, in the eyes of a recogniser that saw twelve people."""
    monkeypatch.setattr(galleries, "FIT_PEOPLE", 12)
    train = dataclasses.replace(sampler.config.train, identity_embedder="fisherfaces", sample_every=2)
    config = dataclasses.replace(sampler.config, train=train)
    preview = Preview(config, sources(config))
    similarity = entry._similarity(config, sources(config), preview)
    real = preview.autoencoder.decode(pipeline.collate(preview.records)["latents"])
    people = [str(record["person"]) for record in preview.records]
    own, swapped = similarity(people, real), similarity(people[1:] + people[:1], real)
    print(f"own {own}; swapped {swapped}")
    assert similarity.independent and len(similarity.gallery) == config.data.held_out_people
    assert own.own > own.other and own.own > swapped.own and own.retrieval > swapped.retrieval


@pytest.mark.parametrize("name", samplers.SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_few_steps_warn_of_nothing(name, steps):
    """With two steps the second is the last: what DPM would extrapolate there is infinity over infinity."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = samplers.make_step_table(schedule.make_schedule(c.Schedule()), c.Sampling(sampler=name, steps=steps))
    assert table.clean[-1] == 1 and table.clean_before[-1] == 0
    assert all(np.isfinite(column).all() for column in jax.tree.leaves(table))


@pytest.mark.parametrize(
    "name, value, near", [("frames", 50, "49 or 57"), ("frames", 0, "nearest 1"), ("width", 17, "16 or 18")]
)
def test_sizes_off_the_grid_name_the_nearest(sampler, name, value, near):
    with pytest.raises(ConfigError, match=f"{name} = {value}: expected .*{near}"):
        checked_size(sampler.config, **{name: value})


WRONG = {
    "no run": ({"model": "nowhere"}, "expected the workdir of a training run"),
    "no checkpoint of that step": ({"step": 77}, "no checkpoint of step 77"),
    "the best of none": ({"step": "best"}, "expected a checkpoint that was kept as the best by a figure, found none"),
    "a step in words": ({"step": "first"}, "argument --step: first: expected a whole number of 0 to"),
    "no adapter": ({"adapter": "nowhere"}, "expected the workdir of a training run"),
    "missing reference": ({"reference": "nowhere.png"}, "nowhere.png: expected a picture file"),
    "broken reference": ({"reference": "broken.png"}, "broken.png: expected a PNG"),
    "photograph for a model of drawings": (
        {"reference": "photo.png", "prompt": "A man img"},
        "knows drawn people only",
    ),
    "no trigger": ({"reference": "0.png", "prompt": "A man is smiling"}, 'no trigger "img"'),
    "no class word": ({"reference": "0.png", "prompt": "The img is smiling"}, "expected a class word"),
    "frames off the grid": ({"frames": 50}, "frames = 50: expected 8k"),
    "height off the grid": ({"height": 17}, "height = 17: expected a multiple of 2"),
    "too many steps": ({"steps": 2000}, "sampling.steps"),
    "guidance too low": ({"guidance": 0.5}, "--guidance: 0.5: expected a number of 1 to 100"),
    "guidance is no number": ({"guidance": "nan"}, "--guidance: nan: expected"),
    "a rate without end": ({"fps": "inf"}, "--fps: inf: expected a number of 0.1 to 1000"),
    "nobody to show": ({"prompt": "A man img is smiling"}, "no reference picture of the person"),
    "trigger to steer away from": ({"negative-prompt": "a man img"}, "expected no trigger"),
    "another encoding": ({"prompt": "a caf\udce9"}, "bytes that are none in the console's encoding"),
    "not an mp4": ({"output": "out.gif"}, "ends in .mp4"),
    "negative seed": ({"seed": -1}, "--seed: -1: expected a whole number of 0 to 18446744073709551615"),
    "seed beyond 64 bits": ({"seed": 2**64}, "expected a whole number of 0 to"),
    "the next seed beyond 64 bits": ({"seed": 2**64 - 1, "videos": 2}, "seed = 18446744073709551616: expected"),
    "no prompt file": ({"prompt": None, "prompts": "nowhere.txt"}, "one prompt a line"),
    "no prompt in the file": ({"prompt": None, "prompts": "empty.txt"}, "found none"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_work_ends_in_one_line(case, run, faces, tmp_path, monkeypatch, capsys):
    changed, message = WRONG[case]
    (tmp_path / "empty.txt").write_text("\n\n")
    monkeypatch.chdir(tmp_path)
    folder = faces[0].rpartition("/")[0]
    if "reference" in changed:
        changed = changed | {"reference": f"{folder}/{changed['reference']}"}
    with pytest.raises(SystemExit) as stopped:
        sample.main(arguments(run, "out.mp4", **({"prompt": "a man is smiling"} | changed)))
    printed = capsys.readouterr().err
    assert stopped.value.code == 2
    assert printed.startswith("error: ") and message in printed and "Traceback" not in printed
    assert not list(tmp_path.glob("*.mp4"))


@pytest.mark.slow
def test_the_tiny_models_report_says_rates_and_ends_with_the_path_of_its_sheet(run, monkeypatch, capsys):
    monkeypatch.setattr(galleries, "FIT_PEOPLE", 12)
    monkeypatch.setattr(report_of_tiny, "BATCH", 2)
    report_of_tiny.main(["--workdir", str(run)])
    printed = capsys.readouterr().out
    report = json.loads((run / "report.json").read_text())
    for name in ("real", "identity", "without_identity"):
        found = report[name]
        assert found["count"] == 3 and found["chance"] == pytest.approx(1 / 3)
        assert found["low"] <= found["rate"] <= found["high"]
        assert f"{report_of_tiny.NAMES[name]:26}{found['correct']}/3" in printed
    assert report["identity"]["own_cosine"] != report["without_identity"]["own_cosine"]
    assert report["source"]["step"] == 2
    with Image.open(printed.splitlines()[-1]) as sheet:
        assert sheet.height > 3 * 144 and sheet.width > 7 * 144


def test_the_tiny_models_rows_belong_to_their_people(sampler):
    records = report_of_tiny.held_out_clips(sampler.config)
    assert [record["person"] for record in records] == [f"drawn-{1_000_000 + n:07d}" for n in range(3)]
    with pytest.raises(ConfigError, match="two held-out people"):
        report_of_tiny.held_out_clips(sampler.config, 1)


def test_a_run_without_checkpoint_and_broken_weights_are_refused(run, sampler, tmp_path):
    (tmp_path / "config.json").write_text((run / "config.json").read_text())
    with pytest.raises(CheckpointError, match="no complete checkpoint"):
        load_sampler(tmp_path)
    with pytest.raises(ConfigError, match="ema or raw"):
        load_sampler(run, weights="best")
    broken = Sampler(sampler.config, jax.tree.map(lambda leaf: leaf * np.nan, sampler.params))
    broken.denoiser = sampler.denoiser
    with pytest.raises(CheckpointError, match="not|NaN"):
        broken.sample([Request("a man")])
    with pytest.raises(PromptError):
        sampler.sample([Request("a man", references=[portraits.draw_portrait(1_000_000, 16)])])
