"""The diffusion transformer and its MagicMirror adapter as what is trained (METHOD 4)."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
from flax import linen as nn
from jaxtyping import Array, Float, Key

from mmjax import config as c
from mmjax import trees
from mmjax.diffusion import loss as diffusion_loss
from mmjax.diffusion import schedule as noise_schedule
from mmjax.diffusion.conditioning_dropout import drop_conditions
from mmjax.models import build, flops
from mmjax.models.build import Params
from mmjax.models.cogvideox.patches import pad_frames
from mmjax.models.magicmirror.inputs import CONDITION_FIELDS, Field
from mmjax.records import schema
from mmjax.records.sources import Sources
from mmjax.training.objectives import judges
from mmjax.training.objectives.terms import DENOISING, Prediction, Term, objective
from mmjax.training.tasks.task import Batch, Objective
from mmjax.trees import Tree
from mmjax.weights import start


@dataclasses.dataclass(frozen=True)
class DiffusionTask:
    """A `Task`: the denoising loss, and with a judge the identity loss."""

    config: c.Experiment

    takes_over = "train.adapter takes over this one's adapter"

    @property
    def timesteps(self) -> int:
        return self.config.schedule.steps

    def check(self, resumes: bool) -> None:
        judges.check_judges(self.config)
        if not resumes:
            start.check_folders(self.config)

    def fields(self, frames: int) -> dict[str, Field]:
        fields = schema.record_fields(self.config, frames)
        conditions = CONDITION_FIELDS if self.config.model.adapter.enabled else ("text",)
        judged = ("landmarks", "face_visible", "id_embedding") if self.config.loss.identity.weight else ()
        read = {"latents", "face_mask", *conditions, *judged}
        return {name: field for name, field in fields.items() if name in read}

    def abstract_params(self, mesh: jax.sharding.Mesh) -> Params:
        return build.abstract_params(self.config, mesh)

    def init(self, key: Key[Array, ""]):
        return build.init(self.config, key)

    def check_start(self, mesh: jax.sharding.Mesh) -> None:
        start.check_frozen(self.config, self.abstract_params(mesh))

    def load_start(self, mesh: jax.sharding.Mesh) -> Params:
        return start.load_start(self.config, self.abstract_params(mesh))

    def objective(self, sources: Sources, mesh: jax.sharding.Mesh) -> Objective:
        judging = judges.load_judges(self.config, sources.encoders["face"], mesh)
        terms, weights = judges.make_terms(self.config, judging), judging.params if judging else {}
        return make_objective(
            self.config, build.make_model(self.config), sources.unconditional_text, terms, judges=weights
        )

    def operations(self, trained: Params, frozen: Params, latents: tuple[int, ...]) -> flops.Flops:
        return flops.sample_flops(self.config, trained, frozen, latents)

    def finish(self, params: Callable[[], Params], sources: Sources, workdir: Path) -> str:
        return f"make videos with python -m mmjax.sample --model {workdir}"


def make_objective(
    config: c.Experiment,
    model: nn.Module,
    unconditional_text: Float[Array, "L text_dim"],
    terms: Sequence[Term] = DENOISING,
    judges: Tree | None = None,
) -> Objective:
    """Noise, timesteps and dropped conditions are what is random; the loss is that of the terms.

    Args:
      unconditional_text: embedding of the empty prompt, in place of the text that is dropped.
      terms: of the objective, see `objectives.terms`; `judges` are the weights that they ask, none by default.
    """
    schedule, steps = noise_schedule.make_schedule(config.schedule), config.schedule.steps

    def draw(key, batch: Batch):
        batch = _whole_patches(config, batch)
        return batch, diffusion_loss.draw(key, batch["latents"].shape, steps, config.loss)

    def fixed_draws(key, numbers, total: int, batch: Batch):
        """Timesteps are stratified over the samples; no condition is dropped, and the loss counts whole latents."""
        batch = _whole_patches(config, batch)
        return batch, diffusion_loss.fixed_draws(key, numbers, total, batch["latents"].shape, steps)

    def loss(trained: Params, frozen: Params, judges: Tree, batch: Batch, draws: diffusion_loss.Draws):
        params, t = trees.merge(trained, frozen), draws.timesteps
        noisy = noise_schedule.add_noise(schedule, batch["latents"], draws.noise, t)
        target = noise_schedule.velocity(schedule, batch["latents"], draws.noise, t)
        kept = drop_conditions(batch, draws.keep_text, draws.keep_identity, unconditional_text)
        v = model.apply({"params": params}, kept, noisy, t)
        return objective(terms, Prediction(batch, draws, schedule, noisy, v, target), judges)

    return Objective(draw, fixed_draws, loss, judges or {})


def _whole_patches(config: c.Experiment, batch: Batch) -> Batch:
    """The batch with as many latent frames as temporal patches can hold."""
    padded = ("latents", "face_mask")
    return batch | {name: pad_frames(batch[name], config.model.transformer) for name in padded}
