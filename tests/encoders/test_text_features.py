"""Prompts to embeddings: token ids as CogVideoX's pipeline makes them, the repeated class word, weights and cache."""

import gc
import os
import shutil
import types
from pathlib import Path

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the test extra: pip install -e '.[test]'")
sentencepiece = pytest.importorskip("sentencepiece", reason="reads T5's spiece.model: pip install sentencepiece")

from diffusers import CogVideoXPipeline  # noqa: E402
from transformers import T5Tokenizer  # noqa: E402

from mmjax import config as c  # noqa: E402
from mmjax import conversion, sharding  # noqa: E402
from mmjax.conversion import tokenizer  # noqa: E402
from mmjax.encoders.prompts import CLASS_WORDS  # noqa: E402
from mmjax.encoders.t5 import load_text_encoder  # noqa: E402
from mmjax.errors import CheckpointError, ConfigError, ConversionError, PromptError  # noqa: E402
from tests.encoders.conftest import LENGTH, VOCABULARY, WIDTH, tokenizing  # noqa: E402
from tests.helpers import photomaker_files  # noqa: E402
from tests.models.test_t5 import torch_t5  # noqa: E402


def load(folder, length=LENGTH, id_tokens=2, dtype="float32", **more):
    return load_text_encoder(folder, length, id_tokens, dtype=dtype, **more)


@pytest.fixture
def loads(monkeypatch):
    """Counts how often weights are read."""
    seen, load_component = [], conversion.load_component
    monkeypatch.setattr(conversion, "load_component", lambda *args: seen.append(1) or load_component(*args))
    return seen


# Token ids


def test_known_sentence(real_tokenizer):
    ids = tokenizing(real_tokenizer)._plain_tokens("A man is talking to the camera, smiling.")
    assert ids.tolist() == [71, 388, 19, 2508, 12, 8, 1861, 6, 20770, 5, 1] + [0] * 215


def test_plain_prompts_have_the_ids_of_diffusers(real_tokenizer):
    """VBench's prompts and some that are odd, against the tokenizer's own padding and end of text."""
    files = sorted((Path(os.environ["MMJAX_TEST_DATA"]) / "prompts").rglob("*.txt"))
    lines = [line.strip() for file in files for line in file.read_text().splitlines() if line.strip()]
    prompts = [*lines[:400], "", " two  spaces ", "naïve café, 日本", "imgur and primg", "tab\tand\nline"]
    encoder, theirs = tokenizing(real_tokenizer), T5Tokenizer.from_pretrained(real_tokenizer)
    checked = 0
    for prompt in prompts:
        expected = theirs(prompt, padding="max_length", max_length=226, truncation=True).input_ids
        if expected[-1] == 0:  # others are too long, and refused
            assert encoder._plain_tokens(prompt).tolist() == expected, prompt
            checked += 1
    print(f"{checked} prompts have the token ids of diffusers")
    assert checked > 100


TAILS = [
    "",
    " is talking.",
    ", smiling",
    "'s face",
    " (left) sings",
    "-like",
    ". The end",
    "  and  a woman",
    ' "so"',
    "; ",
]


@pytest.mark.parametrize("references", [1, 3])
@pytest.mark.parametrize("tail", TAILS)
def test_class_word_is_repeated_in_running_text(tokenizer_folder, tail, references):
    """For every class word: the pieces of the sentence without trigger, of which one, found by its offset, repeats."""
    encoder = tokenizing(tokenizer_folder)
    for word in CLASS_WORDS:
        for head in (f"A {word}", f"In the rain, two men and the {word.upper()}", f'"{word}'):
            tokens, mask = encoder.tokens(f"{head} img{tail}", references)
            whole = encoder._tokenizer(head + tail, return_offsets_mapping=True)
            place = next(i for i, (_, end) in enumerate(whole["offset_mapping"]) if end == len(head))
            ids = whole["input_ids"]
            expected = ids[:place] + [ids[place]] * (2 * references) + ids[place + 1 :]
            assert tokens[: len(expected)].tolist() == expected and not tokens[len(expected) :].any(), (head, tail)
            assert np.flatnonzero(mask).tolist() == list(range(place, place + 2 * references))


