"""The paper's own parts against a float64 reference, written from METHOD.md by somebody who had not read ours.

What diffusers and PhotoMaker have is tested against them; this is for what only the paper has: eq. 3 to 8, fusion,
composition, several references, identity scale, conditioning dropout, and what the unconditional half of the guidance
pair receives. All weights are drawn, so that nothing is hidden by a zero.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mmjax import config as c  # noqa: E402
from mmjax import sharding, trees  # noqa: E402
from mmjax.diffusion import loss as diffusion_loss  # noqa: E402
from mmjax.diffusion import schedule as noise_schedule  # noqa: E402
from mmjax.models.magicmirror.face_branch import Conditions  # noqa: E402
from mmjax.sampling.denoiser import Denoiser  # noqa: E402
from mmjax.trainable import split_adapter  # noqa: E402
from mmjax.training.tasks.diffusion import make_objective  # noqa: E402
from tests.helpers import magicmirror_reference as reference  # noqa: E402
from tests.helpers import tiny  # noqa: E402

OUTPUTS, GRADIENTS = 1e-5, 1e-4  # largest error over the largest value, of an array
ABLATIONS = {
    "full": {},
    "without CAN": {"can": False},
    "without face modulation": {"face_modulation": False},
    "without identity branch": {"identity_branch": False, "can": False},
    "without structural branch": {"structural_branch": False},
}
VARIANTS = {"rope": {}, "rope_slice": {"position": "rope_slice", "patch_t": 2}}
SAMPLE_SCALES = np.array([0.0, 0.7, 1.6], np.float32)


def case(ablation="full", references=2, variant="rope"):
    """(model, parameters, batch of three samples, latents, timesteps) of ours."""
    model = tiny.with_adapter(**ABLATIONS[ablation])
    model = dataclasses.replace(model, transformer=dataclasses.replace(model.transformer, **VARIANTS[variant]))
    batch = tiny.batch(model, size=3, references=references)
    batch["class_mask"] = np.stack([np.roll(row, shift) for shift, row in enumerate(batch["class_mask"])])
    return model, tiny.drawn(model, references), batch, *tiny.inputs(model, size=3, frames=4)


def sizes_of(model: c.Model) -> reference.Sizes:
    both = dataclasses.asdict(model.transformer) | dataclasses.asdict(model.adapter)
    return reference.Sizes(**{field.name: both[field.name] for field in dataclasses.fields(reference.Sizes)})


def in_torch(tree):
    """Arrays as float64 tensors; booleans and whole numbers stay what they are."""
    as_tensor = lambda x: torch.from_numpy(np.array(x, copy=True))  # noqa: E731
    return jax.tree.map(lambda x: as_tensor(x).double() if np.asarray(x).dtype.kind == "f" else as_tensor(x), tree)


def weights_of(params):
    return in_torch(trees.flatten(params))


def error(found, expected) -> float:
    expected = expected.detach().numpy()
    return float(np.abs(np.asarray(found, np.float64) - expected).max() / max(np.abs(expected).max(), 1e-12))


@pytest.mark.parametrize(
    "ablation,references,variant",
    [
        ("full", 2, "rope"),
        pytest.param("full", 1, "rope", marks=pytest.mark.slow),
        pytest.param("full", 2, "rope_slice", marks=pytest.mark.slow),
        *(pytest.param(name, 2, "rope", marks=pytest.mark.slow) for name in ABLATIONS if name != "full"),
    ],
)
def test_velocity_and_conditions(ablation, references, variant):
    model, params, batch, latents, timesteps = case(ablation, references, variant)
    keep = np.array([True, False, True])
    extras = {"keep_identity": keep, "identity_scale": SAMPLE_SCALES}
    module = tiny.make(model)
    conditions = jax.jit(lambda p, b: module.apply({"params": p}, b, method="encode"))(params, batch | extras)
    found = jax.jit(module.apply)({"params": params}, batch | extras, latents, timesteps)
    given = weights_of(params), sizes_of(model), in_torch(batch)
    text, faces, projected = reference.encode(*given, *in_torch((keep, SAMPLE_SCALES)))
    expected = reference.velocity(*given, *in_torch((latents, timesteps, keep, SAMPLE_SCALES)))
    errors = {"text": error(conditions.text, text), "v": error(found, expected)}
    errors |= {"faces": error(conditions.face, faces)} if faces is not None else {}
    errors |= {"CAN's condition": error(conditions.identity, projected)} if projected is not None else {}
    assert (conditions.face is None, conditions.identity is None) == (faces is None, projected is None)
    print(f"{ablation}, {references} references, {variant}: {', '.join(f'{n} {e:.1e}' for n, e in errors.items())}")
    assert max(errors.values()) < OUTPUTS


def test_the_base_alone():
    model, params, batch, latents, timesteps = case()
    module = tiny.make(model)
    conditions = Conditions(jnp.asarray(batch["text"]))
    found = jax.jit(lambda p: module.apply({"params": p}, latents, timesteps, conditions, method="denoise"))(params)
    given = in_torch((batch["text"], latents, timesteps))
    expected = reference.base_velocity(weights_of(params), sizes_of(model), *given)
    assert error(found, expected) < OUTPUTS


@pytest.mark.parametrize(
    "ablation", ["full", *(pytest.param(name, marks=pytest.mark.slow) for name in ABLATIONS if name != "full")]
)
def test_loss_and_gradients_under_conditioning_dropout(ablation):
    """Of every trained leaf: text dropped in one sample, identity in another, neither in the third."""
    model, params, batch, latents, timesteps = case(ablation)
    config = c.Experiment(model=model, autoencoder=c.Autoencoder("pixel"))
    rng = np.random.default_rng(5)
    null_text = rng.standard_normal(batch["text"].shape[1:]).astype(np.float32)
    mask = rng.uniform(0, 1, latents.shape[:4]).astype(np.float32) * (rng.uniform(0, 1, latents.shape[:4]) > 0.5)
    mask[2] = 0
    noise = rng.standard_normal(latents.shape).astype(np.float32)
    keep_text, keep_identity = np.array([False, True, True]), np.array([True, False, True])
    region = np.array([True, False, True])
    draws = diffusion_loss.Draws(timesteps, noise, region, keep_text, keep_identity, frame=np.zeros(3))
    trained, frozen = split_adapter(params)
    objective = make_objective(config, tiny.make(model), null_text)
    data = batch | {"latents": latents, "face_mask": mask}
    (loss, _), gradients = jax.jit(jax.value_and_grad(objective.loss, has_aux=True))(trained, frozen, {}, data, draws)

    schedule = noise_schedule.make_schedule(config.schedule)
    noisy = noise_schedule.add_noise(schedule, latents, noise, timesteps)
    target = noise_schedule.velocity(schedule, latents, noise, timesteps)
    given = in_torch((batch, noisy, target, mask))
    timesteps_, region_, keep_text_, keep_identity_, null_ = in_torch(
        (timesteps, region, keep_text, keep_identity, null_text)
    )

    def loss_of(weights, i):
        one = {name: value[i : i + 1] for name, value in given[0].items()}
        dropped = reference.drop_conditions(one, keep_text_[i : i + 1], keep_identity_[i : i + 1], null_)
        v = reference.velocity(
            weights, sizes_of(model), latents=given[1][i : i + 1], timesteps=timesteps_[i : i + 1], **dropped
        )
        return reference.training_loss(v, given[2][i : i + 1], given[3][i : i + 1], region_[i : i + 1])[0]

    weights = weights_of(params)
    with torch.no_grad():
        expected = torch.stack([loss_of(weights, i) for i in range(3)]).mean()
    assert abs(float(loss) - float(expected)) < OUTPUTS * abs(float(expected))
    wanted, found = reference.batch_gradient(loss_of, weights, range(3)), trees.flatten(gradients)
    assert set(wanted) == set(found)
    largest = max(float(g.abs().max()) for g in wanted.values())
    errors = {
        path: np.abs(np.asarray(found[path]) - wanted[path].numpy()).max()
        / max(float(wanted[path].abs().max()), 1e-6 * largest)
        for path in found
    }
    worst = max(errors, key=errors.get)
    print(
        f"{ablation}: {len(errors)} leaves, largest error {errors[worst]:.1e} of the leaf's largest gradient, {worst}"
    )
    assert errors[worst] < GRADIENTS


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1.0, 0.6])
def test_what_both_halves_of_the_guidance_pair_receive(scale):
    """One step from pure noise (abar = 0) lands on x0^ = -v: the guided velocity itself."""
    model, params, batch, latents, _ = case()
    model = dataclasses.replace(model, transformer=dataclasses.replace(model.transformer, latent_channels=3))
    params, latents = tiny.drawn(model, 2), latents[..., :3]
    sampling = c.Sampling("ddim", steps=1, guidance=2.0, dynamic_guidance=False, identity_scale=scale)
    config = c.Experiment(
        model=model,
        autoencoder=c.Autoencoder("pixel"),
        data=c.Data(references=2),
        sampling=sampling,
        schedule=c.Schedule(steps=200),  # where float32 still resolves the angles of the time embedding
        runtime=tiny.RUNTIME,
        precision=c.Precision(compute="float32"),
    )
    negative = np.random.default_rng(6).standard_normal(batch["text"].shape[1:]).astype(np.float32)
    mesh = sharding.make_mesh(c.Mesh(), jax.devices()[:1])
    frames, height, width = latents.shape[1:4]
    size = (frames, height, width)
    found = Denoiser(config, mesh)(params, batch, negative, [1, 2, 3], size, noise=latents)
    given = weights_of(params), sizes_of(model)
    halves = reference.guidance_pair(in_torch(batch), in_torch(negative), scale)
    at = {"latents": in_torch(latents), "timesteps": torch.full((3,), 199)}
    expected = -reference.guided(*(reference.velocity(*given, **half, **at) for half in halves), 2.0)
    print(f"identity scale {scale}: {error(found, expected):.1e}")
    assert error(found, expected) < OUTPUTS
