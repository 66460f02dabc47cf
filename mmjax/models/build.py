"""The model of an experiment, and its parameters as shapes: what every use of weights starts from.

Nothing here makes an array but `init`, which is traced: shapes, dtypes and shardings are known before weights are.
"""

import functools

import jax
import jax.numpy as jnp

from mmjax import config as c
from mmjax import precision, sharding, trees
from mmjax.models.magicmirror.inputs import condition_fields
from mmjax.models.magicmirror.model import MagicMirror
from mmjax.seeds import abstract_key
from mmjax.trainable import is_trainable

Params = trees.Tree
STREAMED = (r"transformer/blocks/.*",)  # what `runtime.stream` keeps in host memory, but for what is trained


def make_model(config: c.Experiment) -> MagicMirror:
    """The model of an experiment; it holds no arrays."""
    return MagicMirror(config.model, precision.make_policy(config.precision, config.runtime), config.runtime)


def abstract_params(config: c.Experiment, mesh: jax.sharding.Mesh) -> Params:
    """Shape, dtype by role, sharding and memory of every parameter, as `jax.ShapeDtypeStruct`s."""
    boxed = _boxed(config)
    shapes = trees.flatten(sharding.unbox(boxed))
    shardings = trees.flatten(sharding.param_shardings(mesh, boxed, config.runtime.fsdp_min_size))

    def described(path):
        trained = is_trainable(config, path)
        dtype = precision.storage_dtype(config.precision, path, trained)
        leaf = jax.ShapeDtypeStruct(shapes[path].shape, dtype, sharding=shardings[path])
        streamed = config.runtime.stream and not trained and trees.matches(STREAMED, path)
        return sharding.on_host(leaf) if streamed else leaf

    return trees.unflatten({path: described(path) for path in shapes})


@functools.lru_cache(maxsize=4)  # traced in a fourth of a second and more, and a run asks four times
def _boxed(config: c.Experiment):
    """Shapes of the parameters in their logical-axis boxes."""
    return jax.eval_shape(lambda key: init(config, key), abstract_key())


def init(config: c.Experiment, key):
    """Parameters in their logical-axis boxes, from the smallest batch: their shapes do not depend on it."""
    transformer = config.model.transformer
    fields = condition_fields(config.model, config.data.references)
    batch = {name: jnp.zeros((1, *field.shape), field.dtype) for name, field in fields.items()}
    side = transformer.patch
    latents = jnp.zeros((1, transformer.patch_t, side, side, transformer.latent_channels))
    return make_model(config).init(key, batch, latents, jnp.zeros(1, jnp.int32))["params"]
