"""A film of several shots, by a sampler that computes nothing: whole, stopped and gone on with, changed, damaged."""

import dataclasses
import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from mmjax import config as c
from mmjax import credentials, inspect, media, sample
from mmjax.encoders.embedders import open_embedder
from mmjax.errors import ConfigError, DataError
from mmjax.evaluation.decoding import decode_video
from mmjax.sampling import film, stories
from mmjax.sampling.shots import Shot
from tests.helpers import certificates, tiny_run
from tests.helpers import face_pictures as fp
from tests.helpers.fake_sampler import FULL, Fake, command, ends, fails, there

STORY = """
class_word = "man"
clothes = "in a red coat"
seed = 7

[[shot]]
prompt = "A {class_word} img smiles"

[[shot]]
prompt = "A {class_word} img runs"
frames = 1

[[shot]]
prompt = "A {class_word} img sits"
seconds = 1
seed = 99
"""
GIVEN = ("--shots", "story.toml", "--reference", "face.png")
FILM = ["story.json", "story.mp4", "story.png"]
CLIPS = [f"story-00{number}.{kind}" for number in (1, 2, 3) for kind in ("json", "mp4", "png")]
COLOURS = "tests.helpers.plugins:mean_colour"


class Drawing(Fake):
    """Latents that depend on prompt, seed and size, of clips of up to 17 frames."""

    def __init__(self):
        super().__init__()
        self.config = tiny_run.experiment(data={"frames": (17,)}, model={})
        self.stop_at = None  # the clip before which Ctrl-C comes

    def latents(self, encoded, size, progress=None, noise=None):
        if len(self.made) == self.stop_at:
            raise KeyboardInterrupt
        self.made += [each.request.prompt for each in encoded]
        asked = encoded[0].request
        rng = np.random.default_rng([asked.seed, *asked.prompt.encode()])
        return rng.uniform(-1, 1, (1, *self.denoiser.latent_shape(size))).astype(np.float32)


@pytest.fixture
def sampler(monkeypatch, tmp_path):
    fake = Drawing()
    monkeypatch.setattr(sample, "load_sampler", lambda *_, **__: fake)
    monkeypatch.chdir(tmp_path)
    Path("story.toml").write_text(STORY)
    Image.new("RGB", (30, 20), (200, 160, 140)).save("face.png")
    return fake


def tell(*more, output="story.mp4"):
    sample.main(command(*GIVEN, *more, output=output))


def frames_of(path):
    return decode_video(Path(path), range).frames


def test_the_film_is_its_clips_one_behind_the_other(sampler, capsys):
    tell()
    said = capsys.readouterr().out
    assert there() == sorted([*CLIPS, *FILM, "face.png", "story.toml"]) and len(sampler.made) == 3
    assert "shot 3, 2.25 to 3.375 s, seed 99, 9 frames: A man img in a red coat sits" in said
    clips = [frames_of(f"story-00{number}.mp4") for number in (1, 2, 3)]
    assert [len(clip) for clip in clips] == [17, 1, 9]
    np.testing.assert_array_equal(frames_of("story.mp4"), np.concatenate(clips))
    with av.open("story.mp4") as container:
        assert container.metadata["comment"] == media.AI_NOTICE
        times = [(frame.time, frame.key_frame) for frame in container.decode(video=0)]
    assert [time for time, _ in times] == [number / 8 for number in range(27)]
    assert all(times[cut][1] for cut in (0, 17, 18)), "a player can jump to each shot"
    record = json.loads(Path("story.json").read_text())
    shots = record["shots"]
    assert [(shot["start"], shot["end"]) for shot in shots] == [(0, 2.125), (2.125, 2.25), (2.25, 3.375)]
    assert [shot["seed"] for shot in shots] == [7, 8, 99] and shots[1]["prompt"] == "A man img in a red coat runs"
    assert [shot["hash"] for shot in shots] == [
        json.loads(Path(f"story-00{n}.json").read_text())["hash"] for n in (1, 2, 3)
    ]
    assert record["size"] == {"frames": 27, "height": 16, "width": 16} and record["references"] == ["face.png"]
    assert "likeness is not measured: no face pack is at hand" in said and record["likeness"]["note"] in said
    with Image.open("story.png") as sheet:
        assert sheet.height > 4 * 144 and sheet.width > 6 * 144


