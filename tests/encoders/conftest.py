"""Tokenizers, a small one that is trained here and CogVideoX's own, and a small T5 that goes with the first."""

import os
import random
from pathlib import Path

import pytest

from mmjax import conversion
from mmjax.encoders import t5

VOCABULARY, LENGTH, WIDTH = 300, 24, 48
CORPUS = (
    "A man is talking to the camera, smiling. The woman's face is lit by (warm) light; a girl and a boy run. "
    "An old grandmother drinks tea in a kitchen. Two people img walk, talk and laugh on the beach at night! "
    'The quick brown fox jumps over the lazy dog THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG " - child-like 0123456789 '
)


@pytest.fixture(scope="module")
def small_tokenizer(tmp_path_factory):
    """A folder with a `spiece.model` of 200 pieces, trained here; ids as T5's: padding 0, end of text 1, unknown 2."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="reads T5's spiece.model: pip install sentencepiece")
    folder = tmp_path_factory.mktemp("tokenizer")
    words = random.Random(0)
    lines = [" ".join(words.sample(CORPUS.split(), 12)) for _ in range(300)]
    with open(folder / "spiece.model", "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=file,
            vocab_size=150,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            hard_vocab_limit=False,
            minloglevel=2,
        )
    return folder


@pytest.fixture(scope="module")
def real_tokenizer():
    """CogVideoX's own."""
    if "MMJAX_TEST_DATA" not in os.environ:
        pytest.skip("needs MMJAX_TEST_DATA with CogVideoX's tokenizer")
    return Path(os.environ["MMJAX_TEST_DATA"]) / "tokenizer" / "tokenizer"


@pytest.fixture(params=["small", "real"])
def tokenizer_folder(request):
    return request.getfixturevalue(f"{request.param}_tokenizer")


@pytest.fixture(scope="module")
def converted(tmp_path_factory, small_tokenizer):
    """(torch encoder, converted folder with the small tokenizer inside)."""
    pytest.importorskip("torch", reason="needs the test extra: pip install -e '.[test]'")
    from tests.models.test_t5 import torch_t5

    folder = tmp_path_factory.mktemp("text")
    model = torch_t5(vocab_size=VOCABULARY)
    model.save_pretrained(folder / "source")
    conversion.convert("text-encoder", folder / "source", folder / "ours", tokenizer=small_tokenizer)
    return model, folder / "ours"


def tokenizing(folder, length=226, id_tokens=2):
    """The encoder's tokens without an encoder."""
    bare = object.__new__(t5.T5TextEncoder)
    bare.length, bare.id_tokens, bare._tokenizer = length, id_tokens, t5.load_tokenizer(folder)
    return bare
