"""LAION's aesthetic heads against the layers that torch makes of them, on CLIP's directions of frames."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the test extra: pip install -e '.[test]'")

from safetensors.torch import save_file  # noqa: E402

from mmjax.conversion.aesthetic import read_aesthetic_head  # noqa: E402
from mmjax.encoders.clip import load_clip  # noqa: E402
from mmjax.errors import CheckpointError, ConversionError  # noqa: E402
from mmjax.evaluation.frames import FrameSampling  # noqa: E402
from mmjax.evaluation.metrics.aesthetic import Aesthetic  # noqa: E402
from mmjax.evaluation.metrics.interface import HasWeights, VideoToScore  # noqa: E402
from mmjax.evaluation.observation import DecodedVideo  # noqa: E402
from tests.helpers import clip_folders as folders  # noqa: E402


class FiveLayers(torch.nn.Module):
    """As published: keys layers.0, 2, 4, 6 and 7."""

    def __init__(self, width):
        super().__init__()
        sizes, linear = (1024, 128, 64, 16, 1), []
        for out in sizes:
            linear.append(torch.nn.Linear(width, out))
            width = out
        dropout = torch.nn.Dropout(0.2)
        parts = (linear[0], dropout, linear[1], dropout, linear[2], dropout, linear[3], linear[4])
        self.layers = torch.nn.Sequential(*parts)

    def forward(self, x):
        return self.layers(x)


def write(file, network):
    state = network.state_dict()
    save_file(state, file) if file.suffix == ".safetensors" else torch.save(state, file)
    return file


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", [FiveLayers, lambda width: torch.nn.Linear(width, 1)], ids=["five", "one"])
def test_a_head_is_one_affine_function(tmp_path, kind, ending):
    torch.manual_seed(0)
    network = kind(768).eval()
    weights, bias = read_aesthetic_head(write(tmp_path / f"head{ending}", network))
    directions = np.random.default_rng(0).standard_normal((5, 768)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(directions))[:, 0].numpy()
    assert weights.shape == (768,)
    np.testing.assert_allclose(directions @ weights + bias, expected, atol=1e-5)


def test_the_score_of_a_video(tmp_path):
    torch.manual_seed(0)
    folders.write_clip(tmp_path / "clip")
    head = torch.nn.Linear(32, 1)
    frames = np.random.default_rng(0).integers(0, 256, (6, 30, 44, 3)).astype(np.uint8)
    video = DecodedVideo(frames, np.arange(6) / 8, np.arange(6), 6)
    metric = Aesthetic(str(tmp_path / "clip"), str(write(tmp_path / "head.pth", head)), FrameSampling(3, "linspace"))
    found = metric.score(VideoToScore(None, video=video))
    with torch.no_grad():
        expected = head(torch.from_numpy(load_clip(tmp_path / "clip").pictures(frames[[0, 2, 5]])))[:, 0].numpy()
    np.testing.assert_allclose(found.series, expected, atol=1e-5)
    assert found.value == pytest.approx(expected.mean(), abs=1e-5)
    other = Aesthetic(metric.clip, str(write(tmp_path / "large.pth", torch.nn.Linear(768, 1))))
    for use in (other.fingerprint, lambda: other.score(VideoToScore(None, video=video))):
        with pytest.raises(CheckpointError, match="with directions of 768 numbers, found .* with 32; .*ViT-L/14"):
            use()
    assert isinstance(metric, HasWeights) and metric.fingerprint().startswith("clip/1 weights=")
    assert metric.fingerprint().partition("head=")[2].startswith("head.pth:")


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ConversionError, match="expected a file, found none; give one of LAION's"):
        read_aesthetic_head(tmp_path / "nowhere.pth")
    convolution = write(tmp_path / "other.pth", torch.nn.Conv2d(3, 1, 3))
    with pytest.raises(ConversionError, match=r"expected a layer with a weight \[1, n\], found \[1, 3, 3, 3\]"):
        read_aesthetic_head(convolution)
    with pytest.raises(ConversionError, match="expected Linear layers, found 0.running_mean"):
        read_aesthetic_head(write(tmp_path / "norm.pth", torch.nn.Sequential(torch.nn.BatchNorm1d(4))))
    (tmp_path / "head.txt").write_text("0.5")
    with pytest.raises(ConversionError, match=r"expected a \.safetensors file"):
        read_aesthetic_head(tmp_path / "head.txt")
