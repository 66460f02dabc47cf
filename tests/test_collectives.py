"""Collectives of compiled programs are counted by kind, with their bytes."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mmjax import collectives
from mmjax import config as c
from mmjax.sharding import make_mesh

WHOLE = PartitionSpec()


def compiled(function, *inputs, out=WHOLE):
    """`function` over eight devices along `fsdp`, of arrays of ones with the given (shape, spec)."""
    mesh = make_mesh(c.Mesh(data=1, fsdp=8), jax.devices())
    shapes = [
        jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(*spec)))
        for shape, spec in inputs
    ]
    return jax.jit(function, out_shardings=NamedSharding(mesh, out)).lower(*shapes).compile()


def only(kind, count, size):
    totals = dict.fromkeys(collectives.KINDS, collectives.Total(0, 0))
    return totals | {kind: collectives.Total(count, size)}


def test_a_gather_and_a_sum_have_their_bytes():
    gathered = compiled(lambda x: x * 2, ((16, 4), ("fsdp",)))
    assert collectives.collectives(gathered) == only("all-gather", 1, 16 * 4 * 4)
    summed = compiled(lambda x: x.sum(0), ((16, 4), ("fsdp",)))
    assert collectives.collectives(summed) == only("all-reduce", 1, 4 * 4)


def test_another_axis_is_an_all_to_all():
    moved = compiled(lambda x: x + 1, ((16, 8), ("fsdp",)), out=PartitionSpec(None, "fsdp"))
    totals = collectives.collectives(moved)
    assert totals["all-to-all"].count == 1 and totals["all-gather"].count == 0
    assert collectives.table(totals).startswith("1 all-to-all (")


def test_a_program_of_one_device_sends_nothing():
    totals = collectives.collectives(jax.jit(jnp.sin).lower(jnp.ones(3)).compile())
    assert collectives.table(totals) == "none"


TPU = """
%all-reduce-scatter.5 (input.5: bf16[4,32,2048]) -> bf16[64,8,128] {
  %all-reduce.1 = bf16[256,256]{1,0:T(8,128)} all-reduce(%input.5), channel_id=3
}

ENTRY %main.7 (p: bf16[64,8]) -> bf16[64,32] {
  %start = (bf16[64,8]{1,0}, bf16[64,32]{1,0}) all-gather-start(%p), channel_id=1
  %done = bf16[64,32]{1,0} all-gather-done(%start)
  %sum = (f32[], f32[3,2]{1,0}) all-reduce(%x, %w), channel_id=2
  %code = f8e4m3fn[10]{0} collective-permute(%y), channel_id=4
  %ring = (bf16[8,4]{1,0}, bf16[8,4]{1,0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%z), channel_id=5
}
"""


@pytest.mark.parametrize(
    "kind, count, size",
    [
        ("reduce-scatter", 1, 256 * 256 * 2),
        ("all-gather", 1, 64 * 32 * 2),
        ("all-reduce", 1, 4 + 3 * 2 * 4),
        ("collective-permute", 2, 10 + 8 * 4 * 2),
        ("all-to-all", 0, 0),
    ],
)
def test_what_the_tpu_compiler_writes_is_read(kind, count, size):
    assert collectives.of_text(TPU)[kind] == collectives.Total(count, size)
