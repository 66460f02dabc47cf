"""Prompts to T5 embeddings: the text encoder of real experiments (METHOD 1, 2).

    encoder = load_text_encoder("weights/text_encoder", length=226, id_tokens=2)
    text, mask, negative = encoder.encode_both(["A man img is talking"], references=1, plain=[""])
    encoder.free()  # before denoising, which needs the memory

A prompt becomes the very token ids that CogVideoX was trained on: T5's pieces, one end-of-text token, padding up to the
full length, no mask. Weights are read when the first prompt asks for them and not before, so that a run whose prompts
are all in the cache reads none.
"""

import functools
import hashlib
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Bool, Float, Int
from transformers import T5Tokenizer

from mmjax import config as c
from mmjax import conversion, sharding
from mmjax.conversion.source import tokenizer_files
from mmjax.conversion.t5 import abstract_t5
from mmjax.conversion.tokenizer import load_tokenizer, problem
from mmjax.encoders.batching import power_of_two, run_filled
from mmjax.encoders.embedding_cache import EmbeddingCache
from mmjax.encoders.fingerprints import T5, fingerprint, hash_converted, hash_files
from mmjax.encoders.lazy import LazyWeights
from mmjax.encoders.prompts import TRIGGER, check_length, check_text, expand_trigger, split_at_trigger
from mmjax.errors import CheckpointError, ConfigError, PromptError, UnreadableError
from mmjax.models import sizes
from mmjax.models.t5 import T5Encoder
from mmjax.precision import Policy
from mmjax.trees import Tree

_SCRIPTS = ("LATIN ", "FULLWIDTH LATIN", "FEMININE ORDINAL", "MASCULINE ORDINAL", "MICRO SIGN")  # that T5 was taught
_BATCH = 8  # prompts that the network sees at once
_TRIGGER = re.compile(rf"\s*(?<!\w){TRIGGER}(?!\w)", re.IGNORECASE)


