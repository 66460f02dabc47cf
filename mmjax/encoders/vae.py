"""The CogVideoX autoencoder: uint8 video to scaled latents and back.

    autoencoder = load_autoencoder("weights/vae")
    latents = autoencoder.encode(video)  # [13, 60, 90, 16] of uint8 [49, 480, 720, 3]
    video = autoencoder.decode(latents)

Latents are the posterior's mean, not a sample of it, times the scaling factor: a video has one encoding. Pixels cross
to the device and back as uint8. Weights rest in host memory; the half that is needed, encoder or decoder, comes to the
device at the first call and goes at `free`.
"""

import contextlib
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from mmjax import sharding
from mmjax.config import Precision
from mmjax.conversion import load_component, rounding
from mmjax.encoders.fingerprints import COGVIDEOX_VAE, fingerprint, hash_converted
from mmjax.encoders.lazy import LazyWeights
from mmjax.errors import DataError
from mmjax.model_settings import VAE
from mmjax.models.cogvideox import vae as network
from mmjax.models.cogvideox import vae_tiling
from mmjax.precision import Policy
from mmjax.trees import Tree
from mmjax.validation import off_grid
from mmjax.weights import shipped

HALVES = ("encoder", "decoder")
PRECISION = Precision()  # encodes in float32, decodes in bfloat16


class CogVideoXAutoencoder:
    """A `VideoAutoencoder`: the CogVideoX VAE on one device, or on a mesh.

    On a mesh a batch is spread over the axes `data` and `fsdp` where it divides among them, and the pictures' height
    over all axes that are left. The compiler exchanges the lines at the borders; weights are on every device.

    Args:
      record: sizes.
      params: {"encoder": ..., "decoder": ...}, as `load_component` gives it, in any dtype; shapes do for
        `decoder_program` and `encoder_program`.
      mesh: where to compute; without one, JAX's default device.
      precision: `encode` and `decode` are the dtypes of the two networks.
      tiling: compute pictures larger than half of `record.sample_height` x `sample_width` in tiles, for less memory.
        Each tile is normalized by itself, so that the numbers differ from those without tiling.
      weights: hash of what the parameters were made from, for `fingerprint`, which says which latents `encode` makes.
      stored: the dtype in which they were kept meanwhile, where that changed them.

    Raises `ConfigError` for a record whose sizes cannot be tiled.
    """

    def __init__(
        self,
        record: VAE,
        params: Tree,
        mesh: jax.sharding.Mesh | None = None,
        precision: Precision = PRECISION,
        tiling: bool = False,
        weights: str = "unnamed",
        stored: str = "",
    ):
        self.record, self.mesh, self.precision, self.tiling = record, mesh, precision, tiling
        self._cuts = (vae_tiling.encoder_cuts(record), vae_tiling.decoder_cuts(record)) if tiling else (None, None)
        self._at_rest: Tree = {half: jax.device_get(params[half]) for half in HALVES}
        place = mesh and sharding.replicated(mesh)
        self._halves = {
            half: LazyWeights(functools.partial(jax.device_put, self._at_rest[half], place)) for half in HALVES
        }
        more = ({"tiling": True} if tiling else {}) | ({"stored": stored} if stored else {})
        self.fingerprint = fingerprint(COGVIDEOX_VAE, weights=weights, encode=_encoding(precision), **more)
        self._encode = jax.jit(self._encode_traced)
        self._decode = jax.jit(self._decode_traced)
        self._to_uint8 = jax.jit(to_uint8)

    def encode(self, video: UInt8[np.ndarray, "*b F H W 3"]) -> Float[np.ndarray, "*b T h w C"]:
        """Scaled latents, float32, of 8k + 1 frames whose sides are multiples of 8; T = 2k + 1.

        The shape is that of the published models. Raises `DataError` for another one, or for other values than uint8.
        """
        video = np.asarray(video)
        self._check_video(video)
        params = self._halves["encoder"].get()
        latents = self._run(lambda tile: self._encode(params, tile), video, self._cuts[0], lambda part: part)
        return latents.reshape(*video.shape[:-4], *latents.shape[1:])

    def decode(self, latents: Float[np.ndarray, "*b T h w C"]) -> UInt8[np.ndarray, "*b F H W 3"]:
        """uint8 video of scaled latents with an odd number of frames; values outside -1..1 are clipped.

        Raises `DataError` for latents of another shape.
        """
        latents = np.asarray(latents, np.float32)
        self._check_latents(latents)
        params = self._halves["decoder"].get()
        video = self._run(lambda tile: self._decode(params, tile), latents, self._cuts[1], self._to_uint8)
        return video.reshape(*latents.shape[:-4], *video.shape[1:])

    def decoder_program(self, shape: tuple[int, ...]) -> jax.stages.Compiled:
        """The compiled decoder of latents [b, T, h, w, C], or of their largest tile; no weight is moved for it."""
        return self._program("decoder", self._decode, jnp.float32, shape)

    def encoder_program(self, shape: tuple[int, ...]) -> jax.stages.Compiled:
        """The compiled encoder of a video [b, F, H, W, 3], or of its largest tile; no weight is moved for it."""
        return self._program("encoder", self._encode, jnp.uint8, shape)

    def _program(self, half: str, function, dtype: jnp.dtype, shape: tuple[int, ...]) -> jax.stages.Compiled:
        if self.tiling:
            cuts = self._cuts[HALVES.index(half)]
            sides = (min(side, cut.tile) for side, cut in zip(shape[-3:-1], cuts, strict=True))
            shape = (*shape[:-3], *sides, shape[-1])
        everywhere = self.mesh and sharding.replicated(self.mesh)
        abstract = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere)  # noqa: E731
        spread = self.mesh and sharding.batch_sharding(self.mesh, shape[0])
        with contextlib.nullcontext() if self.mesh is None else sharding.use_mesh(self.mesh):
            x = jax.ShapeDtypeStruct(shape, dtype, sharding=spread)
            return function.lower(jax.tree.map(abstract, self._at_rest[half]), x).compile()

    def free(self) -> None:
        """Takes the weights off the device again; the next call brings back what it needs."""
        for half in self._halves.values():
            half.free()

    def _run(self, compute, x, cuts, finish) -> np.ndarray:
        """`compute` over a batch [*b, ...] of which only the last four axes matter, in tiles or whole."""
        x = x.reshape(-1, *x.shape[-4:])
        with contextlib.nullcontext() if self.mesh is None else sharding.use_mesh(self.mesh):
            x = jax.device_put(x, self.mesh and sharding.batch_sharding(self.mesh, len(x)))
            y = finish(compute(x)) if cuts is None else vae_tiling.in_tiles(compute, x, cuts, finish)
            return np.asarray(jax.device_put(y, self.mesh and sharding.replicated(self.mesh)))

    def _encode_traced(self, params, video):
        video = video.astype(jnp.float32) / 127.5 - 1
        mean, _ = network.encode(
            self.record, params, video, Policy(self.precision.encode, self.precision.float32_products)
        )
        return mean * self.record.scaling_factor

    def _decode_traced(self, params, latents):
        latents = latents / self.record.scaling_factor
        return network.decode(
            self.record, params, latents, Policy(self.precision.decode, self.precision.float32_products)
        )

    def _check_video(self, video: np.ndarray) -> None:
        unit = self.record.spatial_compression
        if video.dtype != np.uint8 or video.ndim < 4 or video.shape[-1] != 3 or 0 in video.shape:
            raise DataError(
                f"a video to encode: expected uint8 [..., frames, height, width, 3], found {video.dtype} "
                f"{list(video.shape)}"
            )
        frames, height, width, _ = video.shape[-4:]
        if near := off_grid(frames, network.FRAMES, 1):
            shorter = near.partition(" or ")[0]
            raise DataError(
                f"a video of {frames} frames cannot be encoded: expected 8k + 1, such as 9 or 17; cut it to {shorter}"
            )
        if height % unit or width % unit:
            raise DataError(
                f"a video of {height} x {width} pixels cannot be encoded: expected multiples of {unit}; cut or scale "
                f"it to {height // unit * unit} x {width // unit * unit}"
            )

    def _check_latents(self, latents: np.ndarray) -> None:
        channels = self.record.latent_channels
        fits = latents.ndim >= 4 and latents.shape[-1] == channels and 0 not in latents.shape
        if not fits or latents.shape[-4] % network.LATENT_FRAMES != 1:
            raise DataError(
                f"latents to decode: expected [..., frames, height, width, {channels}] with 1, 3, 5, ... frames, found "
                f"{list(latents.shape)}"
            )


