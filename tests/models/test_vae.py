"""The autoencoder against diffusers' `AutoencoderKLCogVideoX`: random weights through the converter, float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the test extra: pip install -e '.[test]'")

from mmjax import config as c  # noqa: E402
from mmjax import sharding  # noqa: E402
from mmjax.models.cogvideox import vae, vae_layers  # noqa: E402
from mmjax.precision import Policy  # noqa: E402
from tests.helpers import vae_reference as reference  # noqa: E402

CASES = [
    pytest.param(frames, size, marks=pytest.mark.slow if frames > 17 else ())
    for size in ((16, 24), (32, 16))
    for frames in (1, 9, 17, 49)
]
TRUE_SIZE = dict(block_out_channels=(128, 256, 256, 512), latent_channels=16, layers_per_block=3, norm_num_groups=32)
BAR = 1e-4  # the bar; measured 2e-6 and less


@pytest.fixture(scope="module")
def tiny():
    model = reference.torch_vae()
    return model, *reference.ours(model)


@pytest.fixture(scope="module")
def shallow():
    return reference.ours(reference.torch_vae(**reference.SHALLOW))


@pytest.fixture(scope="module")
def published():
    model = reference.torch_vae(**TRUE_SIZE)
    return model, *reference.ours(model)


def latent_shape(record, frames, size):
    unit = record.spatial_compression
    return (
        1,
        (frames - 1) // record.temporal_compression + 1,
        size[0] // unit,
        size[1] // unit,
        record.latent_channels,
    )


encode, decode = (jax.jit(f, **reference.QUICK) for f in (vae.encode, vae.decode))


def run_encode(record, params, video, policy=Policy()):  # noqa: B008
    return encode(record, params["encoder"], video, policy)


def run_decode(record, params, latents, policy=Policy()):  # noqa: B008
    return decode(record, params["decoder"], latents, policy)


def relative(found, expected):
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def compare_encode(model, record, params, frames, size, batch=1):
    video = np.clip(0.5 * reference.drawn((batch, frames, *size, 3)), -1, 1)
    with torch.no_grad():
        posterior = model.encode(reference.to_torch(video)).latent_dist
    mean, logvar = run_encode(record, params, video)
    assert mean.dtype == logvar.dtype == jnp.float32
    return [relative(o, reference.from_torch(t)) for o, t in ((mean, posterior.mean), (logvar, posterior.logvar))]


def compare_decode(model, record, params, frames, size, batch=1):
    latents = reference.drawn((batch, *latent_shape(record, frames, size)[1:]))
    with torch.no_grad():
        expected = reference.from_torch(model.decode(reference.to_torch(latents)).sample)
    assert expected.shape[1] == frames
    return relative(run_decode(record, params, latents), expected)


@pytest.mark.parametrize("frames,size", CASES)
def test_encoder_equals_diffusers(tiny, frames, size):
    errors = compare_encode(*tiny, frames, size)
    print(f"{frames}x{size[0]}x{size[1]}: max abs error / max abs: mean {errors[0]:.1e}, log variance {errors[1]:.1e}")
    assert max(errors) <= BAR


@pytest.mark.parametrize("frames,size", CASES)
def test_decoder_equals_diffusers(tiny, frames, size):
    error = compare_decode(*tiny, frames, size)
    print(f"{frames}x{size[0]}x{size[1]}: max abs error / max abs = {error:.1e}")
    assert error <= BAR


@pytest.mark.slow
@pytest.mark.parametrize("settings", [reference.SHALLOW | dict(layers_per_block=2), dict(temporal_compression_ratio=8)])
def test_other_settings_equal_diffusers(settings):
    """Two resnets a level, other temporal compressions, two videos at once, an even number of latent frames."""
    model = reference.torch_vae(2, **settings)
    record, params = reference.ours(model)
    assert max(compare_encode(model, record, params, 9, (8, 8), batch=2)) <= BAR
    latents = reference.drawn((2, 4, 1, 1, record.latent_channels))
    with torch.no_grad():
        expected = reference.from_torch(model.decode(reference.to_torch(latents)).sample)
    assert relative(run_decode(record, params, latents), expected) <= BAR


@pytest.mark.slow
@pytest.mark.parametrize("frames", [1, 9])
def test_published_widths_equal_diffusers(published, frames):
    errors = compare_encode(*published, frames, (16, 8))
    error = compare_decode(*published, frames, (16, 8))
    print(f"published widths, {frames}x16x8: mean {errors[0]:.1e}, log variance {errors[1]:.1e}, video {error:.1e}")
    assert max(*errors, error) <= BAR


def test_the_first_frame_does_not_depend_on_the_rest(shallow):
    """Causal in time, but for the group norms: latents of a later group do not change an earlier one's frames."""
    record, params = shallow
    latents = reference.drawn((1, 5, 8, 8, record.latent_channels))
    changed = np.concatenate([latents[:, :3], -latents[:, 3:]], axis=1)
    one, other = (run_decode(record, params, each) for each in (latents, changed))
    np.testing.assert_array_equal(one[:, :5], other[:, :5])
    assert np.abs(one[:, 5:] - other[:, 5:]).max() > 0.1


