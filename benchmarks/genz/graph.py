"""The vocabulary of GenZ's models: kernels and messages, each so many times, and graphs of them.

A kernel is a law (a constructor of the library's, under GenZ's letters) and its extents. Its three tensors are GenZ's A, W and O: inputs,
what is held (weights, or the cache), and outputs. Each is read from or written to memory or stays on chip.
"""

import dataclasses
import enum
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

import equinox as eqx

from diffgenz.core.smooth import Scalar
from diffgenz.operators.linear import linear
from diffgenz.operators.operator import Kind, Operator
from diffgenz.operators.precision import Precision
from genz.system import System

Law = Callable[[Mapping[str, Scalar], Scalar, Scalar], Operator]
"""Extents by letter, B per element, B per element of W -> the library's operator."""


class OnChip(NamedTuple):
    """Which of A, W, O stay on chip, at its bandwidth. GenZ's on-chip memory has no limit."""

    inputs: bool = False
    held: bool = False
    outputs: bool = False


OFF_CHIP = OnChip()
ACTIVATIONS_ON_CHIP = OnChip(inputs=True, outputs=True)
RESIDENCY = {
    "All_offchip": OFF_CHIP,
    "A_onchip": OnChip(inputs=True),
    "B_onchip": OnChip(held=True),
    "C_onchip": OnChip(outputs=True),
    "AB_onchip": OnChip(inputs=True, held=True),
    "AC_onchip": ACTIVATIONS_ON_CHIP,
    "BC_onchip": OnChip(held=True, outputs=True),
    "All_onchip": OnChip(True, True, True),
}
"""By the names of the goldens."""


class Holds(enum.Enum):
    """What W counts as in memory."""

    WEIGHTS = "weights"
    CACHE = "cache"  # KV cache, or the state of a Mamba layer
    NOTHING = "nothing"


class Kernel(NamedTuple):
    """One operator, executed `repeats` times. `held_share`: how much of W its memory is."""

    name: str
    law: Law
    extents: Mapping[str, float]
    on_chip: OnChip = OFF_CHIP
    holds: Holds = Holds.NOTHING
    held_share: float = 1.0
    repeats: float = 1.0


class Pattern(enum.Enum):
    """Who talks to whom."""

    ALL_REDUCE = "AllReduce"
    ALL_GATHER = "AllGather"
    ALL_TO_ALL = "All2All"
    PASS = "MessagePass"


class Message(NamedTuple):
    """One collective over `nodes` ranks on a tensor of `elements`, executed `repeats` times."""

    name: str
    pattern: Pattern
    nodes: float
    elements: float
    repeats: float = 1.0


Entry = Kernel | Message


class Graph(NamedTuple):
    """What one device executes, one after the other, on one system."""

    system: System
    entries: tuple[Entry, ...]


def repeated(entries: Iterable[Entry], count: float) -> tuple[Entry, ...]:
    """All of `entries`, `count` times as often."""
    return tuple(entry._replace(repeats=entry.repeats * count) for entry in entries)


def einsum(
    name: str,
    equation: str,
    extents: Mapping[str, Scalar | float],
    *,
    sizes_of: tuple[Scalar | float, ...],
    kind: Kind = Kind.LINEAR,
) -> Operator:
    """A product of two operands in Einstein notation, such as "bgqmd,bgnd->bgqmn".

    Multiply-adds are the product of the extents of all distinct indices.

    Arguments:
        name: of the operator.
        equation: two operands and the output, one letter per index.
        extents: of each index, by letter.
        sizes_of: B per element of the first operand, of the second (which counts as weights) and
            of the output.
        kind: what binds it.
    """
    operands, output = equation.split("->")
    first, second = operands.split(",")

    def elements(indices: str) -> Scalar | float:
        product = 1.0
        for index in dict.fromkeys(indices):
            product = product * extents[index]
        return product

    return Operator(
        name,
        kind,
        m=elements(first),
        n=elements("".join(index for index in second if index not in first)),
        k=1.0,
        inputs=elements(first) * sizes_of[0],
        weights=elements(second) * sizes_of[1],
        outputs=elements(output) * sizes_of[2],
    )


def matmul_law(n: Mapping[str, Scalar], size: Scalar, held_size: Scalar) -> Operator:
    """GEMM(B, M columns, N rows, K): W is shared by the batch."""
    return linear("GEMM", n["B"] * n["N"], n["M"], n["K"], _formats(size, held_size))


def fully_connected_law(n: Mapping[str, Scalar], size: Scalar, held_size: Scalar) -> Operator:
    """FC(B, O, I)."""
    return linear("FC", n["B"], n["O"], n["I"], _formats(size, held_size))


