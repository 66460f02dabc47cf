"""The denoising loop of one experiment: a batch of prepared features becomes clean latents.

A step is compiled ahead of time, from shapes alone: `program` can be asked what it will hold before any weight is read,
and the same program then runs.
"""

import collections
import copy
import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mmjax import config as c
from mmjax import sharding
from mmjax.diffusion import guidance, samplers
from mmjax.diffusion.schedule import make_schedule
from mmjax.errors import DataError
from mmjax.models.build import Params, make_model
from mmjax.models.magicmirror.inputs import CONDITION_FIELDS
from mmjax.records import schema
from mmjax.sampling.latents import check_values
from mmjax.sampling.size import Size

Batch = dict[str, np.ndarray]  # fields of `mmjax.records.schema`, leading axis: samples
Progress = Callable[[int, int], None]  # (steps done, steps in all)
Glimpse = Callable[[jax.Array], None]  # latents [b, T, h, w, C]: x0^ as the step that is done has it

_KEPT = 8  # compiled steps, of which the one that was not used for the longest goes


class Denoiser:
    """The denoising loop of one experiment on one mesh, compiled once for each shape of its input."""

    def __init__(self, config: c.Experiment, mesh: jax.sharding.Mesh | None = None):
        self.config, self.mesh = config, mesh or sharding.make_mesh(config.mesh)
        self._steps = _steps_of(config)
        self._model = make_model(config)
        self._encode = jax.jit(self._encode_traced)
        self._programs: collections.OrderedDict = collections.OrderedDict()

    def with_sampling(self, sampling: c.Sampling) -> "Denoiser":
        """This one with other settings, which shares what is compiled."""
        made = copy.copy(self)
        made.config = dataclasses.replace(self.config, sampling=sampling)
        made._steps = _steps_of(made.config)
        return made

    def __call__(
        self,
        params: Params,
        batch: Batch,
        null_text: Float[np.ndarray, "*b L text_dim"],
        seeds: Sequence[int],
        size: Size,
        progress: Progress | None = None,
        noise: Float[np.ndarray, "b T h w C"] | None = None,
        glimpse: Glimpse | None = None,
    ) -> Float[np.ndarray, "b T h w C"]:
        """Clean latents, float32, of a batch of conditions. They are not checked to be finite.

        Args:
          params: the model's parameter tree.
          batch: `CONDITION_FIELDS`, and `keep_identity` [b] where some samples are to go without it.
          null_text: embedding of what to steer away from, one for all samples or one for each.
          seeds: one for each sample.
          size: of the videos, from `checked_size`.
          progress: called after each denoising step.
          noise: latents to start from, in place of those that the seeds give.
          glimpse: called after each step with what the clean latents will be like.

        Raises:
          DataError: starting noise of another shape, or of values that are none.
        """
        positive, negative = self._conditions(batch, np.asarray(null_text))
        keys = jnp.stack([samplers.sample_keys(seed, np.arange(1))[0] for seed in seeds])
        shape = self.latent_shape(size)
        first = shape[0] - self.config.autoencoder.latent_shape(*size)[0]  # frame of the video
        with sharding.use_mesh(self.mesh):
            positive, negative = (self._put(self._encode(params, self._put(half))) for half in (positive, negative))
            noise = samplers.starting_noise(keys, shape) if noise is None else self._checked(noise, len(keys), shape)
            state, keys = self._put(samplers.start(noise)), self._put(keys)
            advance = self._compiled(params, self._steps[0], state, positive, negative, keys)
            for done, step in enumerate(self._steps, 1):
                state = advance(params, step, state, positive, negative, keys)
                if progress:
                    jax.block_until_ready(state)
                    progress(done, len(self._steps))
                if glimpse:
                    glimpse(state.clean[:, first:])
            latents = jax.device_put(state.latents, sharding.replicated(self.mesh))
        return np.asarray(latents)[:, first:]

    def program(self, params: Params, size: Size, references: int, count: int = 1) -> jax.stages.Compiled:
        """The compiled step for `count` videos of a size, of `references` pictures each.

        `params` may be `jax.ShapeDtypeStruct`s with shardings; the arrays come when the step runs.
        """
        data = dataclasses.replace(self.config.data, references=max(references, 1))
        fields = schema.record_fields(dataclasses.replace(self.config, data=data), 1)
        batch = {name: np.zeros((count, *fields[name].shape), fields[name].dtype) for name in CONDITION_FIELDS}
        null_text = batch["text"][0]
        with sharding.use_mesh(self.mesh):
            keys = self._abstract(jax.eval_shape(lambda: samplers.sample_keys(0, np.arange(count))))
            noise = jax.ShapeDtypeStruct((count, *self.latent_shape(size)), jnp.float32)
            state = self._abstract(jax.eval_shape(samplers.start, noise))
            conditions = (
                self._abstract(jax.eval_shape(self._encode_traced, params, half))
                for half in self._conditions(batch, null_text)
            )
            return self._compiled(params, self._steps[0], state, *conditions, keys)

    def _compiled(self, *arguments):
        leaves, structure = jax.tree.flatten(arguments)
        has_pair = self.config.sampling.guidance != 1  # of all settings what the step's program depends on
        key = has_pair, structure, tuple((np.shape(leaf), str(leaf.dtype)) for leaf in leaves)
        if key not in self._programs:
            self._programs[key] = jax.jit(self._advance_traced).lower(*arguments).compile()
            while len(self._programs) > _KEPT:
                self._programs.popitem(last=False)
        self._programs.move_to_end(key)
        return self._programs[key]

    def _conditions(self, batch: Batch, null_text: np.ndarray) -> tuple[Batch, Batch]:
        """The batch as it is, and the same without its prompt and its identity (METHOD 2)."""
        positive = {name: np.asarray(batch[name]) for name in CONDITION_FIELDS}
        count = len(batch["text"])
        positive["keep_identity"] = np.asarray(batch.get("keep_identity", np.ones(count, bool)))
        if self.config.sampling.identity_scale != 1:
            positive["identity_scale"] = np.full(count, self.config.sampling.identity_scale, np.float32)
        nothing = {
            "text": np.broadcast_to(null_text, positive["text"].shape).astype(positive["text"].dtype),
            "class_mask": np.zeros_like(positive["class_mask"]),
            "keep_identity": np.zeros_like(positive["keep_identity"]),
        }
        if "identity_scale" in positive:
            nothing["identity_scale"] = np.ones(count, np.float32)
        return positive, positive | nothing

    def latent_shape(self, size: Size) -> tuple[int, int, int, int]:
        """(T, h, w, C) of what is denoised: whole temporal patches, of which 1.5 has more than a video fills."""
        shape = self.config.autoencoder.latent_shape(*size)
        return (self.config.model.transformer.whole_frames(shape[0]), *shape[1:])

    def _checked(self, noise: np.ndarray, count: int, shape: tuple[int, ...]) -> np.ndarray:
        if np.shape(noise) != (count, *shape):
            raise DataError(
                f"starting noise: expected {[count, *shape]} (videos, latent frames, height, width, channels), found "
                f"{list(np.shape(noise))}"
            )
        check_values(noise, "starting noise")
        return np.asarray(noise, np.float32)

    def _encode_traced(self, params, batch):
        return self._model.apply({"params": params}, batch, method="encode")

    def _advance_traced(self, params, step, state, positive, negative, keys):
        def predict(latents, timesteps, conditions):
            return self._model.apply({"params": params}, latents, timesteps, conditions, method="denoise")

        denoise = guidance.guided(predict, negative, positive, self.config.sampling)
        state = samplers.advance(denoise, step, state, samplers.keyed_noise(keys, state.latents.shape[1:]))
        return jax.lax.with_sharding_constraint(state, self._sharding(state))  # as the next step takes it

    def _put(self, tree):
        return jax.tree.map(functools.partial(sharding.put, place=self._sharding(tree)), tree)

    def _abstract(self, tree):
        spread = self._sharding(tree)
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=spread), tree)

    def _sharding(self, tree):
        return sharding.batch_sharding(self.mesh, len(jax.tree.leaves(tree)[0]))


def _steps_of(config: c.Experiment) -> list[samplers.StepTable]:
    table = samplers.make_step_table(make_schedule(config.schedule), config.sampling)
    return samplers.split_table(table, 1)
