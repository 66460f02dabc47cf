"""What a run needs of a device is said before weights are read; what cannot fit is refused with what would help."""

import re

import jax
import pytest

from mmjax import device_memory
from mmjax.errors import ConfigError, MMJaxError
from mmjax.models import build
from mmjax.training import loop, memory, optimizer, state
from mmjax.training.tasks.registry import make_task
from mmjax.weights import start
from tests.helpers import tiny_run

GIB = 2**30


def described(config, devices=1):
    mesh = tiny_run.mesh_of(config, devices)
    return state.abstract_state(make_task(config), optimizer.make_optimizer(config.optim, 1), mesh)


def test_the_bytes_that_are_said_are_the_bytes():
    config = tiny_run.experiment(adapter=True, mesh={"data": 1, "fsdp": 8})
    created, device = tiny_run.fresh_state(config, 8)[2], jax.devices()[3]
    abstract = described(config, 8)

    def held(tree):
        shards = [shard for leaf in jax.tree.leaves(tree) for shard in leaf.addressable_shards]
        return sum(shard.data.nbytes for shard in shards if shard.device == device)

    expected = {
        "frozen": created.frozen,
        "trained": created.trained,
        "optimizer": created.opt_state,
        "EMA": created.ema,
    }
    assert memory.state_bytes(abstract) == {name: held(part) for name, part in expected.items()}
    assert memory.gradient_bytes(abstract) == held(created.ema)


def test_what_is_in_host_memory_is_not_on_the_device():
    plain = described(tiny_run.experiment(adapter=True))
    abstract = described(
        tiny_run.experiment(adapter=True, runtime={"offload": ("ema",)}, optim={"moments": "bfloat16"})
    )
    here, there, before = (
        memory.state_bytes(abstract),
        memory.state_bytes(abstract, on_host=True),
        memory.state_bytes(plain),
    )
    assert here["EMA"] == 0 and there["EMA"] == before["EMA"] > 0
    counts = 8  # bytes: two numbers of steps
    assert here["optimizer"] == (before["optimizer"] - counts) // 2 + counts and not there["optimizer"]
    assert memory.state_line(abstract).endswith(" in host memory") and "host" not in memory.state_line(plain)


def test_a_step_is_said_by_category():
    abstract = described(tiny_run.experiment())
    line = memory.step_line(3 * GIB, abstract)
    assert re.fullmatch(
        r"memory a device: 3.00 GiB = frozen .*, trained .*, .* gradients and activations 3.00 GiB", line
    )


def test_what_takes_less_is_named_the_cheapest_first():
    config = tiny_run.experiment(adapter=True)
    found = memory.savings(config, described(config))
    settings = [line.split(" ")[0] for line in found]
    assert settings[0] == "train.accumulate,"
    names = ["optim.moments=bfloat16", "runtime.remat=full", "runtime.offload=ema", "runtime.stream=True"]
    assert settings[1:5] == names and "=moments" in found[5] and "mesh.fsdp" in found[6]
    config = tiny_run.experiment(adapter=True, runtime={"offload": ("moments",)})
    assert any(
        line.startswith("runtime.offload=\"('ema', 'moments')\" (")
        for line in memory.savings(config, described(config))
    )
    done = {"remat": "full", "stream": True, "offload": ("ema", "moments")}
    config = tiny_run.experiment(
        adapter=True, runtime=done, optim={"moments": "bfloat16"}, data={"batches": (1,)}, mesh={"data": 1}
    )
    assert memory.savings(config, described(config)) == ["parameters spread over more devices (mesh.fsdp)"]


@pytest.fixture
def no_weights(monkeypatch):
    """Weights are out of bounds."""

    def refuse(*_):
        raise AssertionError("weights were read")

    monkeypatch.setattr(start, "load_start", refuse)


def test_a_state_that_cannot_fit_is_refused_before_anything_is_compiled(tmp_path, monkeypatch, no_weights):
    config = tiny_run.experiment(tmp_path / "data")
    needed = sum(memory.state_bytes(described(config, 8)).values())
    monkeypatch.setattr(device_memory, "device_limit", lambda: needed)  # and no byte for gradients
    monkeypatch.setattr(loop, "CompiledSteps", lambda *_: pytest.fail("compiled"))
    with pytest.raises(
        ConfigError, match=r"^state and gradients: expected at most the .* found .* with .*optim.moments="
    ):
        loop.train(config, tmp_path / "run", tiny_run.sources(config))


@pytest.mark.slow
def test_a_step_that_cannot_fit_is_refused_before_weights_are_read(tmp_path, monkeypatch, no_weights):
    config = tiny_run.experiment(tmp_path / "data")
    least = sum(memory.state_bytes(described(config, 8)).values()) + memory.gradient_bytes(described(config, 8))
    monkeypatch.setattr(device_memory, "device_limit", lambda: least)
    with pytest.raises(ConfigError, match=r"^a step for latents \[8, 1, 16, 16, 3\]: expected at most"):
        loop.train(config, tmp_path / "run", tiny_run.sources(config))


def test_frozen_weights_from_nowhere_are_refused_before_anything_is_compiled(tmp_path, monkeypatch):
    config = tiny_run.experiment(tmp_path / "data", train={"base": ""})
    monkeypatch.setattr(loop, "CompiledSteps", lambda *_: pytest.fail("compiled"))
    with pytest.raises(ConfigError, match="come from nowhere"):
        loop.train(config, tmp_path / "run", tiny_run.sources(config))


def test_running_out_of_memory_all_the_same_is_explained():
    config = tiny_run.experiment()
    explained = memory.explained(config, described(config))
    with pytest.raises(MMJaxError, match="too small .* less is taken, the cheapest first, with"), explained:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"), memory.explained(config, described(config)):
        raise jax.errors.JaxRuntimeError("INTERNAL: other")


def test_weights_in_host_memory_are_those_of_the_frozen_blocks():
    config = tiny_run.experiment(adapter=True, runtime={"stream": True})
    abstract = build.abstract_params(config, tiny_run.mesh_of(config))
    kinds = jax.tree.map(lambda leaf: leaf.sharding.memory_kind, abstract["transformer"]["blocks"])
    assert set(jax.tree.leaves(kinds["even"])) == {"pinned_host"} and set(jax.tree.leaves(kinds["adapter"])) == {
        "device"
    }
