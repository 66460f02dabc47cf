"""Prompts: where the identity goes in, what a wrong prompt is told, and the word table."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest

from mmjax import config as c
from mmjax.encoders.build import make_text_encoder
from mmjax.encoders.placeholders import tokenize_words
from mmjax.encoders.prompts import CLASS_WORDS, expand_trigger
from mmjax.errors import PromptError


def test_the_class_word_is_repeated_for_each_identity_token_of_each_reference():
    tokens, mask = expand_trigger("A man img is talking", tokenize_words, references=2, id_tokens=2)
    assert tokens == ["a", "man", "man", "man", "man", "is", "talking"]
    assert mask.tolist() == [False, True, True, True, True, False, False]


def test_of_a_class_word_in_pieces_the_last_one_is_repeated():
    def pieces(text):
        return [
            part for word in text.split() for part in (["_" + word[:3], word[3:]] if len(word) > 3 else ["_" + word])
        ]

    tokens, mask = expand_trigger("The grandmother img sings", pieces, references=1, id_tokens=3)
    assert tokens == ["_The", "_gra", "ndmother", "ndmother", "ndmother", "_sin", "gs"]
    assert [token for token, marked in zip(tokens, mask, strict=True) if marked] == ["ndmother"] * 3


@pytest.mark.parametrize(
    "prompt, tokens",
    [
        ("a woman img", ["a", "woman", "woman"]),
        ("Woman IMG, smiling.", ["woman", "woman", ",", "smiling", "."]),
        ("a dog beside a girl  img  in a park", ["a", "dog", "beside", "a", "girl", "girl", "in", "a", "park"]),
    ],
)
def test_prompts_that_are_fine(prompt, tokens):
    assert expand_trigger(prompt, tokenize_words, 1, 2)[0] == tokens


@pytest.mark.parametrize("word", CLASS_WORDS)
def test_every_class_word_works(word):
    assert expand_trigger(f"the {word} img", tokenize_words, 1, 2)[0] == ["the", word, word]


@pytest.mark.parametrize(
    "prompt, complaint",
    [
        ("", "no class word"),
        ("A dog in a park", "no trigger.*no class word"),
        ("A man in a park", 'no trigger "img"; write'),
        ("A man img and a woman img", "found 2"),
        ("A man in a img park", 'found "a"'),
        ("A dog img", 'found "dog"'),
        ("img man", "found nothing"),
        ("A man, img smiling", "found nothing"),
        ("A man imgs", "no trigger"),
    ],
)
def test_wrong_prompts_are_told_what_to_write(prompt, complaint):
    with pytest.raises(PromptError, match=complaint) as error:
        expand_trigger(prompt, tokenize_words, 1, 2)
    assert 'such as "A man img is smiling"' in str(error.value)


@pytest.fixture
def experiment():
    transformer = c.Transformer(text_dim=48, text_length=8, latent_channels=3)
    return c.Experiment(autoencoder=c.Autoencoder("pixel"), model=c.Model(transformer, c.Adapter(id_tokens=2)))


def test_text_is_padded_and_masked(experiment):
    text, mask = make_text_encoder(experiment).encode(["A man img", "A girl img runs"], references=2)
    assert text.shape == (2, 8, 48) and text.dtype == np.float32
    assert mask.sum(1).tolist() == [4, 4]
    assert np.array_equal(text[0, 1], text[0, 4]), "the repeated class word is one and the same token"
    assert np.array_equal(text[0, 5], text[1, 6]) and not np.array_equal(text[0, 5], text[0, 1]), "padding"


def test_a_prompt_that_is_too_long_says_so(experiment):
    encoder = make_text_encoder(experiment)
    encoder.encode(["A man img is here and very happy"], references=1)
    with pytest.raises(PromptError, match="at most 8 tokens.*found 10.*shorter"):
        encoder.encode(["A man img is here and very happy"], references=2)


def test_plain_prompts_carry_no_identity(experiment):
    encoder = make_text_encoder(experiment)
    same = encoder.encode_plain(["A man img runs", "a man runs", ""])
    assert np.array_equal(same[0], same[1])
    assert np.array_equal(same[2], np.tile(same[2][0], (8, 1))), "the unconditional prompt is padding alone"


def test_word_vectors_are_standard_normal_and_do_not_depend_on_the_process(experiment):
    transformer = dataclasses.replace(experiment.model.transformer, text_dim=4096)
    wide = make_text_encoder(dataclasses.replace(experiment, model=c.Model(transformer, c.Adapter())))
    vector = wide.encode_plain(["umbrella"])[0, 0]
    assert abs(vector.mean()) < 0.05 and abs(vector.std() - 1) < 0.05
    script = (
        "from mmjax.encoders.placeholders import WordTable;"
        "print(WordTable(4, 3, 2, 0).encode_plain(['umbrella'])[0, 0].tolist())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "12"
    }
    assert len(seen) == 1


def test_the_fingerprint_follows_every_setting(experiment):
    def fingerprint(**changes):
        transformer = dataclasses.replace(experiment.model.transformer, **changes)
        return make_text_encoder(dataclasses.replace(experiment, model=c.Model(transformer, c.Adapter()))).fingerprint

    seeded = dataclasses.replace(experiment, encoders=c.Encoders(seed=1))
    assert (
        len({fingerprint(), fingerprint(text_dim=8), fingerprint(text_length=9), make_text_encoder(seeded).fingerprint})
        == 4
    )
