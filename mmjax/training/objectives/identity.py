"""The identity loss: `1 - cos` between a recogniser's embedding of a predicted frame and the person's (METHOD 4).

Of each sample one frame is judged, among those whose landmarks are valid. x0^ is cut round the face, decoded up to that
frame (`vae.decode_frame`), warped to the recogniser's crop by the true landmarks, embedded. Samples whose x0^ means
little (t of `timesteps` or more), whose identity was dropped, or that show no face have no part in it and cost nothing.

The loss of a sample is a number and its gradient as large as x0^. Both are computed together in the forward pass, one
sample after the other (or a few at once, which then all cost the same), and the backward pass only scales the gradient:
nothing of the decoder is kept meanwhile.

Decoding small pictures costs far more than a small model's step does. With `samples` only so many are judged on a
device, the first that count, and each stands for as many as were left out: batches are shuffled and timesteps drawn, so
the expected gradient is the same.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mmjax import config as c
from mmjax import sharding
from mmjax.faces.template import TEMPLATE
from mmjax.model_settings import VAE
from mmjax.models.arcface import graph as arcface
from mmjax.models.arcface.alignment import align, aligned_square
from mmjax.models.cogvideox import vae
from mmjax.precision import Policy
from mmjax.training.objectives.terms import Judged, Prediction
from mmjax.trees import Tree


class _Sample(NamedTuple):
    """What of a sample is judged; all but x0 is given."""

    x0: Float[Array, "T H W C"]
    truth: Float[Array, "T H W C"]
    embeddings: Float[Array, "R width"]
    landmarks: Float[Array, "5 2"]
    frame: Int[Array, ""]
    counts: Bool[Array, ""]


@dataclasses.dataclass(frozen=True)
class Identity:
    """The term. Its judges are {"recogniser": ..., "decoder": ...}, the decoder where there is a `vae`.

    Args:
      autoencoder: how latents and frames belong together.
      graph: of the recogniser.
      vae: None for latents that are pixels.
      policy: of the decoder.
    """

    settings: c.IdentityLoss
    autoencoder: c.Autoencoder
    graph: arcface.OnnxGraph
    vae: VAE | None = None
    policy: Policy = Policy()
    name: str = "identity"

    @property
    def weight(self) -> float:
        return self.settings.weight

    def __call__(self, prediction: Prediction, judges: Tree) -> Judged:
        batch, draws = prediction.batch, prediction.draws
        seen = self._judged_frames(batch["landmarks"], batch["face_visible"], prediction.v.shape)
        frame = choose_frame(seen, batch["landmarks"], draws.frame, self.settings.frame)
        counts = seen.any(axis=1) & draws.keep_identity & (draws.timesteps < self.settings.timesteps)
        judged = _first(counts, self.settings.samples)
        # an extra latent frame in front, of whole temporal patches, stands for no picture
        own = 1 + (batch["landmarks"].shape[1] - 1) // self.autoencoder.temporal
        landmarks = jnp.take_along_axis(batch["landmarks"], frame[:, None, None, None], axis=1)[:, 0]
        samples = _Sample(
            prediction.x0[:, -own:],
            batch["latents"][:, -own:].astype(jnp.float32),
            batch["id_embedding"],
            jnp.where(counts[:, None, None], landmarks, jnp.asarray(TEMPLATE)),
            frame,
            judged,
        )
        cosines = _cosines(self, judges, samples)
        each_for = counts.sum() / jnp.maximum(judged.sum(), 1) if self.settings.samples else 1.0
        return Judged(1 - cosines, judged, {"identity_cosine": cosines}, each_for)

    def cosine(self, judges: Tree, sample: _Sample, later: bool) -> Float[Array, ""]:
        """Of the predicted face's embedding and the person's; `later` as `vae.decode_frame` has it."""
        found = self._embedding(judges, sample.x0, sample, later)
        if self.settings.target == "frame":
            person = _unit(self._embedding(judges, sample.truth, sample, later))
        else:
            person = _unit(sample.embeddings).mean(0)
        return _unit(found) @ jax.lax.stop_gradient(_unit(person))

    def by_group(self, sample: _Sample, of: Callable[[bool], Tree]) -> Tree:
        """`of(later)` of where the sample's frame lies, zeros for a sample that does not count."""
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(lambda: of(False)))
        first = len(sample.x0) if self.vae is None else vae.first_frames(self.vae, len(sample.x0))
        last = self.autoencoder.temporal * (len(sample.x0) - 1)  # frame
        branches = [lambda: nothing, lambda: of(False), *([lambda: of(True)] if first <= last else [])]
        return jax.lax.switch(sample.counts * (1 + (sample.frame >= first)), branches)

    def _embedding(
        self, judges: Tree, latents: Float[Array, "T H W C"], sample: _Sample, later: bool
    ) -> Float[Array, " width"]:
        latents, corner = self._crop(latents, sample.landmarks)
        if self.vae is None:
            picture = latents[sample.frame]
        else:
            scaled = latents / self.vae.scaling_factor
            picture = vae.decode_frame(self.vae, judges["decoder"], scaled, sample.frame, later, self.policy)
        pixels = 127.5 * (picture + 1)  # not clipped: what is too bright still has a gradient
        aligned = align(pixels, sample.landmarks - corner, self.graph.side)
        return arcface.apply(self.graph, judges["recogniser"], aligned[None])[0]

    def _crop(self, latents: Float[Array, "T H W C"], landmarks: Float[Array, "5 2"]):
        """(latents round the face, x and y of their corner in pixels)."""
        side, unit = self.settings.crop, self.autoencoder.spatial
        if not side:
            return latents, jnp.zeros(2)
        sizes = [min(side, size) for size in latents.shape[1:3]]
        centre = aligned_square(landmarks)[0][::-1] / unit  # row, column
        corner = [
            jnp.clip(jnp.round(middle - size / 2).astype(jnp.int32), 0, whole - size)
            for middle, size, whole in zip(centre, sizes, latents.shape[1:3], strict=True)
        ]
        cut = jax.lax.dynamic_slice(latents, (0, *corner, 0), (len(latents), *sizes, latents.shape[-1]))
        return cut, jnp.stack(corner[::-1]).astype(jnp.float32) * unit

    def _judged_frames(self, landmarks, visible, shape) -> Bool[Array, "B F"]:
        """Frames that show a face which the crop can hold."""
        side = self.settings.crop
        if not side or side >= max(shape[2:4]):
            return visible
        safe = jnp.where(visible[..., None, None], landmarks, jnp.asarray(TEMPLATE))
        return visible & (aligned_square(safe)[1] <= side * self.autoencoder.spatial)


