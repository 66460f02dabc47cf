"""Encoding and decoding in tiles: against diffusers' tiled networks, and how far both are from the whole picture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the test extra: pip install -e '.[test]'")

from mmjax.errors import ConfigError  # noqa: E402
from mmjax.model_settings import VAE  # noqa: E402
from mmjax.models.cogvideox import vae, vae_tiling  # noqa: E402
from mmjax.precision import Policy  # noqa: E402
from tests.helpers import vae_reference as reference  # noqa: E402

encode, decode = (jax.jit(f, **reference.QUICK) for f in (vae.encode, vae.decode))

# Two levels: a tile is 24 x 20 pixels, 12 x 10 latents, and every 10 x 8 latents one begins.
SETTINGS = reference.SHALLOW | dict(sample_height=48, sample_width=40)
SIZES = {  # latent frames, height, width
    "smaller last tiles": (5, 15, 13),  # 12 + 5 by 10 + 5
    "one row, and the last tile but one is cut as well": (3, 8, 17),  # 8 by 10 + 9 + 1
}


@pytest.fixture(scope="module")
def tiled():
    model = reference.torch_vae(**SETTINGS)
    model.enable_tiling()
    return model, *reference.ours(model)


def relative(found, expected):
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def both(run, x, cuts, model):
    """(ours in tiles, torch's in tiles, ours whole)."""
    with torch.no_grad():
        expected = reference.from_torch(model(reference.to_torch(x)))
    return np.asarray(vae_tiling.in_tiles(run, x, cuts)), expected, np.asarray(run(x))


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_tiled_decoder_equals_diffusers(tiled, size):
    model, record, params = tiled
    latents = reference.drawn((1, *size, record.latent_channels))

    def run(tile):
        return decode(record, params["decoder"], tile, Policy())

    found, expected, whole = both(run, latents, vae_tiling.decoder_cuts(record), lambda z: model.decode(z).sample)
    error, seam = relative(found, expected), relative(found, whole)
    print(f"{size}: max abs error / max abs: {error:.1e} from torch in tiles, {seam:.1e} from the whole picture")
    assert error <= 1e-5
    assert seam > 1e-3  # tiles have norms of their own


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_tiled_encoder_equals_diffusers(tiled, size):
    model, record, params = tiled
    pixels = [side * record.spatial_compression for side in size[1:]]
    video = np.clip(0.5 * reference.drawn((1, 9 if size[0] > 3 else 1, *pixels, 3)), -1, 1)

    def run(tile):
        return encode(record, params["encoder"], tile, Policy())[0]

    def theirs(video):
        return model.encode(video).latent_dist.mean

    found, expected, whole = both(run, video, vae_tiling.encoder_cuts(record), theirs)
    error, seam = relative(found, expected), relative(found, whole)
    print(f"{size}: max abs error / max abs: {error:.1e} from torch in tiles, {seam:.1e} from the whole picture")
    assert error <= 1e-5
    assert seam > 1e-3


def test_a_picture_of_one_tile_is_not_cut(tiled):
    _, record, _ = tiled
    shapes = []
    vae_tiling.in_tiles(
        lambda x: shapes.append(x.shape) or x, np.zeros((1, 1, 12, 10, 1)), vae_tiling.decoder_cuts(record)
    )
    assert shapes == [(1, 1, 12, 10, 1)]


def test_tiles_of_the_published_sizes():
    """480 x 720 is 3 x 3 tiles of at most 30 x 45 latents; every output line belongs to one tile."""
    rows, columns = vae_tiling.decoder_cuts(VAE())
    assert (rows, columns) == (vae_tiling.Cut(30, 25, 40, 200), vae_tiling.Cut(45, 36, 72, 288))
    assert (list(rows.starts(60)), list(columns.starts(90))) == ([0, 25, 50], [0, 36, 72])
    rows, columns = vae_tiling.encoder_cuts(VAE())
    assert (rows, columns) == (vae_tiling.Cut(240, 200, 5, 25), vae_tiling.Cut(360, 288, 9, 36))


def test_blending_without_a_network_changes_nothing():
    """Where neighbours agree, as nearest-neighbour enlargement does, blending and cutting are invisible."""
    latents = reference.drawn((1, 2, 60, 90, 3))
    cuts = vae_tiling.decoder_cuts(VAE())

    def enlarge(x):
        return jnp.repeat(jnp.repeat(x, 8, axis=2), 8, axis=3)

    whole = enlarge(latents)
    tiles = jax.jit(lambda x: vae_tiling.in_tiles(enlarge, x, cuts))(latents)
    np.testing.assert_allclose(tiles, whole, atol=1e-6)
    halves = vae_tiling.in_tiles(enlarge, latents, cuts, finish=lambda part: part.astype(jnp.float16))
    assert halves.dtype == jnp.float16


def test_sizes_whose_tiles_do_not_fit_together_are_refused():
    with pytest.raises(ConfigError, match="sample_height = 100: tiles of half that size do not fit together"):
        vae_tiling.decoder_cuts(VAE(sample_height=100))
