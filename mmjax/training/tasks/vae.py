"""The CogVideoX VAE as what is trained (METHOD 9): both of its networks, on records whose latents are pixels."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from mmjax import conversion, precision, sharding, trees
from mmjax.conversion.vae import abstract_vae
from mmjax.errors import CheckpointError, ConfigError
from mmjax.models.build import Params
from mmjax.models.cogvideox import vae as network
from mmjax.models.magicmirror.inputs import BFLOAT16, Field
from mmjax.precision import Policy
from mmjax.records.sources import RecordFolders
from mmjax.trainable import is_trainable
from mmjax.training import latent_scale
from mmjax.training.objectives import reconstruction
from mmjax.training.tasks.task import Batch, Objective
from mmjax.trees import Tree
from mmjax.vae_experiment import VAEExperiment


@dataclasses.dataclass(frozen=True)
class VAETask:
    """A `Task`: reconstruction of pixels from a sample of the posterior, and the posterior's KL."""

    config: VAEExperiment

    timesteps = 0
    takes_over = "train.vae takes a converted one over: python -m mmjax.convert vae --source RUN --output DIR"

    def check(self, resumes: bool) -> None:
        if self.config.train.vae and not resumes:
            self._check_start()

    def fields(self, frames: int) -> dict[str, Field]:
        data = self.config.data
        return {"latents": Field((frames, data.height, data.width, 3), BFLOAT16)}

    def abstract_params(self, mesh: jax.sharding.Mesh) -> Params:
        return abstract_params(self.config, mesh)

    def init(self, key: Key[Array, ""]):
        vae, side = self.config.vae, self.config.vae.spatial_compression
        of_encoder, of_decoder = jax.random.split(key)
        encoder, decoder = network.Encoder(vae, Policy()), network.Decoder(vae, Policy())
        return {
            "encoder": encoder.init(of_encoder, jnp.zeros((1, 1, side, side, 3)))["params"],
            "decoder": decoder.init(of_decoder, jnp.zeros((1, 1, 1, 1, vae.latent_channels)))["params"],
        }

    def check_start(self, mesh: jax.sharding.Mesh) -> None:
        frozen = [path for path in trees.flatten(self.abstract_params(mesh)) if not is_trainable(self.config, path)]
        if frozen and not self.config.train.vae:
            raise ConfigError(
                f"train.trainable = {self.config.train.trainable}: {len(frozen)} frozen parameters, such as "
                f"{frozen[0]}, come from nowhere and would stay random; name the folder of a converted VAE "
                "(train.vae), or train them too"
            )

    def load_start(self, mesh: jax.sharding.Mesh) -> Params:
        if not self.config.train.vae:
            return {}
        self._check_start()
        wanted = self.abstract_params(mesh)
        dtypes = jax.tree.map(lambda leaf: leaf.dtype, wanted)
        return conversion.load_component(self.config.train.vae, sharding.replicated(mesh), dtypes)[1]

    def objective(self, sources: RecordFolders, mesh: jax.sharding.Mesh) -> Objective:
        return make_objective(self.config)

    def operations(self, trained: Params, frozen: Params, latents: tuple[int, ...]) -> None:
        return None  # not counted

    def finish(self, params: Callable[[], Params], sources: RecordFolders, workdir: Path) -> str:
        scale = latent_scale.measure(self.config, params()["encoder"], sources)
        latent_scale.write(workdir, self.config.train.steps, scale)
        return (
            f"latents of training records have a standard deviation of {scale.std:.4f}, hence the scaling factor "
            f"{scale.factor:.4f}; python -m mmjax.convert vae --source {workdir} --output DIR makes the folder that "
            "autoencoder.weights takes"
        )

    def _check_start(self) -> None:
        """Refuses a folder that holds another component, or a VAE of other sizes (`CheckpointError`)."""
        found = conversion.read_record(self.config.train.vae, "vae")
        for name in ("latent_channels", "channels", "resnets", "norm_groups", "temporal_compression"):
            if getattr(found, name) != getattr(self.config.vae, name):
                raise CheckpointError(
                    f"train.vae = {self.config.train.vae}: expected a VAE of the experiment's sizes, found {name} = "
                    f"{getattr(found, name)}, not {getattr(self.config.vae, name)}; change vae.{name}"
                )


def abstract_params(config: VAEExperiment, mesh: jax.sharding.Mesh) -> Params:
    """{"encoder": ..., "decoder": ...} as `jax.ShapeDtypeStruct`s, whole on every device."""
    place = sharding.replicated(mesh)

    def described(path: str, leaf) -> jax.ShapeDtypeStruct:
        dtype = precision.storage_dtype(config.precision, path, is_trainable(config, path))
        return jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=place)

    leaves = trees.flatten(sharding.unbox(abstract_vae(config.vae)))
    return trees.unflatten({path: described(path, leaf) for path, leaf in leaves.items()})


def make_objective(config: VAEExperiment) -> Objective:
    """The posterior's noise is what is random: none in validation, which sees its mean."""
    vae, weights, remat = config.vae, config.loss, config.runtime.remat == "full"
    policy = Policy(config.precision.compute, config.precision.float32_products)

    def noise_shape(batch: Batch) -> tuple[int, ...]:
        size, frames, height, width, _ = batch["latents"].shape
        return size, *network.latent_shape(vae, frames, height, width)

    def draw(key, batch: Batch):
        return batch, jax.random.normal(key, noise_shape(batch), jnp.float32)

    def fixed_draws(key, numbers, total: int, batch: Batch):
        return batch, jnp.zeros(noise_shape(batch), jnp.float32)

    def loss(trained: Params, frozen: Params, judges: Tree, batch: Batch, noise: Float[Array, "b t h w z"]):
        params, video = trees.merge(trained, frozen), batch["latents"].astype(jnp.float32)
        mean, logvar = network.encode(vae, params["encoder"], video, policy, remat)
        latents = mean + jnp.exp(0.5 * logvar) * noise
        found = network.decode(vae, params["decoder"], latents, policy, remat)
        terms = {"l1": reconstruction.l1(found, video), "kl": reconstruction.kl(mean, logvar)}
        if weights.pyramid:
            terms["pyramid"] = reconstruction.pyramid(found, video)
        total = sum(getattr(weights, name) * values for name, values in terms.items())
        said = terms | {"psnr": reconstruction.psnr(found, video)}
        counts = dict.fromkeys(said, jnp.float32(len(video)))
        return total.mean(), {"sums": {name: values.sum() for name, values in said.items()}, "counts": counts}

    return Objective(draw, fixed_draws, loss)