def test_a_story_that_was_stopped_ends_in_the_same_bytes(sampler, capsys):
    tell(output="whole.mp4")
    sampler.made, sampler.stop_at = [], 2
    said = ends(capsys, *GIVEN, status=130, output="story.mp4")
    assert said == "stopped; 2 of 3 videos are whole, and the same command makes the others"
    assert "story.mp4" not in there()
    sampler.stop_at = None
    before = Path("story-001.mp4").stat()
    tell()
    assert "2 of 3 videos are finished already" in capsys.readouterr().out
    assert len(sampler.made) == 3 and Path("story-001.mp4").stat() == before
    for number in (1, 2, 3):
        name = f"-00{number}.mp4"
        assert Path(f"story{name}").read_bytes() == Path(f"whole{name}").read_bytes()
    renamed = Path("story.mp4").read_bytes()
    for name in FILM:
        Path(name).rename(f"once-{name}")
    tell()
    assert len(sampler.made) == 3, "put together from the clips that are there"
    assert [Path(name).read_bytes() for name in FILM] == [Path(f"once-{name}").read_bytes() for name in FILM]
    assert Path("story.mp4").read_bytes() == renamed
    tell()
    assert "story.mp4 is finished already, with the same settings" in capsys.readouterr().out


def test_only_changed_shots_are_made_anew(sampler, capsys):
    tell()
    Path("story.toml").write_text(STORY.replace("runs", "swims") + '[[shot]]\nprompt = "A man img waves"\n')
    before = Path("story-001.mp4").stat()
    assert "stands there already; add --overwrite" in ends(capsys, *GIVEN, output="story.mp4")
    sampler.stop_at = 4
    said = ends(capsys, *GIVEN, "--overwrite", status=130, output="story.mp4")
    assert said == "stopped; 3 of 4 videos are whole, and the same command makes the others"
    sampler.stop_at = None
    tell("--overwrite")
    coat = "A man img in a red coat"
    assert sampler.made[3:] == [f"{coat} swims", f"{coat} waves"] and Path("story-001.mp4").stat() == before
    assert len(frames_of("story.mp4")) == 17 + 1 + 9 + 17
    Path("story.mp4").write_bytes(b"mine")
    assert "story.mp4: a file stands there that mmjax did not make" in ends(
        capsys, *GIVEN, "--overwrite", output="story.mp4"
    )


@pytest.mark.parametrize("where", ["sheet", "record"])
def test_a_full_disk_costs_no_shot(sampler, capsys, monkeypatch, where):
    tell()
    for name in FILM:
        Path(name).unlink()
    with monkeypatch.context() as patch:
        fails(patch, where)
        said = ends(capsys, *GIVEN, output="story.mp4")
    name = {"sheet": "story.png", "record": "story.json"}[where]
    assert said == (
        f"error: {name} cannot be written ({FULL.strerror}); all 3 shots are whole, and the same command puts the film "
        "together"
    )
    with monkeypatch.context() as patch:
        fails(patch, where, KeyboardInterrupt())
        said = ends(capsys, *GIVEN, status=130, output="story.mp4")
    assert said == "stopped; all 3 shots are whole, and the same command puts the film together"
    tell()
    assert len(sampler.made) == 3 and set(FILM) <= set(there())


