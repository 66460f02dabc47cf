"""What devices send each other in a compiled program: collectives by kind, their number and size.

    totals = collectives(jitted.lower(*arguments).compile())
    print(table(totals))

Counted is what stands in the program's text: the body of a loop once, however often it runs. A gradient that is summed
and kept in shares is a reduce-scatter, also where the TPU's compiler writes it as an all-reduce within a computation
named all-reduce-scatter.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

KINDS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")
_OPERATION = re.compile(r"= (?P<result>.*?) (?P<kind>" + "|".join(KINDS) + r")(?P<start>-start)?\(")
_ARRAY = re.compile(r"(?P<type>[a-z]+\d*(?:e\d+m\d+\w*)?)\[(?P<sides>[\d,]*)\]")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
_FUSED = "all-reduce-scatter"  # by the TPU's compiler


class Total(NamedTuple):
    """Of one kind: how many there are, and the bytes of their results on a device."""

    count: int
    bytes: int


def collectives(program: jax.stages.Compiled) -> dict[str, Total]:
    """The collectives of a compiled program by kind, all of `KINDS`."""
    return of_text(program.as_text())


def of_text(text: str) -> dict[str, Total]:
    """The collectives of a program's text in HLO."""
    counts, sizes, fused = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0), False
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            fused = head["name"].startswith(_FUSED)
        if found := _OPERATION.search(line):
            kind = "reduce-scatter" if fused else found["kind"]
            counts[kind] += 1
            started = bool(found["start"]) and kind != "all-reduce"  # which returns its results alone
            sizes[kind] += _bytes(found["result"], started)
    return {kind: Total(counts[kind], sizes[kind]) for kind in KINDS}


def table(totals: Mapping[str, Total]) -> str:
    """One line: number and MiB of each kind that there is."""
    there = [f"{total.count} {kind} ({total.bytes / 2**20:,.1f} MiB)" for kind, total in totals.items() if total.count]
    return ", ".join(there) or "none"


def _bytes(result: str, started: bool) -> int:
    """Of the arrays in a result's type, several where the compiler has combined operations of one kind.

    What starts a gather or a permute returns its operands first, a permute two numbers of its own (u32[]) at last.
    """
    arrays = [array for array in _ARRAY.finditer(result) if array["type"] != "u32" or array["sides"]]
    return sum(_size(array) for array in (arrays[len(arrays) // 2 :] if started else arrays))


def _size(array: re.Match) -> int:
    sides = [int(side) for side in array["sides"].split(",") if side]
    return int(np.prod(sides, dtype=np.int64)) * _width(array["type"])


def _width(name: str) -> int:
    """Bytes of a number: bf16 2, f32 4, pred 1, f8e4m3fn 1, s4 1."""
    digits = re.match(r"[a-z]+(\d*)", name)[1]
    return max(int(digits or 8) // 8, 1)
