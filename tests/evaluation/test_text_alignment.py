"""Text alignment by CLIP against transformers: its tokenizer, its preprocessing and its model, on odd frames."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the test extra: pip install -e '.[test]'")

from transformers import CLIPImageProcessorPil  # noqa: E402
from transformers.models.clip.tokenization_clip import CLIPTokenizer  # noqa: E402

from mmjax import conversion  # noqa: E402
from mmjax.encoders.clip import load_clip  # noqa: E402
from mmjax.errors import CheckpointError, ConversionError  # noqa: E402
from mmjax.evaluation.frames import FrameSampling  # noqa: E402
from mmjax.evaluation.metrics.interface import VideoToScore  # noqa: E402
from mmjax.evaluation.metrics.text_alignment import TextAlignment  # noqa: E402
from mmjax.evaluation.observation import DecodedVideo  # noqa: E402
from tests.helpers import clip_folders as folders  # noqa: E402

PROMPT = "A man is smiling in a park"
LONG = " ".join(["a woman talks in a park"] * 10)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """(folder as published, the same converted, the torch model)."""
    folder = tmp_path_factory.mktemp("clip")
    model = folders.write_clip(folder / "published")
    conversion.convert("clip", folder / "published", folder / "ours")
    return folder / "published", folder / "ours", model


@pytest.fixture(scope="module")
def video():
    """Twenty frames of shapes that move, wider than high."""
    rows, columns = np.mgrid[:40, :70]
    frames = [
        np.stack([(rows * 5 + 9 * t) % 256, (columns * 3) % 256, (rows * columns + t) % 256], -1) for t in range(20)
    ]
    numbers = np.arange(20)
    return DecodedVideo(np.array(frames, np.uint8), numbers / 8, numbers, 20)


def logits(published, frames, prompt) -> np.ndarray:
    folder, _, model = published
    size = model.config.vision_config.image_size
    processor = CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    pixels = processor(list(frames), return_tensors="pt").pixel_values
    tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    tokens = tokenizer([prompt], return_tensors="pt", padding=True, truncation=True, max_length=16)
    with torch.no_grad():
        return model(pixel_values=pixels, **tokens).logits_per_image[:, 0].numpy()


def score(metric, video, prompt=PROMPT):
    return metric.score(VideoToScore(None, prompt=prompt, video=video))


@pytest.mark.slow
@pytest.mark.parametrize("prompt", [PROMPT, LONG], ids=["short", "long"])
def test_it_equals_transformers_from_frames_and_words(published, video, prompt):
    scale = float(published[2].logit_scale.detach().exp())
    expected = logits(published, video.frames, prompt)
    found = score(TextAlignment(str(published[1])), video, prompt)
    error = np.abs(np.array(found.series) - expected / scale).max()
    print(f"{prompt[:30]}: mean cosine {found.value:.4f}, largest difference {error:.1e}")
    assert error <= 1e-5 and found.value == pytest.approx(expected.mean() / scale, abs=1e-5)
    assert found.details == {"prompt_cut": prompt == LONG}
    scaled = score(TextAlignment(str(published[1]), "clip_score", own_scale=True), video, prompt)
    assert scaled.value == pytest.approx(expected.mean(), abs=1e-3)


@pytest.mark.slow
def test_consisids_way(published, video):
    """Sixteen equal steps, red for blue."""
    metric = TextAlignment(
        str(published[1]), sampling=FrameSampling(16, "steps"), own_scale=True, colours_exchanged=True
    )
    frames = video.frames[[i * 20 // 16 for i in range(16)]][..., ::-1]
    found = score(metric, video)
    np.testing.assert_allclose(found.series, logits(published, frames, PROMPT), atol=1e-3)
    others = score(TextAlignment(str(published[1]), sampling=FrameSampling(16, "steps"), own_scale=True), video)
    assert abs(others.value - found.value) > 1e-2, "colours matter"


def test_a_published_folder_serves_as_well(published):
    """Without conversion; the fingerprint is the same."""
    one, two = (load_clip(folder) for folder in published[:2])
    assert one.fingerprint == two.fingerprint and one.fingerprint.startswith("clip/1 weights=")
    assert one.scale == two.scale == pytest.approx(float(published[2].logit_scale.detach().exp()))
    assert TextAlignment(str(published[0])).fingerprint() == one.fingerprint
    tokens = one.tokens([PROMPT, LONG])
    tokenizer = CLIPTokenizer.from_pretrained(published[0], local_files_only=True)
    expected = tokenizer([PROMPT, LONG], padding="max_length", truncation=True, max_length=16).input_ids
    np.testing.assert_array_equal(tokens, expected)


def test_what_it_lacks_is_said(published, video, tmp_path):
    metric = TextAlignment(str(published[1]), sampling=FrameSampling(16, "linspace"))
    assert "give --prompts" in score(metric, video, " ").why
    later = DecodedVideo(video.frames, video.seconds, video.numbers, 90)
    assert "not decoded" in score(metric, later).why
    with pytest.raises(CheckpointError, match="there is no such folder"):
        load_clip(tmp_path / "nowhere")
    with pytest.raises((CheckpointError, ConversionError), match="expected config.json"):
        load_clip(tmp_path)


def test_a_folder_without_a_tokenizer_is_refused(published, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(published[0] / name)
    with pytest.raises(CheckpointError, match="expected a tokenizer beside the weights, found none"):
        load_clip(tmp_path)