class T5TextEncoder:
    """A `mmjax.encoders.interface.TextEncoder`; made by `load_text_encoder`.

    fingerprint: changes with the weights, the tokenizer and every setting, and with nothing else.
    """

    def __init__(
        self,
        folder: Path,
        tokenizer: T5Tokenizer,
        fingerprint: str,
        *,
        length: int,
        id_tokens: int,
        mesh: jax.sharding.Mesh,
        dtype: str,
        cache: EmbeddingCache | None,
    ):
        self.fingerprint, self.length, self.id_tokens = fingerprint, length, id_tokens
        self._tokenizer, self._mesh, self._cache = tokenizer, mesh, cache
        self._record = conversion.read_record(folder, "text-encoder")
        self._weights = LazyWeights(functools.partial(_read_weights, folder, self._record, mesh, dtype))
        network = T5Encoder(self._record, Policy(dtype))
        self._apply = jax.jit(
            lambda params, tokens: network.apply({"params": params}, tokens), out_shardings=sharding.replicated(mesh)
        )

    def encode(
        self, prompts: Sequence[str], references: int
    ) -> tuple[Float[np.ndarray, "n L text_dim"], Bool[np.ndarray, "n L"]]:
        """Embeddings of prompts with class word and trigger, and m of eq. 5. Raises `PromptError`."""
        text, mask, _ = self.encode_both(prompts, references, [])
        return text, mask

    def encode_plain(self, prompts: Sequence[str]) -> Float[np.ndarray, "n L text_dim"]:
        """Embeddings of prompts that name nobody; "" gives the unconditional prompt. Raises `PromptError` if too long.

        A trigger is dropped, so that the same sentence can be had without identity.
        """
        return self._embed([self._plain_tokens(prompt) for prompt in prompts])

    def encode_both(
        self, prompts: Sequence[str], references: int, plain: Sequence[str]
    ) -> tuple[Float[np.ndarray, "n L text_dim"], Bool[np.ndarray, "n L"], Float[np.ndarray, "m L text_dim"]]:
        """`encode(prompts, references)` and `encode_plain(plain)` in one pass through the network."""
        expanded = [self.tokens(prompt, references) for prompt in prompts]
        rows = [tokens for tokens, _ in expanded] + [self._plain_tokens(prompt) for prompt in plain]
        masks = np.array([mask for _, mask in expanded], bool).reshape(len(expanded), self.length)
        text = self._embed(rows)
        return text[: len(expanded)], masks, text[len(expanded) :]

    def tokens(self, prompt: str, references: int) -> tuple[Int[np.ndarray, " L"], Bool[np.ndarray, " L"]]:
        """Token ids and m of a prompt with class word and trigger. Raises `PromptError`.

        The whole sentence is split into pieces without its trigger, so that what follows the class word has the pieces
        of running text: a comma right behind it is one piece there and two at the start of a text.
        """
        check_text(prompt)
        before, after = split_at_trigger(prompt)
        head, whole = self._pieces(before), self._readable_pieces(_TRIGGER.sub("", prompt), prompt)
        tail = whole[len(head) :] if whole[: len(head)] == head else self._pieces(after)
        parts = iter((head, tail))  # in the order in which they are asked for
        pieces, marked = expand_trigger(prompt, lambda _: next(parts), references, self.id_tokens)
        if not head or head[-1] == self._tokenizer.unk_token_id:
            raise PromptError(f'prompt "{prompt}": the tokenizer does not know its class word; write another one')
        return self._padded(prompt, pieces), np.pad(marked, (0, self.length - len(marked)))

    def warnings(self, prompts: Sequence[str]) -> list[str]:
        """What of the prompts the encoder cannot read, a sentence for each; nothing for plain English.

        Raises `PromptError` for a prompt of which that is the greater part.
        """
        for prompt in prompts:
            self._plain_tokens(prompt)
        found = {prompt: self._unreadable(_TRIGGER.sub("", prompt)) for prompt in prompts}
        return [
            f'prompt "{prompt}": the text encoder cannot read {" ".join(lost)}, and goes on without it'
            for prompt, lost in found.items()
            if lost
        ]

    def free(self) -> None:
        """Lets go of the weights; the next prompt that is not cached reads them again."""
        self._weights.free()

    def _plain_tokens(self, prompt: str) -> Int[np.ndarray, " L"]:
        return self._padded(prompt, self._readable_pieces(_TRIGGER.sub("", prompt), prompt))

    def _pieces(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False, verbose=False).input_ids

    def _readable_pieces(self, text: str, prompt: str) -> list[int]:
        """Pieces of a text of which most can be read. Raises `PromptError`, naming the prompt."""
        check_text(prompt)
        lost = self._unreadable(text)
        letters = sum(map(str.isalnum, text))
        if lost and 2 * sum(map(str.isalnum, "".join(lost))) >= letters:
            raise UnreadableError(
                f'prompt "{prompt}": the text encoder reads English, and knows nothing of {" ".join(lost)}; write it '
                "in English"
            )
        return self._pieces(text)

    def _unreadable(self, text: str) -> list[str]:
        """Runs of the text that have no token, or are letters of a script of which T5 knows some, but no words."""
        lost = [letter.isalpha() and not unicodedata.name(letter, "").startswith(_SCRIPTS) for letter in text]
        encoded = self._tokenizer(text, add_special_tokens=False, verbose=False, return_offsets_mapping=True)
        for piece, (start, end) in zip(encoded.input_ids, encoded.offset_mapping, strict=True):
            if piece == self._tokenizer.unk_token_id:
                lost[start:end] = [True] * (end - start)
        marked = "".join(letter if gone else " " for letter, gone in zip(text, lost, strict=True))
        return marked.split()

    def _padded(self, prompt: str, pieces: list[int]) -> Int[np.ndarray, " L"]:
        ended = [*pieces, self._tokenizer.eos_token_id]
        check_length(prompt, ended, self.length)
        return np.array(ended + [self._tokenizer.pad_token_id] * (self.length - len(ended)), np.int32)

    def _embed(self, rows: Sequence[Int[np.ndarray, " L"]]) -> Float[np.ndarray, "n L text_dim"]:
        """Embeddings of token ids: from the cache where they are there, each of the others computed once."""
        keys = [hashlib.sha256(self.fingerprint.encode() + row.tobytes()).hexdigest() for row in rows]
        shape = (self.length, self._record.width)
        found = {key: self._cached(key, shape) for key in dict.fromkeys(keys)}
        missing = {key: row for key, row in zip(keys, rows, strict=True) if found[key] is None}
        for start in range(0, len(missing), _BATCH):
            batch = list(missing.items())[start : start + _BATCH]
            computed = self._run(np.stack([row for _, row in batch]))
            for (key, _), values in zip(batch, computed, strict=True):
                found[key] = values
                if self._cache:
                    self._cache.write(key, values)
        return np.array([found[key] for key in keys], np.float32).reshape(len(keys), *shape)

    def _cached(self, key: str, shape: tuple[int, ...]) -> np.ndarray | None:
        return self._cache.read(key, shape) if self._cache else None

    def _run(self, tokens: Int[np.ndarray, "n L"]) -> Float[np.ndarray, "n L text_dim"]:
        """One pass. Rows are filled up to 1, 2, 4 or 8, so that few shapes are compiled."""
        params = self._weights.get()
        with sharding.use_mesh(self._mesh):
            return run_filled(lambda rows: self._apply(params, rows), tokens, power_of_two(len(tokens)))


