"""Placeholder encoders: text and face encoders for small experiments, named for what they are.

They fill the interface that T5, CLIP and ArcFace fill. None of them was trained and none understands anything:

- `WordTable` gives each word a random vector of its own.
- `DrawnFaceEncoder` reads the identity vector that a labelled picture carries (`mmjax.encoders.labels`).
- `PixelFaceEncoder` projects the picture's pixels; it can tell pictures apart, not people.

NumPy only: data workers import this.
"""

import dataclasses
import functools
import hashlib
import math
import re
from collections.abc import Sequence
from typing import Self

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from mmjax import pictures
from mmjax.config import Experiment
from mmjax.encoders.fingerprints import fingerprint
from mmjax.encoders.interface import FaceFeatures, reference_side
from mmjax.encoders.labels import IDENTITY_DIM, read_label
from mmjax.encoders.prompts import TRIGGER, check_length, check_text, expand_trigger
from mmjax.errors import ConfigError, DataError
from mmjax.media import Picture

_WORDS = re.compile(r"\w+|[^\w\s]")
_PATCH = 8  # pixels a side of the patches that the seeded projections see
_NOISE = 0.03  # of a labelled picture's q_id, so that two pictures of one person do not give the same vector


@dataclasses.dataclass(frozen=True)
class WordTable:
    """A `TextEncoder`: each word has a vector of independent N(0, 1) numbers, fixed by the seed and the word.

    Words are lower-cased; punctuation marks are words. There is no grammar and no nearness of meaning: a model
    trained on it knows the words that it has seen.
    """

    length: int
    width: int
    id_tokens: int
    seed: int = 0

    @classmethod
    def of(cls, config: Experiment) -> "WordTable":
        """The one of an experiment's sizes and seed."""
        text, adapter = config.model.transformer, config.model.adapter
        return cls(text.text_length, text.text_dim, adapter.id_tokens, config.encoders.seed)

    @property
    def fingerprint(self) -> str:
        sizes = {"length": self.length, "width": self.width, "id_tokens": self.id_tokens}
        return fingerprint("word_table/1", **sizes, seed=self.seed)

    def encode(
        self, prompts: Sequence[str], references: int
    ) -> tuple[Float[np.ndarray, "n L text_dim"], Bool[np.ndarray, "n L"]]:
        """Embeddings of prompts with class word and trigger, and m of eq. 5. Raises `PromptError`."""
        expanded = [expand_trigger(prompt, tokenize_words, references, self.id_tokens) for prompt in prompts]
        text = np.stack([self._embed(p, tokens) for p, (tokens, _) in zip(prompts, expanded, strict=True)])
        mask = np.stack([np.pad(m, (0, self.length - len(m))) for _, m in expanded])
        return text, mask

    def encode_plain(self, prompts: Sequence[str]) -> Float[np.ndarray, "n L text_dim"]:
        """Embeddings of prompts that name nobody; "" gives the unconditional prompt. Raises `PromptError` if too long.

        A trigger is dropped, so that the same sentence can be had without identity.
        """
        words = [[word for word in tokenize_words(prompt) if word != TRIGGER] for prompt in prompts]
        return np.stack([self._embed(prompt, tokens) for prompt, tokens in zip(prompts, words, strict=True)])

    def warnings(self, prompts: Sequence[str]) -> list[str]:
        """Nothing: every word has its vector, and which of them a model was trained with is not known here."""
        return []

    def free(self) -> None:
        """There are no weights to let go of."""

    def _embed(self, prompt, tokens):
        check_text(prompt)
        check_length(prompt, tokens, self.length)
        padded = list(tokens) + [""] * (self.length - len(tokens))
        return np.stack([_word_vector(word, self.width, self.seed) for word in padded])


def tokenize_words(text: str) -> list[str]:
    """Lower-case words and punctuation marks."""
    return _WORDS.findall(text.lower())