@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_a_longer_video_is_not_a_longer_program(shallow, half):
    """Groups after the first are one scan: 17 and 81 frames trace as many operations, twice those of a group."""
    record, params = shallow

    def operations(frames):
        shape = (1, frames, 16, 16, 3) if half == "encoder" else latent_shape(record, frames, (16, 16))
        run = {"encoder": vae.encode, "decoder": vae.decode}[half]
        traced = jax.make_jaxpr(lambda p, x: run(record, p, x, Policy()))(params[half], np.zeros(shape, np.float32))
        return str(traced).count("conv_general_dilated[")

    assert operations(17) == operations(81) == 2 * operations(1)


def test_bfloat16_is_near_float32(shallow):
    """Weights and convolutions in bfloat16, norms in float32: the picture differs by rounding."""
    record, params = shallow
    latents = reference.drawn(latent_shape(record, 9, (16, 24)))
    exact, rounded = (np.asarray(run_decode(record, params, latents, Policy(d))) for d in ("float32", "bfloat16"))
    error = float(np.sqrt(np.mean((exact - rounded) ** 2)) / exact.std())
    print(f"bfloat16: root mean square error / standard deviation = {error:.1e}")
    assert rounded.dtype == np.float32
    assert 0 < error < 0.03


@pytest.mark.slow
def test_gradients_pass_the_decoder_in_bfloat16(shallow):
    """The identity loss reaches the latents through the decoder (METHOD 4): uphill the slope is what it should be."""
    record, params = shallow
    latents = reference.drawn((1, 5, 8, 8, record.latent_channels))
    target = reference.drawn((1, 9, 16, 16, 3), seed=2)

    def loss(z, run, policy):
        return jnp.mean(jnp.square(run(record, params["decoder"], z, policy) - target))

    options = dict(static_argnums=(1, 2), compiler_options=reference.QUICK["compiler_options"])
    gradient = np.asarray(jax.jit(jax.grad(loss), **options)(latents, vae.decode, Policy("bfloat16")))
    slope = float(np.linalg.norm(gradient))
    above, below = (float(loss(latents + sign * 0.05 * gradient / slope, decode, Policy())) for sign in (1, -1))
    true = (above - below) / 0.1
    print(f"slope of the loss: {slope:.4f} by the gradient in bfloat16, {true:.4f} by differences in float32")
    assert abs(slope - true) <= 0.02 * true


@pytest.mark.parametrize("inputs,outputs", [(4, 6), (12, 3)], ids=["taps of the input", "taps of the output"])
def test_causal_convolution_is_torchs(inputs, outputs):
    """Both ways of laying out the taps against a 3-D convolution."""
    frames, kernel = reference.drawn((2, 5, 6, 4, inputs)), reference.drawn((3, 3, 3, inputs, outputs), seed=2)
    theirs = torch.from_numpy(np.ascontiguousarray(kernel.transpose(4, 3, 0, 1, 2)))
    expected = torch.nn.functional.conv3d(reference.to_torch(frames), theirs, padding=(0, 1, 1))
    found = vae_layers.causal_conv(jnp.asarray(frames), jnp.asarray(kernel), Policy(), jnp.float32)
    assert relative(found, reference.from_torch(expected)) <= 1e-6


MESHES = {"context 8": c.Mesh(data=1, context=8), "data 2 x tensor 2 x context 2": c.Mesh(data=2, tensor=2, context=2)}


@pytest.mark.slow
@pytest.mark.parametrize("name", MESHES)
def test_eight_devices_equal_one(shallow, name):
    """The height is spread over the mesh, 9 rows of latents unevenly; lines at the borders are exchanged."""
    record, params = shallow
    size, batch = (72, 16), 2
    latents = reference.drawn((batch, *latent_shape(record, 9, size)[1:]))
    video = np.clip(0.5 * reference.drawn((batch, 9, *size, 3)), -1, 1)
    expected = run_decode(record, params, latents), run_encode(record, params, video)[0]
    mesh = sharding.make_mesh(MESHES[name], jax.devices())
    with sharding.use_mesh(mesh):
        params = jax.device_put(params, sharding.replicated(mesh))
        placed = jax.device_put((latents, video), sharding.batch_sharding(mesh, batch))
        decode = jax.jit(lambda p, z: vae.decode(record, p, z, Policy())).lower(params["decoder"], placed[0]).compile()
        found = decode(params["decoder"], placed[0]), run_encode(record, params, placed[1])[0]
    assert "collective-permute" in decode.as_text()
    errors = [relative(one, other) for one, other in zip(found, expected, strict=True)]
    print(f"{name}: video {errors[0]:.1e}, latents {errors[1]:.1e}")
    assert max(errors) <= 1e-5
