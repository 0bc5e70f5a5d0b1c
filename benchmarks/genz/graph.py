"""The vocabulary of GenZ's models: kernels and messages, each with its repeats, and their graphs.

A kernel is a law and its extents, where a law is one of the library's constructors under GenZ's
letters. Its three tensors are GenZ's A, W and O: the inputs, the tensor that is held (weights or
cache), and the outputs. Each of them is read from or written to memory, or stays on chip.
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
"""A function (extents by letter, B per element, B per element of W) -> the library's operator."""


class OnChip(NamedTuple):
    """Which tensors stay on chip, at its bandwidth. GenZ's on-chip memory has no limit.

    Arguments:
        inputs: whether A stays.
        held: whether W stays.
        outputs: whether O stays.
    """

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
"""The tensors that stay on chip, by the goldens' name of the residency."""


class Holds(enum.Enum):
    """What a kernel's W counts as in memory."""

    WEIGHTS = "weights"
    CACHE = "cache"  # The KV cache, or the state of a Mamba layer.
    NOTHING = "nothing"


class Kernel(NamedTuple):
    """One operator.

    Arguments:
        name: GenZ's own.
        law: how its FLOP and bytes follow from its extents.
        extents: by the law's letters.
        on_chip: which of its tensors stay on chip.
        holds: what W counts as in memory.
        held_share: the share of W that is held in memory.
        repeats: executions.
    """

    name: str
    law: Law
    extents: Mapping[str, float]
    on_chip: OnChip = OFF_CHIP
    holds: Holds = Holds.NOTHING
    held_share: float = 1.0
    repeats: float = 1.0


class Pattern(enum.Enum):
    """The patterns of communication, by GenZ's names."""

    ALL_REDUCE = "AllReduce"
    ALL_GATHER = "AllGather"
    ALL_TO_ALL = "All2All"
    PASS = "MessagePass"


class Message(NamedTuple):
    """One collective.

    Arguments:
        name: GenZ's own.
        pattern: of the collective.
        nodes: ranks.
        elements: of the tensor.
        repeats: executions.
    """

    name: str
    pattern: Pattern
    nodes: float
    elements: float
    repeats: float = 1.0


Entry = Kernel | Message


class Graph(NamedTuple):
    """The kernels and messages that one device of a system executes, one after the other."""

    system: System
    entries: tuple[Entry, ...]


def repeated(entries: Iterable[Entry], count: float) -> tuple[Entry, ...]:
    """The entries, each with `count` times its repeats."""
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
    """GEMM(B, M columns, N rows, K), whose W the batch shares."""
    return linear("GEMM", n["B"] * n["N"], n["M"], n["K"], _formats(size, held_size), "mlp")


def fully_connected_law(n: Mapping[str, Scalar], size: Scalar, held_size: Scalar) -> Operator:
    """FC(B, O outputs, I inputs), a fully connected layer."""
    return linear("FC", n["B"], n["O"], n["I"], _formats(size, held_size), "mlp")


def scores_law(n: Mapping[str, Scalar], size: Scalar, held_size: Scalar) -> Operator:
    """Logit(B, H, M queries, N keys, D, Hkv), whose W is the K cache. Quirk: no causal mask."""
    return einsum(
        "Logit",
        "bgqmd,bgnd->bgqmn",
        _attention_extents(n),
        sizes_of=(size, held_size, size),
        kind=Kind.ATTENTION,
    )


def values_law(n: Mapping[str, Scalar], size: Scalar, held_size: Scalar) -> Operator:
    """Attend(B, H, M queries, N keys, D, Hkv), whose W is the V cache."""
    return einsum(
        "Attend",
        "bgqmn,bgnd->bgqmd",
        _attention_extents(n),
        sizes_of=(size, held_size, size),
        kind=Kind.ATTENTION,
    )


def conv1d_law(n: Mapping[str, Scalar], size: Scalar, held_size: Scalar) -> Operator:
    """CONV1D(B, OF, IF, N, C), a depthwise convolution."""
    operator = einsum(
        "CONV1D",
        "bnf,fc->bnf",
        {"b": n["B"], "n": n["N"], "f": n["OF"], "c": n["C"]},
        sizes_of=(size, held_size, size),
    )
    return dataclasses.replace(operator, inputs=n["B"] * n["N"] * n["IF"] * size)


@cache
def einsum_law(equation: str) -> Law:
    """The law of an einsum of two operands, whose extents go by the equation's letters."""

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
"""Each law and its letters, by the goldens' names; the law of "Einsum" is `einsum_law`."""

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
    """A precision with GenZ's formats, which are sizes without names."""
    return eqx.tree_at(
        lambda p: (p.dtype_size, p.activation_size, p.weight_size),
        Precision(),
        (size, size, held_size),
    )


def matmul(
    name: str, rows: float, columns: float, depth: float, batch: float, on_chip: OnChip = OFF_CHIP
) -> Kernel:
    """A GEMM with weights, of `columns` x `depth` elements."""
    extents = {"B": batch, "M": columns, "N": rows, "K": depth}
    return Kernel(name, matmul_law, extents, on_chip, Holds.WEIGHTS)


class Heads(NamedTuple):
    """One device's attention.

    Arguments:
        queries: query heads.
        keys: KV heads.
        dim: size of each head.
    """

    queries: float
    keys: float
    dim: float

    def wider(self, query_heads: float, kv_heads: float) -> "Heads":
        """Attention with multiples of these heads; the arguments are the factors."""
        return Heads(self.queries * query_heads, self.keys * kv_heads, self.dim)


def attend(
    label: str, batch: float, heads: Heads, queries: float, keys: float, *, decoding: bool
) -> tuple[Kernel, Kernel]:
    """The kernels of scores and of values.

    The scores stay on chip (fused attention); in decode the queries and the outputs do, too.

    Arguments:
        label: appended to the names.
        batch: sequences.
        heads: of the device.
        queries: tokens of each sequence that attend.
        keys: tokens that they attend to.
        decoding: whether this is decode.
    """
    rows = {"B": batch, "H": heads.queries, "M": queries}
    extents = {**rows, "N": keys, "D": heads.dim, "Hkv": heads.keys}
    scores = ACTIVATIONS_ON_CHIP if decoding else OnChip(outputs=True)
    values = ACTIVATIONS_ON_CHIP if decoding else OnChip(inputs=True)
    return (
        Kernel(f"Logit{label}", scores_law, extents, scores, Holds.CACHE),
        Kernel(f"Attend{label}", values_law, extents, values, Holds.CACHE),
    )


def contract(
    name: str, equation: str, extents: Mapping[str, float], on_chip: OnChip, **holds: Any
) -> Kernel:
    """An einsum; `holds` are the fields `holds` and `held_share` of its `Kernel`."""
    return Kernel(name, einsum_law(equation), extents, on_chip, **holds)
