"""Chance that follows from names, so that the same input gives the same draws in any order and on any machine."""

import hashlib

import numpy as np
from jaxtyping import UInt64


def hash_of(name: str) -> int:
    """64 evenly spread bits that follow from a name, file names that are no Unicode included."""
    return int.from_bytes(hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest(), "big")


def mixed(values: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """Spreads 64 bits evenly: the finaliser of SplitMix64 (S. Vigna)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
