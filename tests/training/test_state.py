"""The state: shapes before arrays, each leaf where it belongs, in its dtype."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import config as c
from mmjax import trees
from mmjax.conversion import store
from mmjax.errors import CheckpointError, TreeError
from mmjax.models import build
from mmjax.trainable import is_adapter
from mmjax.training import optimizer, state
from mmjax.training.tasks.registry import make_task
from mmjax.weights import start
from tests.helpers import tiny_run


@pytest.fixture(scope="module")
def made():
    """An adapter's state over eight devices."""
    config = tiny_run.experiment(adapter=True, mesh={"data": 1, "fsdp": 8})
    tx, mesh, created = tiny_run.fresh_state(config, 8)
    return config, tx, mesh, created


def test_a_created_state_is_what_was_described(made):
    config, tx, mesh, created = made
    abstract = state.abstract_state(make_task(config), tx, mesh)
    assert jax.tree.structure(abstract) == jax.tree.structure(created)

    def check(described, leaf):
        assert (leaf.shape, leaf.dtype, leaf.sharding) == (described.shape, described.dtype, described.sharding)

    jax.tree.map(check, abstract, created)


def test_moments_and_average_are_sharded_like_their_parameters(made):
    config, tx, mesh, created = made
    adam = next(s for s in jax.tree.leaves(created.opt_state, is_leaf=lambda s: hasattr(s, "mu")) if hasattr(s, "mu"))
    for path, leaf in trees.flatten(created.trained).items():
        for like in (adam.mu, adam.nu, created.ema):
            found = trees.flatten(like)[path]
            assert found.sharding == leaf.sharding and found.dtype == jnp.float32
    sharded = [leaf for leaf in jax.tree.leaves(created.trained) if not leaf.sharding.is_fully_replicated]
    assert trees.count({str(i): leaf for i, leaf in enumerate(sharded)}) > 0.8 * trees.count(created.trained)
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(created.trained))
    assert state.bytes_per_device(created.trained) < whole / 4


def frozen_dtype(path):
    """Kernels of products in `precision.frozen`; norms, biases and the time embedding stay float32."""
    return jnp.bfloat16 if path.endswith("/kernel") and "time_embed" not in path else jnp.float32


def test_dtypes_follow_the_role(made):
    _, _, _, created = made
    for path, leaf in trees.flatten(created.frozen).items():
        assert leaf.dtype == frozen_dtype(path), path
    assert {leaf.dtype for leaf in jax.tree.leaves(created.trained)} == {jnp.dtype("float32")}
    assert set(trees.flatten(created.trained)) == {path for path in trees.flatten(created.params()) if is_adapter(path)}


def test_the_average_starts_equal_but_shares_no_memory(made):
    """The step donates both; one buffer cannot be given away twice."""
    _, _, _, created = made
    tiny_run.assert_bit_equal(created.ema, created.trained)

    def pointers(tree):
        shards = [shard for leaf in jax.tree.leaves(tree) for shard in leaf.addressable_shards]
        return {shard.data.unsafe_buffer_pointer() for shard in shards}

    assert not pointers(created.ema) & pointers(created.trained)


@pytest.mark.slow
def test_random_weights_do_not_depend_on_the_mesh(made):
    config, _, _, created = made
    alone = tiny_run.fresh_state(dataclasses.replace(config, mesh=c.Mesh()), 1)[2]
    tiny_run.assert_bit_equal(alone, created)


def test_without_an_average_there_is_none():
    config = tiny_run.experiment(train={"ema_decay": 0.0})
    tx, mesh = optimizer.make_optimizer(config.optim, 1), tiny_run.mesh_of(config)
    assert state.abstract_state(make_task(config), tx, mesh).ema is None


def test_a_pattern_that_matches_nothing_is_refused():
    config = tiny_run.experiment(train={"trainable": ("transformer/blocks/adaptor/.*",)})
    with pytest.raises(TreeError, match="adaptor.*matches no parameter"):
        state.abstract_state(make_task(config), optimizer.make_optimizer(config.optim, 1), tiny_run.mesh_of(config))


def converted_base(folder, transformer, leaf=lambda path, shape: np.full(shape, 0.5, np.float32)):
    """A folder as `mmjax.convert` writes it."""
    config = tiny_run.experiment(model={"transformer": transformer})
    tree = trees.flatten(build.abstract_params(config, tiny_run.mesh_of(config))["transformer"])

    def promise(path, shape):
        return store.PromisedLeaf(shape, np.dtype(np.float32), lambda: leaf(path, shape))

    promised = {path: promise(path, described.shape) for path, described in tree.items()}
    folder.mkdir()
    store.write_params(folder, promised, written=lambda size: None)
    manifest = {"component": "transformer", "config": dataclasses.asdict(transformer)}
    files = [path for path in (folder / store.PARAMS).rglob("*") if path.is_file()]
    store.write_manifest(folder, manifest | {"leaves": store.describe(promised)}, files)
    return str(folder)


@pytest.mark.slow
def test_a_converted_base_is_loaded_and_only_the_rest_is_drawn(tmp_path):
    base = converted_base(tmp_path / "base", tiny_run.TRANSFORMER)
    config = tiny_run.experiment(adapter=True, train={"base": base}, mesh={"data": 1, "fsdp": 4})
    mesh = tiny_run.mesh_of(config, 4)
    abstract = build.abstract_params(config, mesh)
    loaded = start.load_start(config, abstract)
    created = state.create_state(make_task(config), optimizer.make_optimizer(config.optim, 1), mesh, loaded)
    for path, array in trees.flatten(created.params()).items():
        described = trees.flatten(abstract)[path]
        if is_adapter(path):
            assert array.dtype == jnp.float32
        else:
            assert array.dtype == frozen_dtype(path) and np.all(np.asarray(array, np.float32) == 0.5)
        assert array.sharding == described.sharding
    assert np.std(created.trained["face_encoder"]["face_perceiver"]["queries"]) > 0.1


def test_a_base_of_another_model_is_refused(tmp_path):
    base = converted_base(tmp_path / "base", dataclasses.replace(tiny_run.TRANSFORMER, position="sincos"))
    config = tiny_run.experiment(adapter=True, train={"base": base})
    with pytest.raises(CheckpointError, match="position: the weights have sincos, the experiment rope"):
        start.load_start(config, build.abstract_params(config, tiny_run.mesh_of(config)))


def test_each_use_of_chance_has_its_own_key_and_all_depend_on_the_seed():
    keys = {tuple(np.asarray(jax.random.key_data(key))) for seed in (0, 1) for key in state.random_keys(seed)}
    assert len(keys) == 2 * len(state.RandomKeys._fields)


def test_the_average_is_taken_where_there_is_one_and_it_is_asked_for():
    made = state.TrainState(None, {"a": {"b": 1}}, {"a": {"c": 2}}, None, ema={"a": {"b": jnp.asarray(3)}})
    assert made.params() == {"a": {"b": 3, "c": 2}}
    assert made.params(ema=False) == made.replace(ema=None).params() == {"a": {"b": 1, "c": 2}}
