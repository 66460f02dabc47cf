"""A trained VAE as others will use it: the posterior's mean, decoded to uint8, on one device; records in batches.

What is compiled here is compiled once in a run for each shape, whoever asks: `latent_scale` and `reconstructions`.
"""

import contextlib
import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from mmjax import config as c
from mmjax import media, sharding
from mmjax.encoders.vae import to_uint8
from mmjax.model_settings import VAE
from mmjax.models.cogvideox import vae as network
from mmjax.precision import Policy
from mmjax.records.schema import Record
from mmjax.records.sources import RecordFolders, open_source
from mmjax.trees import Tree


@contextlib.contextmanager
def on_one_device(params: Tree) -> Iterator[Tree]:
    """A copy of the parameters on this process's first device, and that device as the mesh meanwhile."""
    mesh = sharding.make_mesh(c.Mesh(), jax.local_devices()[:1])
    with sharding.use_mesh(mesh):
        yield jax.device_put(jax.device_get(params), sharding.replicated(mesh))


def spread_records(sources: RecordFolders, index: int, split: str, count: int) -> list[Record]:
    """The latents, which are pixels, of `count` records of a source, or all where there are fewer, spread evenly."""
    records = open_source(sources, index, split, ("latents",))
    return [records[number] for number in media.spread(count, len(records))]


def encode(vae: VAE, precision: c.Precision, encoder: Tree, records: Sequence[Record], size: int) -> Iterator:
    """Of `size` records at a time (their latents, which are pixels; the posterior's mean [b, t, h, w, z], float32)."""
    policy = Policy(precision.encode, precision.float32_products)
    for first in range(0, len(records), size):
        pixels = np.stack([record["latents"] for record in records[first : first + size]])
        filled = np.concatenate([pixels, *[pixels[-1:]] * (size - len(pixels))])  # one shape, compiled once
        yield pixels, np.asarray(_encode(vae, policy, encoder, filled))[: len(pixels)]


def decode(
    vae: VAE, precision: c.Precision, decoder: Tree, latents: Float[np.ndarray, "b t h w z"], size: int
) -> UInt8[np.ndarray, "b F H W 3"]:
    """The videos of up to `size` latents, clipped."""
    policy = Policy(precision.decode, precision.float32_products)
    filled = np.concatenate([latents, *[latents[-1:]] * (size - len(latents))])
    return np.asarray(_decode(vae, policy, decoder, filled))[: len(latents)]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _encode(vae: VAE, policy: Policy, encoder: Tree, pixels: Float[Array, "b F H W 3"]) -> Float[Array, "b t h w z"]:
    return network.encode(vae, encoder, pixels.astype(jnp.float32), policy)[0]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _decode(vae: VAE, policy: Policy, decoder: Tree, latents: Float[Array, "b t h w z"]) -> UInt8[Array, "b F H W 3"]:
    return to_uint8(network.decode(vae, decoder, latents, policy))
