"""The parts of a model as programs on shapes: what `mmjax.bench` times and `mmjax.bench_plan` compiles alone.

Shapes carry the shardings of a mesh whose devices need not be here. Build the parts before that mesh is set
(`sharding.use_mesh`): a random key or a schedule is an array, and JAX would make it on the mesh.
"""

import jax
import jax.numpy as jnp
import numpy as np

from mmjax import config as c
from mmjax import model_settings, sharding, trees
from mmjax.conversion.t5 import abstract_t5
from mmjax.conversion.vae import abstract_vae
from mmjax.encoders.arcface import load_arcface
from mmjax.faces.packs import find_pack
from mmjax.models import build, sizes
from mmjax.models.t5 import T5Encoder
from mmjax.precision import make_policy
from mmjax.records import schema
from mmjax.training import optimizer
from mmjax.training import state as states
from mmjax.training import step as steps
from mmjax.training.objectives.judges import Judges, make_terms
from mmjax.training.tasks.diffusion import DiffusionTask, make_objective

PROMPTS = 2  # that the text encoder sees at once: the prompt and the negative prompt


def sample_latents(config: c.Experiment) -> tuple[int, ...]:
    """One sample's latents at the size of the longest source, in whole temporal patches."""
    shape = config.autoencoder.latent_shape(max(config.data.frames), config.data.height, config.data.width)
    return (config.model.transformer.whole_frames(shape[0]), *shape[1:])


def placed(boxed: trees.Tree, mesh: jax.sharding.Mesh, dtype: jnp.dtype) -> trees.Tree:
    """Boxed shapes as shapes with shardings, in `dtype`."""
    shardings, shapes = sharding.param_shardings(mesh, boxed), sharding.unbox(boxed)
    place = lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=sharding)  # noqa: E731
    return jax.tree.map(place, shapes, shardings)


def abstract_batch(config: c.Experiment, size: int, mesh: jax.sharding.Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """A training batch of the longest source, as shapes on the mesh."""
    fields, latents = DiffusionTask(config).fields(max(config.data.frames)), sample_latents(config)
    shapes = {name: field.shape for name, field in fields.items()} | {"latents": latents, "face_mask": latents[:3]}
    spread = sharding.batch_sharding(mesh, size)
    return {
        name: jax.ShapeDtypeStruct((size, *shape), fields[name].dtype, sharding=spread)
        for name, shape in shapes.items()
    }


def denoiser_params(config: c.Experiment, mesh: jax.sharding.Mesh) -> build.Params:
    """The model's parameters as shapes; those of the blocks in host memory where they are streamed from there."""
    abstract = build.abstract_params(config, mesh)
    if not config.runtime.stream:
        return abstract
    shardings = sharding.in_host_memory(jax.tree.map(lambda leaf: leaf.sharding, abstract), build.STREAMED)
    place = lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)  # noqa: E731
    return jax.tree.map(place, abstract, shardings)


def text_encoder(config: c.Experiment, mesh: jax.sharding.Mesh):
    """(T5 jitted, its parameters and its tokens as shapes): the prompt and the negative prompt."""
    record, dtype = sizes.T5(), jnp.dtype(config.precision.compute)
    network = T5Encoder(record, make_policy(config.precision, config.runtime))
    tokens = jax.ShapeDtypeStruct(
        (PROMPTS, config.model.transformer.text_length), jnp.int32, sharding=sharding.batch_sharding(mesh, PROMPTS)
    )
    function = jax.jit(lambda params, tokens: network.apply({"params": params}, tokens))
    return function, placed(abstract_t5(record), mesh, dtype), tokens


def training_step(config: c.Experiment, mesh: jax.sharding.Mesh, judging: Judges | None = None):
    """(the jitted step of (state, judges, batch), its state as shapes with shardings)."""
    tx = optimizer.make_optimizer(config.optim, config.train.steps)
    abstract, text = states.abstract_state(DiffusionTask(config), tx, mesh), schema.record_fields(config, 1)["text"]
    unconditional = np.zeros(text.shape, np.float32)
    objective = make_objective(config, build.make_model(config), unconditional, make_terms(config, judging))
    step = steps.make_train_step(config, objective, tx, states.random_keys(config.seed).train)
    return steps.jit_train_step(step, abstract), abstract


def abstract_judges(config: c.Experiment, mesh: jax.sharding.Mesh) -> Judges | None:
    """The judge that `loss.identity` names with the VAE's decoder, their weights as shapes; None where none is asked.

    Raises `CheckpointError` where the recogniser's file is not there.
    """
    if not config.loss.identity.weight:
        return None
    network, everywhere = load_arcface(find_pack(config.loss.identity.judge)), sharding.replicated(mesh)
    params, record = {"recogniser": jax.eval_shape(lambda: network.params)}, None
    if config.autoencoder.name == "cogvideox":
        record = model_settings.VAE()
        params["decoder"] = placed(abstract_vae(record), mesh, jnp.dtype(config.precision.decode))["decoder"]
    place = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere)  # noqa: E731
    return Judges(network.graph, record, jax.tree.map(place, params))
