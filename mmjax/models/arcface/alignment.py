"""The aligned crop that ArcFace networks take, inside a jitted step: differentiable in the picture.

The same warp as `mmjax.faces.detection.align`, whose pixels are rounded twice; without rounding it is the gradient's
way from an embedding back to the pixels of the face.
"""

import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float

from mmjax.faces.template import ALIGNED_SIDE, TEMPLATE


def align(
    picture: Float[Array, "h w c"], landmarks: Float[Array, "5 2"], side: int = ALIGNED_SIDE
) -> Float[Array, "side side c"]:
    """The face of a picture with eyes, nose and mouth where the template has them; bilinear, 0 outside the picture.

    Args:
      landmarks: left eye, right eye, nose tip, left and right corner of the mouth: x, y in pixels; not all in one
        point, or the result is NaN.
    """
    source, target, factor = _fit(landmarks, side)
    # The crop's pixels ask for the picture's, so it is the inverse that is applied.
    x, y = jnp.meshgrid(jnp.arange(side, dtype=jnp.float32), jnp.arange(side, dtype=jnp.float32))
    places = (x + 1j * y - target) / factor + source
    rows, columns = places.imag, places.real
    channels = [map_coordinates(picture[..., i], (rows, columns), order=1) for i in range(picture.shape[-1])]
    return jnp.stack(channels, axis=-1)


def aligned_square(landmarks: Float[Array, "*n 5 2"]) -> tuple[Float[Array, "*n 2"], Float[Array, "*n"]]:
    """The square of the picture that becomes the aligned crop: its centre (x, y) and its side, in pixels."""
    source, target, factor = _fit(landmarks, ALIGNED_SIDE)
    middle = ((ALIGNED_SIDE - 1) / 2) * (1 + 1j)
    centre = (middle - target) / factor + source
    return jnp.stack([centre.real, centre.imag], axis=-1), ALIGNED_SIDE / jnp.abs(factor)


def _fit(landmarks: Array, side: int) -> tuple[Array, Array, Array]:
    """(centre of the landmarks, centre of the template, the turn and scale between them), complex, of [*n 5 2].

    A turn and a scale are one complex number: in least squares (Umeyama, 1991) `factor * found` is nearest to `wanted`.
    """
    source = landmarks[..., 0].astype(jnp.float32) + 1j * landmarks[..., 1].astype(jnp.float32)
    template = jnp.asarray(TEMPLATE) * (side / ALIGNED_SIDE)
    target = template[..., 0] + 1j * template[..., 1]
    centre, target_centre = source.mean(-1), target.mean(-1)
    found, wanted = source - centre[..., None], target - target_centre
    factor = jnp.sum(found.conj() * wanted, axis=-1) / jnp.sum(found.conj() * found, axis=-1)
    return centre, target_centre, factor