def load_autoencoder(
    folder: str | Path,
    mesh: jax.sharding.Mesh | None = None,
    precision: Precision = PRECISION,
    tiling: bool = False,
) -> CogVideoXAutoencoder:
    """The autoencoder of a converted folder (`python -m mmjax.convert vae`), its weights in host memory.

    Args:
      folder: or the file of a shipped model's autoencoder (`mmjax.weights.shipped`).

    Raises `CheckpointError` for a folder that is incomplete or holds another component.
    """
    on_host, stored = jax.sharding.SingleDeviceSharding(_host()), ""
    if Path(folder).is_file():
        part = shipped.open_part(Path(folder), "vae")
        record, weights, stored = part.record.vae, part.record.vae_weights, part.record.dtypes["vae"]
        params = part.restored(on_host)
    else:
        weights = hash_converted(Path(folder), "vae")  # refuses another component before its weights are read
        record, params = load_component(folder, on_host)
    for half, setting in (("encoder", "encode"), ("decoder", "decode")):
        if getattr(precision, setting) == "bfloat16":
            loss = rounding.measure(jax.tree.leaves(params[half]))
            rounding.report(f"{folder}, {half}", loss, f"precision.{setting}")
    return CogVideoXAutoencoder(record, params, mesh, precision, tiling, weights, stored)


def to_uint8(video: Float[Array, "*b F H W 3"]) -> UInt8[Array, "*b F H W 3"]:
    """Values -1..1 as 0..255, rounded; what is outside is clipped."""
    return jnp.clip(jnp.round((video + 1) * 127.5), 0, 255).astype(jnp.uint8)


def _encoding(precision: Precision) -> str:
    """How latents are computed, for the fingerprint: `bfloat16`, or `float32:high` with what its products mean."""
    return precision.encode if precision.encode != "float32" else f"float32:{precision.float32_products}"


def _host() -> jax.Device:
    """The host as a device, or where JAX was told to leave it out, the first device: for a moment."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]