def scores_law(n: Mapping[str, Scalar], size: Scalar, held_size: Scalar) -> Operator:
    """Logit(B, H, M queries, N keys, D, Hkv): W is the K cache. Quirk: no causal mask."""
    return einsum(
        "Logit",
        "bgqmd,bgnd->bgqmn",
        _attention_extents(n),
        sizes_of=(size, held_size, size),
        kind=Kind.ATTENTION,
    )


def values_law(n: Mapping[str, Scalar], size: Scalar, held_size: Scalar) -> Operator:
    """Attend(B, H, M queries, N keys, D, Hkv): W is the V cache."""
    return einsum(
        "Attend",
        "bgqmn,bgnd->bgqmd",
        _attention_extents(n),
        sizes_of=(size, held_size, size),
        kind=Kind.ATTENTION,
    )


def conv1d_law(n: Mapping[str, Scalar], size: Scalar, held_size: Scalar) -> Operator:
    """CONV1D(B, OF, IF, N, C), depthwise."""
    operator = einsum(
        "CONV1D",
        "bnf,fc->bnf",
        {"b": n["B"], "n": n["N"], "f": n["OF"], "c": n["C"]},
        sizes_of=(size, held_size, size),
    )
    return dataclasses.replace(operator, inputs=n["B"] * n["N"] * n["IF"] * size)


@cache
def einsum_law(equation: str) -> Law:
    """Einsum of two operands; extents by the equation's letters."""

    def law(n: Mapping[str, Scalar], size: Scalar, held_size: Scalar) -> Operator:
        return einsum("Einsum", equation, dict(n), sizes_of=(size, held_size, size))

    return law


LAWS: dict[str, tuple[Law, tuple[str, ...]]] = {
    "GEMM": (matmul_law, ("B", "M", "N", "K")),
    "FC": (fully_connected_law, ("B", "O", "I")),
    "Logit": (scores_law, ("B", "H", "M", "N", "D", "Hkv")),
    "Attend": (values_law, ("B", "H", "M", "N", "D", "Hkv")),
    "CONV1D": (conv1d_law, ("B", "OF", "IF", "N", "C")),
    "CONV2D": (einsum_law("BCYX,KCRS->BKYX"), tuple("BKCYXRS")),
    "DWCONV": (einsum_law("BCYX,CRS->BCYX"), tuple("BCYXRS")),
}
"""Each law and its letters, by the names of the goldens; Einsum is `einsum_law`."""

ATTENTION_LAWS = (scores_law, values_law)


def _attention_extents(n: Mapping[str, Scalar]) -> dict[str, Scalar | float]:
    return {
        "b": n["B"],
        "g": n["Hkv"],
        "q": n["H"] / n["Hkv"],
        "m": n["M"],
        "n": n["N"],
        "d": n["D"],
    }


def _formats(size: Scalar, held_size: Scalar) -> Precision:
    """GenZ's formats are sizes without a name."""
    return eqx.tree_at(
        lambda p: (p.dtype_size, p.activation_size, p.weight_size),
        Precision(),
        (size, size, held_size),
    )


def matmul(
    name: str, rows: float, columns: float, depth: float, batch: float, on_chip: OnChip = OFF_CHIP
) -> Kernel:
    """A GEMM with weights."""
    return Kernel(
        name, matmul_law, {"B": batch, "M": columns, "N": rows, "K": depth}, on_chip, Holds.WEIGHTS
    )


class Heads(NamedTuple):
    """One device's attention: query heads, KV heads, and the extent of each."""

    queries: float
    keys: float
    dim: float

    def wider(self, query_heads: float, kv_heads: float) -> "Heads":
        """So many times as many."""
        return Heads(self.queries * query_heads, self.keys * kv_heads, self.dim)


def attend(
    label: str, batch: float, heads: Heads, queries: float, keys: float, *, decoding: bool
) -> tuple[Kernel, Kernel]:
    """Scores and values. The scores stay on chip (fused attention); decoding, queries and outputs do too."""
    extents = {
        "B": batch,
        "H": heads.queries,
        "M": queries,
        "N": keys,
        "D": heads.dim,
        "Hkv": heads.keys,
    }
    scores = ACTIVATIONS_ON_CHIP if decoding else OnChip(outputs=True)
    values = ACTIVATIONS_ON_CHIP if decoding else OnChip(inputs=True)
    return (
        Kernel(f"Logit{label}", scores_law, extents, scores, Holds.CACHE),
        Kernel(f"Attend{label}", values_law, extents, values, Holds.CACHE),
    )


def contract(
    name: str, equation: str, extents: Mapping[str, float], on_chip: OnChip, **holds: Any
) -> Kernel:
    """An einsum; `holds`: `holds` and `held_share` of a `Kernel`."""
    return Kernel(name, einsum_law(equation), extents, on_chip, **holds)