def load_text_encoder(
    folder: str | os.PathLike,
    length: int,
    id_tokens: int,
    *,
    mesh: jax.sharding.Mesh | None = None,
    dtype: str = "bfloat16",
    cache: str | os.PathLike | None = None,
) -> T5TextEncoder:
    """The text encoder of a folder that `python -m mmjax.convert text-encoder` wrote. No weights are read yet.

    Args:
      length: tokens of a prompt, padding included (`model.transformer.text_length`).
      id_tokens: repetitions of the class word for each reference (`model.adapter.id_tokens`).
      mesh: devices that share the weights; by default the first device has them all.
      dtype: of weights and matrix products, "bfloat16" or "float32".
      cache: folder for embeddings, one file for each prompt (3.7 MB at 226 x 4096); none by default.

    Raises:
      CheckpointError: a folder that is missing, incomplete, not a text encoder's, or whose tokenizer does not fit.
      ConversionError: no tokenizer in the folder.
      ConfigError: a dtype or package that is not there.
    """
    folder = Path(folder)
    if dtype not in ("bfloat16", "float32"):
        why = ": T5's residual stream overflows in float16" if dtype == "float16" else ""
        raise ConfigError(f"dtype of the text encoder = {dtype!r}: expected bfloat16 or float32{why}")
    record = conversion.read_record(folder, "text-encoder")
    tokenizer = load_tokenizer(folder / "tokenizer")
    if wrong := problem(tokenizer, record.vocabulary):
        raise CheckpointError(f"{folder / 'tokenizer'}: {wrong}. Convert again, with this model's tokenizer")
    weights, pieces = hash_converted(folder, "text-encoder"), hash_files(tokenizer_files(folder / "tokenizer"))
    return T5TextEncoder(
        folder,
        tokenizer,
        fingerprint(T5, weights=weights, tokenizer=pieces, length=length, id_tokens=id_tokens, dtype=dtype),
        length=length,
        id_tokens=id_tokens,
        mesh=mesh or sharding.make_mesh(c.Mesh(), jax.local_devices()[:1]),
        dtype=dtype,
        cache=None if cache is None else EmbeddingCache(Path(cache)),
    )


def _read_weights(folder: Path, record: sizes.T5, mesh: jax.sharding.Mesh, dtype: str) -> Tree:
    shardings = sharding.param_shardings(mesh, abstract_t5(record))
    return conversion.load_component(folder, shardings, dtype)[1]
