"""The adapter's promises (METHOD 3): a fresh one barely moves the base, everything in it learns, every switch works."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmjax import trees
from mmjax.models.magicmirror.face_branch import Conditions
from mmjax.trainable import split_adapter
from tests.helpers import tiny


def run(model, params, batch, latents, timesteps):
    return jax.jit(tiny.make(model).apply)({"params": params}, batch, latents, timesteps)


def run_base(model, params, text, latents, timesteps):
    denoise = jax.jit(lambda *args: tiny.make(model).apply({"params": args[0]}, *args[1:], method="denoise"))
    return denoise(params, latents, timesteps, Conditions(text))


def relative(found, expected):
    return float(jnp.abs(found - expected).max() / jnp.abs(expected).max())


@pytest.mark.slow
def test_fresh_adapter_without_face_tokens_is_the_base_bit_for_bit():
    model = tiny.with_adapter(structural_branch=False)
    params, batch, (latents, timesteps) = tiny.fresh(model), tiny.batch(model), tiny.inputs(model)
    with_identity = run(model, params, batch, latents, timesteps)
    np.testing.assert_array_equal(with_identity, run_base(model, params, batch["text"], latents, timesteps))


@pytest.mark.slow
def test_fresh_adapter_moves_the_base_by_the_softmax_share_of_its_keys_alone():
    params, batch, (latents, timesteps) = tiny.fresh(), tiny.batch(), tiny.inputs()
    base = run_base(tiny.MODEL, params, batch["text"], latents, timesteps)
    moved = relative(run(tiny.MODEL, params, batch, latents, timesteps), base)
    keys = tiny.ADAPTER.queries / (tiny.TRANSFORMER.text_length + 3 * 4 * 4 + tiny.ADAPTER.queries)
    print(f"fresh adapter moves the output by {moved:.3f} of its maximum; face keys are {keys:.3f} of all keys")
    assert 0 < moved < 4 * keys  # measured 2.8 times: two adapted blocks, large random weights
    with_can_off = tiny.with_adapter(can=False)
    kept = {path: leaf for path, leaf in trees.flatten(params).items() if "can" not in path}
    found = run(with_can_off, trees.unflatten(kept), batch, latents, timesteps)
    assert relative(run(tiny.MODEL, params, batch, latents, timesteps), found) < 1e-6  # CAN adds nothing yet


@pytest.mark.slow
def test_base_alone_never_reads_the_adapter():
    params, batch, (latents, timesteps) = tiny.fresh(), tiny.batch(), tiny.inputs()
    expected = run_base(tiny.MODEL, params, batch["text"], latents, timesteps)
    adapter, base = split_adapter(params)
    poisoned = trees.merge(base, jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), adapter))
    np.testing.assert_array_equal(run_base(tiny.MODEL, poisoned, batch["text"], latents, timesteps), expected)
    plain = tiny.with_adapter(enabled=False)
    np.testing.assert_array_equal(run_base(plain, base, batch["text"], latents, timesteps), expected)


@pytest.mark.slow
def test_every_adapter_parameter_gets_a_gradient_within_three_steps():
    params, batch, (latents, timesteps) = tiny.fresh(), tiny.batch(), tiny.inputs()
    adapter, base = split_adapter(params)
    module, optimizer = tiny.make(), optax.adam(1e-2)

    @jax.jit
    def step(adapter, state):
        grads = jax.grad(lambda a: tiny.loss(module, trees.merge(base, a), batch, latents, timesteps))(adapter)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(adapter, updates), state, grads

    state, seen = optimizer.init(adapter), jax.tree.map(lambda x: np.zeros(x.shape, bool), adapter)
    for _ in range(3):
        adapter, state, grads = step(adapter, state)
        seen = jax.tree.map(lambda old, g: old | (np.asarray(g) != 0), seen, grads)
    dead = [path for path, ever in trees.flatten(seen).items() if not ever.any()]
    assert not dead
    for path, ever in trees.flatten(seen).items():
        if "blocks/adapter" in path:  # every adapted block, not only one of the stack
            idle = [i for i, block in enumerate(ever) if not block.any()]
            # what the last adapted block does to face tokens after its attention is read by nobody
            unread = "face_modulation/ffn" in path
            assert idle == ([len(ever) - 1] if unread else []), path


@pytest.mark.slow
def test_each_part_of_the_adapter_changes_the_output():
    params, (latents, timesteps) = tiny.drawn(), tiny.inputs()
    batch = tiny.batch()
    before = run(tiny.MODEL, params, batch, latents, timesteps)
    for name in ("id_embedding", "clip_last", "clip_penultimate", "text"):
        changed = run(tiny.MODEL, params, batch | {name: batch[name] + 0.5}, latents, timesteps)
        assert relative(changed, before) > 1e-4, name


@pytest.mark.slow
def test_withheld_identity_ignores_the_reference_and_only_for_that_sample():
    params, batch, (latents, timesteps) = tiny.drawn(), tiny.batch(), tiny.inputs()
    other = tiny.batch(seed=9) | {"text": batch["text"]}
    keep = {"keep_identity": np.array([True, False])}
    one = run(tiny.MODEL, params, batch | keep, latents, timesteps)
    two = run(tiny.MODEL, params, other | keep, latents, timesteps)
    np.testing.assert_array_equal(one[1], two[1])
    assert relative(one[0], two[0]) > 1e-3
    whole = run(tiny.MODEL, params, batch, latents, timesteps)
    np.testing.assert_allclose(one[0], whole[0], rtol=1e-5, atol=1e-5)


def test_fusion_touches_the_class_word_alone():
    params, batch = tiny.drawn(), tiny.batch()
    text = jax.jit(lambda p, b: tiny.make().apply({"params": p}, b, method="encode"))(params, batch).text
    changed = np.any(np.asarray(text) != batch["text"], axis=-1)
    np.testing.assert_array_equal(changed, batch["class_mask"])


@pytest.mark.slow
@pytest.mark.parametrize("references", [1, 3])
def test_several_references_stand_along_the_token_axis(references):
    batch = tiny.batch(references=references)
    params = tiny.drawn(references=references)
    conditions = tiny.make().apply({"params": params}, batch, method="encode")
    assert conditions.face.shape == (2, references * tiny.ADAPTER.queries, tiny.TRANSFORMER.width)
    if references > 1:  # the order of pictures moves face tokens along, and CAN reads their mean
        turned = {name: batch[name][:, ::-1] for name in ("id_embedding", "clip_last", "clip_penultimate")}
        mirrored = tiny.make().apply({"params": params}, batch | turned, method="encode")
        blocks = conditions.face.reshape(2, references, tiny.ADAPTER.queries, -1)
        np.testing.assert_allclose(mirrored.face.reshape(blocks.shape), blocks[:, ::-1], atol=2e-5)
        np.testing.assert_allclose(mirrored.identity, conditions.identity, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "off,gone",
    [
        ({"identity_branch": False, "can": False}, "id_perceiver|fusion|can_project|adapter/can"),
        ({"structural_branch": False}, "face_perceiver|adapter/cross|adapter/face_modulation"),
        ({"face_modulation": False}, "adapter/face_modulation"),
        ({"can": False}, "can_project|adapter/can"),
    ],
)
def test_each_ablation_of_table_3_is_a_switch(off, gone):
    model = tiny.with_adapter(**off)
    params, batch, (latents, timesteps) = tiny.drawn(model), tiny.batch(model), tiny.inputs(model)
    whole, left = set(trees.flatten(tiny.drawn())), set(trees.flatten(params))
    assert left < whole
    assert all(any(part in path for part in gone.split("|")) for path in whole - left)
    assert not any(part in path for path in left for part in gone.split("|"))
    grads = jax.jit(jax.grad(lambda p: tiny.loss(tiny.make(model), p, batch, latents, timesteps)))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