class SeededPatches:
    """Patch features: square patches through two fixed random projections, each with a fixed random place vector.

    Token 0 is the mean of the others, where CLIP has its class token.
    """

    kind: str
    inputs = _PATCH * _PATCH * 3  # numbers of a patch

    def __init__(self, id_dim: int, tokens: int, width: int, side: int, seed: int):
        self.grid = math.isqrt(tokens - 1)
        if self.grid < 1 or self.grid**2 != tokens - 1:
            near = max(1, round(math.sqrt(max(tokens - 1, 1))))
            raise ConfigError(
                f"model.adapter.clip_tokens = {tokens}: expected 1 + n*n for the {self.kind} face encoder (a class "
                f"token and a square of patches), nearest {near * near + 1}"
            )
        self.id_dim, self.tokens, self.width, self.side, self.seed = id_dim, tokens, width, side, seed
        rng = np.random.default_rng([seed, 1])
        self._project = rng.normal(0, 1.5 / math.sqrt(self.inputs), (2, self.inputs, width)).astype(np.float32)
        self._place = rng.normal(0, 0.7, (2, self.grid**2, width)).astype(np.float32)

    @classmethod
    def of(cls, config: Experiment) -> Self:
        """The one of an experiment's sizes and seed. Raises `ConfigError` for sizes it cannot have."""
        adapter, side = config.model.adapter, reference_side(config)
        return cls(adapter.id_dim, adapter.clip_tokens, adapter.clip_dim, side, config.encoders.seed)

    @property
    def fingerprint(self) -> str:
        sizes = {"id_dim": self.id_dim, "tokens": self.tokens, "width": self.width, "side": self.side}
        return fingerprint(f"{self.kind}/1", **sizes, seed=self.seed)

    def patch_features(self, pictures: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "2 n tokens clip_dim"]:
        """[0] for the ID perceiver, [1] for the face perceiver."""
        return self.of_values(_resize(pictures, self.grid * _PATCH).astype(np.float32) / 127.5 - 1)

    def of_values(self, values: Float[np.ndarray, "n h w c"]) -> Float[np.ndarray, "2 n tokens clip_dim"]:
        """The same of pictures that are numbers round zero already, cut into `grid` x `grid` patches."""
        count, height, width, channels = values.shape
        patches = values.reshape(count, self.grid, height // self.grid, self.grid, width // self.grid, channels)
        patches = patches.transpose(0, 1, 3, 2, 4, 5).reshape(count, self.grid**2, self.inputs)
        features = np.einsum("npi,kiw->knpw", patches, self._project) + self._place[:, None]
        return np.concatenate([features.mean(2, keepdims=True), features], 2)

    def warnings(self, pictures: Sequence[Picture]) -> list[str]:
        """Nothing is to be said of pictures that can serve. Raises `DataError`, which names all that cannot."""
        refused = []
        for picture in pictures:
            try:
                self._load(picture)
            except DataError as error:
                refused.append(str(error))
        if refused:
            raise DataError.of_several(refused, len(pictures))
        return []

    def free(self) -> None:
        """There are no weights to let go of."""

    def _load(self, picture: Picture) -> Image.Image:
        """The picture as RGB, its middle square, `side` pixels a side; text chunks stay with it."""
        opened = picture if isinstance(picture, Image.Image) else pictures.read_picture(picture)
        info, rgb = opened.info, opened.convert("RGB")
        short = min(rgb.size)
        left, top = (rgb.width - short) // 2, (rgb.height - short) // 2
        square = rgb.crop((left, top, left + short, top + short))
        if short != self.side:
            square = square.resize((self.side, self.side), Image.Resampling.BICUBIC)
        square.info = dict(info)
        return square


class DrawnFaceEncoder(SeededPatches):
    """For drawn people: q_id is the picture's label with a little noise, padded with zeros to `id_dim`.

    It stands where a face recogniser will stand, and plays one: the identity vector is read from the picture's text
    chunk, not recognised. The noise is fixed by the picture's pixels.
    """

    kind = "drawn"

    def __init__(self, id_dim: int, tokens: int, width: int, side: int, seed: int):
        super().__init__(id_dim, tokens, width, side, seed)
        if id_dim < IDENTITY_DIM:
            raise ConfigError(
                f"model.adapter.id_dim = {id_dim}: expected at least {IDENTITY_DIM}, the traits of a drawn person, "
                "with encoders.face = drawn"
            )

    def _load(self, picture: Picture) -> Image.Image:
        image = super()._load(picture)
        read_label(image, _name(picture))  # so that `warnings` finds a picture without one
        return image

    def encode(self, pictures: Sequence[Picture]) -> FaceFeatures:
        """Features of labelled pictures (`mmjax.encoders.labels`): files, or pictures in memory.

        Raises:
          DataError: a picture that is missing, no picture, or not labelled.
        """
        opened = [self._load(picture) for picture in pictures]
        named = [(image, _name(picture)) for image, picture in zip(opened, pictures, strict=True)]
        identities = np.stack([read_label(image, name) for image, name in named])
        pixels = np.stack([np.asarray(image) for image in opened])
        noise = np.stack([_noise(picture, IDENTITY_DIM, self.seed) for picture in pixels])
        embedding = np.pad(identities + _NOISE * noise, ((0, 0), (0, self.id_dim - IDENTITY_DIM)))
        return FaceFeatures(embedding.astype(np.float32), *self.patch_features(pixels), picture=pixels)


class PixelFaceEncoder(SeededPatches):
    """For real clips without a face model: q_id is a fixed random projection of the picture, 16 x 16 pixels.

    Not a recogniser: two pictures of one person may lie further apart than two people before the same wall. Good for
    overfitting one clip; for anything more a face model is needed.
    """

    kind = "pixels"

    def encode(self, pictures: Sequence[Picture]) -> FaceFeatures:
        """Features of any pictures. Raises `DataError` for one that is missing or no picture."""
        pixels = np.stack([np.asarray(self._load(picture)) for picture in pictures])
        small = _resize(pixels, 16).reshape(len(pixels), -1).astype(np.float32) / 127.5 - 1
        rng = np.random.default_rng([self.seed, 2])
        project = rng.normal(0, 1 / math.sqrt(small.shape[1]), (small.shape[1], self.id_dim))
        embedding = (small @ project).astype(np.float32)
        return FaceFeatures(embedding, *self.patch_features(pixels), picture=pixels)


class ArcFacePatches(SeededPatches):
    """In the place of CLIP beside a real recogniser; see `mmjax.encoders.photographs.ArcFaceEncoder`."""

    kind = "arcface_patches"


@functools.lru_cache(maxsize=65536)
def _word_vector(word: str, width: int, seed: int) -> np.ndarray:
    """Python's own hash changes from run to run, so the generator is seeded by SHA-256."""
    digest = hashlib.sha256(f"{seed}:{word}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little")).normal(size=width).astype(np.float32)


def _noise(picture: np.ndarray, width: int, seed: int) -> np.ndarray:
    digest = hashlib.sha256(np.ascontiguousarray(picture)).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "little")]).normal(size=width)


def _resize(pictures: np.ndarray, side: int) -> np.ndarray:
    if pictures.shape[1:3] == (side, side):
        return pictures
    resized = [Image.fromarray(p).resize((side, side), Image.Resampling.BICUBIC) for p in pictures]
    return np.stack([np.asarray(image) for image in resized])


def _name(picture: Picture) -> str:
    return "a picture in memory" if isinstance(picture, Image.Image) else str(picture)