def test_end_of_text_stands_once_at_the_end(tokenizer_folder):
    tokens, mask = tokenizing(tokenizer_folder).tokens("A man img is talking", 2)
    assert tokens.dtype == np.int32 and tokens.shape == mask.shape == (226,)
    assert (tokens == 1).sum() == 1 and tokens[np.flatnonzero(tokens)[-1]] == 1 and mask.sum() == 4


def test_pieces_that_cross_the_class_word_are_told_apart(small_tokenizer):
    """Where a tokenizer joins the class word and what follows, the rest is split on its own."""
    encoder = tokenizing(small_tokenizer)
    pieces = {"a man": [5, 6], "a man!": [5, 7], "!": [8]}
    encoder._pieces = pieces.__getitem__
    assert encoder.tokens("a man img!", 1)[0][:5].tolist() == [5, 6, 6, 8, 1]


def test_trigger_is_dropped_from_plain_prompts(tokenizer_folder):
    encoder = tokenizing(tokenizer_folder)
    same = [
        encoder._plain_tokens(prompt).tolist()
        for prompt in ("A man, smiling", "A man img, smiling", "A man IMG , smiling")
    ]
    assert same[0] == same[1]
    assert encoder._plain_tokens("imgs").tolist() != encoder._plain_tokens("s").tolist()


def test_too_long_is_said_with_the_end_of_text_counted(small_tokenizer):
    whole = tokenizing(small_tokenizer)
    needed = int((whole._plain_tokens("A man is talking") != 0).sum())
    tokenizing(small_tokenizer, needed)._plain_tokens("A man is talking")
    with pytest.raises(PromptError, match=f"at most {needed - 1} tokens.*found {needed}"):
        tokenizing(small_tokenizer, needed - 1)._plain_tokens("A man is talking")
    with pytest.raises(PromptError, match=f"at most {needed} tokens.*found {needed + 5}"):
        tokenizing(small_tokenizer, needed).tokens("A man img is talking", 3)


@pytest.mark.parametrize(
    "prompt,complaint", [("A man", "no trigger"), ("A dog img", "found .dog."), ("", "class word")]
)
def test_prompts_without_identity_are_refused(small_tokenizer, prompt, complaint):
    with pytest.raises(PromptError, match=complaint):
        tokenizing(small_tokenizer).tokens(prompt, 1)


# Embeddings


def test_plain_prompts_equal_diffusers(converted):
    """The pipeline's own function, from the string on."""
    model, folder = converted
    tokenizer = T5Tokenizer.from_pretrained(folder / "tokenizer")
    pipeline = types.SimpleNamespace(tokenizer=tokenizer, text_encoder=model, _execution_device="cpu")
    prompts = ["A man is talking to the camera, smiling.", ""]
    with torch.no_grad():
        expected = CogVideoXPipeline._get_t5_prompt_embeds(pipeline, prompts, max_sequence_length=LENGTH).numpy()
    found = load(folder).encode_plain(prompts)
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    print(f"prompt to embedding: max abs error / max abs output = {error:.1e}")
    assert found.dtype == np.float32 and found.shape == (2, LENGTH, WIDTH)
    assert error <= 5e-5


def test_prompts_with_identity_are_the_network_on_their_tokens(converted):
    model, folder = converted
    encoder = load(folder)
    prompts = ["A man img is talking", "a woman img"]
    found, mask = encoder.encode(prompts, references=2)
    tokens = np.stack([encoder.tokens(prompt, 2)[0] for prompt in prompts])
    with torch.no_grad():
        expected = model(torch.from_numpy(tokens).long())[0].numpy()
    assert np.abs(found - expected).max() <= 5e-5 * np.abs(expected).max()
    assert mask.dtype == bool and mask.sum(1).tolist() == [4, 4]


