"""Tokenizers that are damaged or another model's, and words that T5 cannot read: said or refused, never sampled."""

import os
import shutil
import types
from pathlib import Path

import pytest

from mmjax import conversion
from mmjax.conversion import tokenizer
from mmjax.encoders import t5
from mmjax.errors import CheckpointError, ConversionError, PromptError
from tests.encoders.conftest import tokenizing


def test_damaged_tokenizer_is_one_clear_error(tmp_path):
    (tmp_path / "spiece.model").write_bytes(b"no pieces at all")
    with pytest.raises(CheckpointError, match="the tokenizer cannot be read"):
        t5.load_tokenizer(tmp_path)


WORDS = [
    ("一个男人在微笑", "knows nothing of 一个男人在微笑; write it in English"),
    ("A man 一个男人在微笑 一个男人在微笑", "knows nothing of"),
    ("Мужчина улыбается в парке", "knows nothing of"),  # T5 has most of these letters, and none of the words
    ("رجل يبتسم", "knows nothing of"),
    ("άνθρωπος", "knows nothing of"),
    ("😀😀😀", "knows nothing of 😀😀😀"),
    ("a caf\udce9", "bytes of another encoding"),
    ("A man 微笑 in a park", None),
    ("naïve café, 日本", None),
    ("człowiek uśmiecha się", None),
    ("A man 😀 smiling", None),
    ("ein Mann lächelt; un homme à l'été, déjà vu", ""),
    ("A man in a park, 3 x 4 = 12 (50% off!)", ""),
    ("", ""),
]


@pytest.mark.parametrize("prompt,message", WORDS)
def test_words_that_t5_cannot_read_are_refused_or_said(real_tokenizer, prompt, message):
    """Refused where they are most of the letters, said (None) where they are few."""
    encoder = tokenizing(real_tokenizer)
    if message:
        for ask in (encoder._plain_tokens, lambda text: encoder.warnings([text])):
            with pytest.raises(PromptError, match=message):
                ask(prompt)
        if any(map(str.isalpha, prompt)):
            with pytest.raises(PromptError):
                encoder.tokens(f"{prompt} man img", 1)
    else:
        assert bool(encoder.warnings([prompt])) == (message is None)


def test_plain_english_is_read_without_a_word(real_tokenizer):
    """No warning for any of VBench's prompts but those with foreign letters."""
    files = sorted((Path(os.environ["MMJAX_TEST_DATA"]) / "prompts").rglob("*.txt"))
    lines = {line.strip() for file in files for line in file.read_text().splitlines() if line.strip()}
    prompts, encoder = sorted(line for line in lines if len(line) < 600)[:1500], tokenizing(real_tokenizer)
    said = [line for line in prompts if encoder.warnings([line])]
    print(f"{len(said)} of {len(prompts)} prompts with a word that T5 cannot read: {said[:3]}")
    assert len(prompts) > 100 and len(said) <= len(prompts) // 50


def test_a_class_word_that_is_not_known_is_refused(small_tokenizer):
    encoder = tokenizing(small_tokenizer)
    encoder._pieces = lambda text: [2] * len(text.split())
    with pytest.raises(PromptError, match="does not know its class word"):
        encoder.tokens("A man img is talking", 1)


def empty(folder):
    (folder / "spiece.model").write_bytes(b"")


def cut(folder):
    raw = (folder / "spiece.model").read_bytes()
    (folder / "spiece.model").write_bytes(raw[: len(raw) // 2])


def flipped(folder):
    raw = bytearray((folder / "spiece.model").read_bytes())
    raw[1000] ^= 0xFF
    (folder / "spiece.model").write_bytes(bytes(raw))


def larger(folder):
    (folder / "tokenizer_config.json").write_text('{"extra_ids": 500}')


@pytest.mark.parametrize(
    "damage,message",
    [
        (empty, "expected 173 to 300 tokens, .*found 103: it is cut short"),
        (cut, "no whole SentencePiece model"),
        (flipped, "cannot be read|expected"),
        (larger, "it is cut short, or another model's"),
    ],
)
def test_a_tokenizer_that_is_empty_cut_or_anothers_is_found_when_converting(
    converted, small_tokenizer, tmp_path, damage, message
):
    shutil.copytree(small_tokenizer, tmp_path / "tokenizer")
    damage(tmp_path / "tokenizer")
    source = converted[1].parent / "source"
    with pytest.raises(ConversionError, match=message):
        conversion.convert("text-encoder", source, tmp_path / "ours", tokenizer=tmp_path / "tokenizer")
    assert not (tmp_path / "ours").exists()


def test_a_tokenizer_that_knows_no_words_is_anothers():
    """Of another script, say: T5's own tokens stand where they should, and each word is unknown."""

    class Other:
        all_special_ids = (0, 1, 2)
        convert_tokens_to_ids = {"<pad>": 0, "</s>": 1, "<unk>": 2}.get

        def __len__(self):
            return 100

        def __call__(self, text, add_special_tokens):
            return types.SimpleNamespace(input_ids=[7, 2] * len(text.split()))

    assert "found 7 of 14 tokens unknown" in tokenizer.problem(Other(), 128)


def test_an_empty_tokenizer_is_refused_whatever_the_tables_size(tmp_path):
    (tmp_path / "spiece.model").write_bytes(b"")
    assert "it is empty, or another model's" in tokenizer.problem(t5.load_tokenizer(tmp_path), 128)