def choose_frame(
    visible: Bool[Array, "B F"], landmarks: Float[Array, "B F 5 2"], uniform: Float[Array, " B"], how: str
) -> Int[Array, " B"]:
    """One of the frames that are visible, for each sample; frame 0 where none is.

    Args:
      uniform: 0 .. 1, decides for "random".
      how: "random", "first", or "largest", whose landmarks lie widest apart.
    """
    if how == "first":
        return jnp.argmax(visible, axis=1)
    if how == "largest":
        spread = jnp.var(landmarks.astype(jnp.float32), axis=2).sum(-1)
        return jnp.argmax(jnp.where(visible, spread, -1.0), axis=1)
    rank = jnp.floor(uniform * visible.sum(1)).astype(jnp.int32)
    return jnp.argmax(jnp.cumsum(visible, axis=1) > rank[:, None], axis=1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _cosines(term: Identity, judges: Tree, samples: _Sample) -> Float[Array, " B"]:
    """The cosine of each sample, 0 for those that do not count; differentiable in x0."""

    def one(judges, sample):
        return term.by_group(sample, lambda later: term.cosine(judges, sample, later))

    return _by_sample(term, one, judges, samples)


def _cosines_and_gradients(term: Identity, judges: Tree, samples: _Sample):
    def one(judges, sample):
        cosine = lambda x0, later: term.cosine(judges, sample._replace(x0=x0), later)  # noqa: E731
        return term.by_group(sample, lambda later: jax.value_and_grad(cosine)(sample.x0, later))

    return _by_sample(term, one, judges, samples)


def _scaled_gradients(term: Identity, gradients: Float[Array, "B T H W C"], cotangent: Float[Array, " B"]):
    return None, _Sample(cotangent[:, None, None, None, None] * gradients, *(None,) * (len(_Sample._fields) - 1))


_cosines.defvjp(_cosines_and_gradients, _scaled_gradients)


def _first(counts: Bool[Array, " B"], most: int) -> Bool[Array, " B"]:
    """Of the samples that count, the first `most` on each device; 0: all."""
    if not most:
        return counts
    return sharding.on_own_samples(lambda _, own: own & (jnp.cumsum(own) <= most), (), counts)


def _by_sample(term: Identity, function, judges: Tree, samples: _Sample):
    """`function(judges, sample)` for `at_once` samples after the other, on the device that has them.

    With `samples` no more than so many are looked at, those that count among them; the others' results are zeros.
    """

    def over_all(judges, own):
        at_once = min(term.settings.at_once, len(own.counts))
        return jax.lax.map(lambda sample: function(judges, sample), own, batch_size=at_once if at_once > 1 else None)

    def over_some(judges, own):
        chosen = jnp.argsort(~own.counts, stable=True)[: term.settings.samples]

        def among_all(leaf):
            return jnp.zeros((len(own.counts), *leaf.shape[1:]), leaf.dtype).at[chosen].set(leaf)

        return jax.tree.map(among_all, over_all(judges, jax.tree.map(lambda leaf: leaf[chosen], own)))

    return sharding.on_own_samples(over_some if term.settings.samples else over_all, judges, samples)


def _unit(vectors: Float[Array, "*n width"]) -> Float[Array, "*n width"]:
    return vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)