def test_fills_the_interface(converted):
    encoder = load(converted[1])
    encoded, mask, plain = encoder.encode_both(["A man img"], 1, ["", "a boy"])
    np.testing.assert_allclose(encoded, encoder.encode(["A man img"], 1)[0], atol=1e-4)
    np.testing.assert_allclose(plain, encoder.encode_plain(["", "a boy"]), atol=1e-4)
    assert mask.shape == (1, LENGTH)
    assert encoder.encode([], 1)[0].shape == (0, LENGTH, WIDTH) and encoder.encode([], 1)[1].shape == (0, LENGTH)
    assert encoder.encode_plain([]).shape == (0, LENGTH, WIDTH)


def test_sharded_weights_give_the_same(converted):
    mesh = sharding.make_mesh(c.Mesh(data=2, fsdp=2, tensor=2))
    prompts = ["A man is talking", "", "A girl and a boy run"]
    sharded = load(converted[1], mesh=mesh)
    found = sharded.encode_plain(prompts)
    np.testing.assert_allclose(found, load(converted[1]).encode_plain(prompts), atol=2e-4)
    assert len(sharded._weights.get()["embed"].sharding.device_set) == 8


def test_bfloat16_by_default(converted):
    encoder = load_text_encoder(converted[1], LENGTH, 2)
    found, exact = encoder.encode_plain(["A man"]), load(converted[1]).encode_plain(["A man"])
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(encoder._weights.get())} == {"bfloat16"}
    assert found.dtype == np.float32 and 0 < np.abs(found - exact).max() / np.abs(exact).max() < 0.5


# Weights come when they are needed and go when they are not


def test_weights_are_read_once_and_freed(converted, loads, monkeypatch):
    encoder = load(converted[1])
    assert not loads
    passes, run = [], encoder._run
    monkeypatch.setattr(encoder, "_run", lambda tokens: passes.append(len(tokens)) or run(tokens))
    encoder.encode_both(["A man img runs", "a boy img"], 1, ["", "", "a boy"])
    assert passes == [4] and len(loads) == 1, "one pass, the empty prompt once"
    encoder.encode_plain(["another"])
    assert len(loads) == 1
    held = encoder._weights.get()["embed"].nbytes
    before = sum(array.nbytes for array in jax.live_arrays())
    gc.disable()  # what is let go of must not wait for it
    try:
        encoder.free()
        assert before - sum(array.nbytes for array in jax.live_arrays()) >= held
    finally:
        gc.enable()
    encoder.encode_plain(["another"])
    assert len(loads) == 2


def test_many_prompts_go_in_batches_of_few_shapes(converted, monkeypatch):
    encoder = load(converted[1])
    shapes, apply = [], encoder._apply
    monkeypatch.setattr(encoder, "_apply", lambda params, tokens: shapes.append(len(tokens)) or apply(params, tokens))
    prompts = [f"A man runs {i}" for i in range(19)]
    together = encoder.encode_plain(prompts)
    assert shapes == [8, 8, 4]
    np.testing.assert_allclose(together[17:18], encoder.encode_plain(prompts[17:18]), atol=2e-4)


# Cache


def test_cached_prompts_need_no_weights(converted, tmp_path, loads):
    prompts = ["A man is talking", ""]
    first = load(converted[1], cache=tmp_path / "cache").encode_plain(prompts)
    assert len(loads) == 1
    again = load(converted[1], cache=tmp_path / "cache")
    np.testing.assert_array_equal(again.encode_plain(prompts), first)
    assert len(loads) == 1 and not again._weights.loaded
    files = sorted((tmp_path / "cache").iterdir())
    assert len(files) == 2 and all(file.suffix == ".npy" and not file.name.startswith(".") for file in files)
    assert any(np.array_equal(np.load(files[0]), each) for each in first), "plain .npy files"
    again.encode_plain(["A man is talking", "new"])
    assert len(loads) == 2 and len(list((tmp_path / "cache").iterdir())) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: b"\0" * len(data),
        lambda data: data[:1000] + bytes([data[1000] ^ 1]) + data[1001:],
    ],
    ids=["empty", "a byte short", "half", "zeros", "one bit"],
)
def test_damaged_entries_are_made_anew(converted, tmp_path, loads, damage):
    first = load(converted[1], cache=tmp_path).encode_plain(["A man"])
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    np.testing.assert_array_equal(load(converted[1], cache=tmp_path).encode_plain(["A man"]), first)
    assert len(loads) == 2 and file.read_bytes() == whole


