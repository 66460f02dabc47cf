"""The denoising loss, its random draws, and its split by timestep for telemetry (METHOD 4).

The loss is the mean squared error of the velocity. With `v^` the prediction and x0^, noise^ what it stands for
(`schedule.predict_x0`; `sigma x_t + signal v^`), the three errors are one and the same up to the schedule's weight:

    |v^ - v|^2  =  |noise^ - noise|^2 / abar  =  |x0^ - x0|^2 / (1 - abar)

because `noise^ - noise = signal (v^ - v)` and `x0^ - x0 = -sigma (v^ - v)`. So this is the noise loss of section 3.4,
weighted by 1 / abar = 1 + 1 / SNR. It is written in v because the other two are not computable where it matters: the
noise form is 0 / 0 at the last timestep, whose SNR is zero, and the x0 form subtracts near-equal latents at small t
and multiplies the rounding error by up to 1 / (1 - abar), more than 1000 for 5B.
"""

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from mmjax import config
from mmjax.diffusion.conditioning_dropout import draw_kept_conditions

_FRAME = 4  # the keys before it are those of `split`


@flax.struct.dataclass
class Draws:
    """What chance decides for a batch of training samples."""

    timesteps: Int[Array, " B"]  # int32, uniform over 0 .. N - 1
    noise: Float[Array, " B *dims"]  # standard normal, float32
    face_region: Bool[Array, " B"]  # the sample's loss counts its face alone
    keep_text: Bool[Array, " B"]  # False: the sample trains with the empty prompt
    keep_identity: Bool[Array, " B"]  # False: the sample trains without its identity
    frame: Float[Array, " B"]  # 0 .. 1: which of the frames that may be judged is


def draw(key: Key[Array, ""], shape: tuple[int, ...], train_steps: int, settings: config.Loss) -> Draws:
    """All random decisions of one training batch.

    Args:
      key: of this step (and micro-batch); it is not used elsewhere.
      shape: of the latents, (B, T, H, W, C).
      train_steps: timesteps N of the schedule.
      settings: probabilities of the face restriction and of conditioning dropout.
    """
    for_time, for_noise, for_face, for_drop = jax.random.split(key, 4)
    batch = shape[0]
    keep_text, keep_identity = draw_kept_conditions(for_drop, batch, settings)
    return Draws(
        timesteps=jax.random.randint(for_time, (batch,), 0, train_steps),
        noise=jax.random.normal(for_noise, shape),
        face_region=jax.random.bernoulli(for_face, settings.face_region_probability, (batch,)),
        keep_text=keep_text,
        keep_identity=keep_identity,
        frame=jax.random.uniform(jax.random.fold_in(key, _FRAME), (batch,)),
    )


def fixed_draws(
    key: Key[Array, ""], numbers: Int[Array, " B"], total: int, shape: tuple[int, ...], train_steps: int
) -> Draws:
    """Draws for the validation loss: the same at every evaluation, so that its curve shows the model alone.

    Sample i of `total` takes the centre of the i-th of `total` equal strata of the timesteps, so that together
    they cover the schedule evenly, and noise that depends on `key` and i alone. Nothing is dropped and the loss
    counts the whole latents.

    Args:
      key: fixed for a run.
      numbers: i of each sample, 0 .. total - 1.
      total: samples in the whole validation set.
      shape: of the latents, (B, T, H, W, C).
      train_steps: timesteps N of the schedule.
    """
    numbers = jnp.asarray(numbers)
    keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)
    always = jnp.ones(shape[:1], bool)
    return Draws(
        timesteps=(2 * numbers + 1) * train_steps // (2 * total),
        noise=jax.vmap(lambda key: jax.random.normal(key, shape[1:]))(keys),
        face_region=~always,
        keep_text=always,
        keep_identity=always,
        frame=jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, _FRAME)))(keys),
    )


def denoising_loss(
    v: Float[Array, "B T H W C"],
    target: Float[Array, "B T H W C"],
    face_mask: Float[Array, "B T H W"],
    face_region: Bool[Array, " B"],
) -> Float[Array, " B"]:
    """Mean squared error of the velocity for each sample; the batch's loss is its mean.

    For the samples in `face_region` the mean is weighted by the face mask (METHOD 4: a random 50 % of samples) and
    divided by the mask's sum, so that a small face counts as much as a large one. A sample whose mask is empty
    counts whole.

    Args:
      v: predicted velocity, float32.
      target: `schedule.velocity` of the sample, float32.
      face_mask: share of each latent pixel that is face, 0 .. 1.
      face_region: which samples count their face alone.

    Returns:
      One loss a sample, in units of the latents squared.
    """
    masked = counts_face_alone(face_mask, face_region)
    weight = jnp.where(masked[:, None, None, None], face_mask, 1.0)
    error = jnp.mean(jnp.square(v - target), axis=-1)
    return jnp.sum(weight * error, axis=(1, 2, 3)) / jnp.sum(weight, axis=(1, 2, 3))


def counts_face_alone(face_mask: Float[Array, "B T H W"], face_region: Bool[Array, " B"]) -> Bool[Array, " B"]:
    """Which samples of `face_region` have a face to count."""
    return face_region & jnp.any(face_mask > 0, axis=(1, 2, 3))


def bucket_losses(
    losses: Float[Array, " B"],
    timesteps: Int[Array, " B"],
    train_steps: int,
    buckets: int = 10,
    counted: Bool[Array, " B"] | None = None,
) -> tuple[Float[Array, " K"], Float[Array, " K"]]:
    """Sums and counts of the losses by timestep, in K = `buckets` equal ranges of 0 .. N - 1, least noisy first.

    Sums and counts add up over micro-batches, devices and steps; a bucket's mean is their quotient, wherever the
    count is not zero. Timesteps differ so much in difficulty that the plain mean hides what a model has learned.
    Samples that are not `counted` are left out.
    """
    bucket = timesteps * buckets // train_steps
    weight = jnp.ones_like(losses) if counted is None else counted.astype(losses.dtype)
    sums = jax.ops.segment_sum(jnp.where(weight > 0, losses, 0), bucket, num_segments=buckets)
    return sums, jax.ops.segment_sum(weight, bucket, num_segments=buckets)
