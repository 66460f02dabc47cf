"""Embeddings of faces as directions: cosines between them, and the mean of several pictures of a person. NumPy only."""

import numpy as np
from jaxtyping import Float


def cosine_similarity(a: Float[np.ndarray, "n width"], b: Float[np.ndarray, "m width"]) -> Float[np.ndarray, "n m"]:
    """Cosine of the angle between each row of `a` and each row of `b`; 0 where a row is zero."""
    return unit(a) @ unit(b).T


def unit(vectors: Float[np.ndarray, "... width"]) -> Float[np.ndarray, "... width"]:
    """Vectors of length one along the last axis; a zero vector stays zero."""
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def mean_embedding(embeddings: Float[np.ndarray, "frames width"]) -> Float[np.ndarray, " width"]:
    """The direction of a person or a clip: the mean of its frames' unit embeddings, of length one (METHOD 6)."""
    return unit(unit(embeddings).mean(axis=0))