def test_other_settings_do_not_share_entries(converted, tmp_path):
    for settings in ({}, {"dtype": "bfloat16"}, {"length": 20}):
        load(converted[1], cache=tmp_path, **settings).encode_plain(["A man"])
    assert len(list(tmp_path.iterdir())) == 3


def test_cache_that_cannot_be_written_says_so(converted, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="cannot be kept there.*another folder"):
        load(converted[1], cache=tmp_path / "file").encode_plain(["A man"])


# Folders


def test_fingerprint_follows_weights_tokenizer_and_settings(converted, tmp_path, small_tokenizer):
    model, folder = converted
    same = load(folder).fingerprint
    source = folder.parent / "source"
    conversion.convert("text-encoder", source, tmp_path / "again", tokenizer=small_tokenizer)
    assert load(tmp_path / "again").fingerprint == same, "a name or a date must not matter"
    conversion.convert("text-encoder", source, tmp_path / "half", tokenizer=small_tokenizer, dtype="bfloat16")
    torch_t5(seed=1, vocab_size=VOCABULARY).save_pretrained(tmp_path / "other source")
    conversion.convert("text-encoder", tmp_path / "other source", tmp_path / "other", tokenizer=small_tokenizer)
    (tmp_path / "pieces").mkdir()
    (tmp_path / "pieces" / "spiece.model").write_bytes((small_tokenizer / "spiece.model").read_bytes())
    (tmp_path / "pieces" / "tokenizer_config.json").write_text('{"extra_ids": 90}')
    conversion.convert("text-encoder", source, tmp_path / "words", tokenizer=tmp_path / "pieces")
    others = [load(tmp_path / name).fingerprint for name in ("half", "other", "words")]
    others += [
        load(folder, **changed).fingerprint for changed in ({"length": 9}, {"id_tokens": 3}, {"dtype": "bfloat16"})
    ]
    assert len({same, *others}) == 7


def test_folders_without_what_is_needed_are_refused(converted, tmp_path, small_tokenizer, monkeypatch):
    source = converted[1].parent / "source"
    conversion.convert("text-encoder", source, tmp_path / "mute")
    with pytest.raises(ConversionError, match="expected a tokenizer"):
        load(tmp_path / "mute")
    conversion.convert("photomaker", photomaker_files.save(tmp_path / "v2.bin"), tmp_path / "faces")
    with pytest.raises(CheckpointError, match="expected a converted text-encoder, found a photomaker"):
        load(tmp_path / "faces")
    torch_t5(vocab_size=100).save_pretrained(tmp_path / "small")
    with pytest.raises(ConversionError, match="expected 1 to 100 tokens.*another model's"):
        conversion.convert("text-encoder", tmp_path / "small", tmp_path / "few", tokenizer=small_tokenizer)
    conversion.convert("text-encoder", tmp_path / "small", tmp_path / "few")
    shutil.copytree(small_tokenizer, tmp_path / "few" / "tokenizer")
    with pytest.raises(CheckpointError, match="expected 1 to 100 tokens.*another model's"):
        load(tmp_path / "few")
    with pytest.raises(ConfigError, match="overflows in float16"):
        load(converted[1], dtype="float16")
    monkeypatch.setattr(tokenizer, "_installed", lambda name: name != "protobuf")
    with pytest.raises(ConfigError, match="pip install protobuf"):
        load(converted[1])