def test_a_clip_that_does_not_fit_is_named(sampler, capsys):
    tell()
    before = {name: Path(name).read_bytes() for name in FILM}
    whole, settings = Path("story-002.mp4").read_bytes(), json.loads(Path("story-002.json").read_text())["hash"]
    for content in (whole[: len(whole) // 2], b"made with mmjax", Path("story-001.mp4").read_bytes()):
        Path("story-002.mp4").write_bytes(content + settings.encode())  # so that it is taken for finished
        said = ends(capsys, *GIVEN, output="story.mp4")
        assert said.startswith("error: clip story-002.mp4: expected ") and said.endswith(
            "; remove it, and the same command makes it anew"
        )
    assert before == {name: Path(name).read_bytes() for name in FILM}
    media.write_video("a.mp4", np.zeros((3, 16, 16, 3), np.uint8), 8)
    media.write_video("b.mp4", np.zeros((3, 16, 18, 3), np.uint8), 8)
    with pytest.raises(DataError, match="clip b.mp4: expected the encoding of a.mp4, found another"):
        film.join_clips("c.mp4", ["a.mp4", "b.mp4"])
    with pytest.raises(
        DataError, match="clip face.png: expected|clip none.mp4: expected a clip of mmjax, found: No such"
    ):
        film.join_clips("c.mp4", ["a.mp4", "none.mp4"])
    assert not Path("c.mp4").exists()


def test_likeness_of_each_shot_by_an_embedder(sampler, capsys, monkeypatch):
    tell()
    tell("--embedder", COLOURS)
    assert len(sampler.made) == 3, "an embedder looks at what is there"
    record = json.loads(Path("story.json").read_text())
    assert record["likeness"] == {"embedder": COLOURS, "note": ""}
    assert all(0.9 < shot["identity/own"] <= 1 and shot["identity/no_face"] == 0 for shot in record["shots"])
    assert "shot 1, 0 to 2.125 s, seed 7, identity/own 0.9" in capsys.readouterr().out
    monkeypatch.setattr(sampler, "conditioned_by", lambda: ["arcface/1 recogniser=mean_colour/1:text=plain"])
    tell("--embedder", COLOURS, output="other.mp4")
    record = json.loads(Path("other.json").read_text())
    assert "condition the model" in record["likeness"]["note"] and "identity_not_independent/own" in record["shots"][0]
    assert "--embedder nowhere: " in ends(capsys, *GIVEN, "--embedder", "nowhere", output="third.mp4")


@pytest.mark.slow
@fp.needs_pack
def test_the_models_own_face_pack_looks_and_is_said_to_be_no_stranger(sampler):
    """The astronaut beside herself and beside nobody: the pack that conditions the model is at hand without a flag."""
    face = Image.fromarray(fp.astronaut()).crop((140, 20, 300, 180)).resize((128, 128))
    face.save("face.png")
    pack = str(fp.model_pack())
    sampler.config = dataclasses.replace(sampler.config, encoders=c.Encoders(face_models=pack))
    sampler.conditioned_by = lambda: [f"photomaker/1 recogniser={':'.join(open_embedder(pack).fingerprint.split())}"]
    shown = iter([np.asarray(face), np.full((128, 128, 3), 90, np.uint8)])
    sampler.decode = lambda latents: next(shown)[None, None]
    shots = [Shot("A woman img smiles", frames=1), Shot("A woman img is away", frames=1)]
    record = stories.make_story(sampler, shots, ["face.png"], "story.mp4", size=(None, 128, 128))
    assert record["likeness"]["note"] == "the recogniser whose embeddings condition the model"
    first, second = record["shots"]
    print(f"cosine {first['identity_not_independent/own']} through H.264")
    assert first["identity_not_independent/own"] > 0.9 and first["identity_not_independent/no_face"] == 0
    assert second["identity_not_independent/own"] is None and second["identity_not_independent/no_face"] == 1


WRONG = {
    "two sources of prompts": (("--prompt", "a"), STORY, "--shots: expected no --prompt beside it"),
    "several of each": (("--videos", "2"), STORY, "--shots: expected no --videos beside it"),
    "too long": (
        (),
        STORY.replace("seconds = 1", "seconds = 3"),
        "shot 3, seconds = 3: expected at most 17 frames (2.125",
    ),
    "too long by the flag": (("--frames", "25"), STORY, "shot 1, frames = 25: expected at most 17 frames"),
    "off the grid": ((), STORY.replace("frames = 1", "frames = 8"), "shot 2, frames = 8: expected 8k + 1, nearest 1 "),
    "nobody": ((), '[[shot]]\nprompt = "a sea"', 'shot 1: prompt "a sea": found no trigger'),
    "a last seed": ((), STORY.replace("7", str(2**64 - 1)), "shot 2: seed = 18446744073709551616: expected"),
    "to steer away from": ((), STORY.replace("frames = 1", 'negative_prompt = "img"'), "shot 2: negative prompt"),
    "no film": ((), STORY, "expected a name that ends in .mp4"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_work_is_told_before_anything_is_made(case, sampler, capsys):
    more, story, message = WRONG[case]
    Path("story.toml").write_text(story)
    said = ends(capsys, *GIVEN, *more, output="story.gif" if case == "no film" else "story.mp4")
    assert said.startswith("error: ") and message in said and not sampler.made
    assert there() == ["face.png", "story.toml"]


def test_no_input_is_written_to(sampler, capsys):
    for name in ("story.png", "story-001.png"):
        Path("face.png").rename(name)
        said = ends(capsys, "--shots", "story.toml", "--reference", name, output="story.mp4")
        assert f"{name}: that is --reference {name}" in said and not sampler.made
        Path(name).rename("face.png")
    assert "--embedder: expected --shots beside it" in ends(capsys, "--prompt", "a man", "--embedder", "dlib")


def test_a_story_of_nobody_from_python(sampler):
    record = stories.make_story(sampler, [Shot("a sea"), Shot("a train", frames=9)], [], "sea.mp4", seed=3)
    assert [(shot["seed"], shot["frames"]) for shot in record["shots"]] == [(3, 17), (4, 9)]
    assert stories.make_story(sampler, [Shot("a sea"), Shot("a train", frames=9)], [], "sea.mp4", seed=3) == record
    with pytest.raises(ConfigError, match="expected a shot or more"):
        stories.make_story(sampler, [], [], "none.mp4")


def test_film_and_clips_are_signed_and_know_their_shots(sampler, tmp_path, capsys):
    """Prompts and seeds travel in the film, names of files do not."""
    cert, key = certificates.write_chain(tmp_path)
    tell("--c2pa-cert", cert, "--c2pa-key", key)
    assert all(credentials.is_signed(name) for name in [*FILM, *CLIPS] if not name.endswith("json"))
    found = inspect.inspect("story.mp4")
    assert found.c2pa["verdict"].startswith("valid") and len(frames_of("story.mp4")) == 17 + 1 + 9
    assert found.settings == inspect.settings_of("story.png") and found.hash == inspect.inspect("story.json").hash
    prompts = ["A man img in a red coat smiles", "A man img in a red coat runs", "A man img in a red coat sits"]
    assert [(shot["prompt"], shot["seed"]) for shot in found.settings["shots"]] == list(
        zip(prompts, (7, 8, 99), strict=True)
    )
    assert not [name for name in (b"face.png", b"story-001") if name in Path("story.mp4").read_bytes()]
    record = inspect.inspect("story.json")
    assert record.kind == "record of a film" and "note" not in record.more and record.settings["shots"]
    assert inspect.settings_of("story-002.mp4")["prompt"] == prompts[1]
    inspect.main(["story.mp4"])
    assert "shots.3.seed" in capsys.readouterr().out
    before = {name: Path(name).read_bytes() for name in [*FILM, *CLIPS]}
    tell("--c2pa-cert", cert, "--c2pa-key", key)
    assert before == {name: Path(name).read_bytes() for name in before} and len(sampler.made) == 3
