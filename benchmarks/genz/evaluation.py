"""All graphs at once: the library's operators, rooflines and collectives, one `jax.vmap` per law, in float64.

`measure` builds every kernel's operator and sums what each graph holds; memory decides the bandwidths; `run` then times every entry.
"""

import dataclasses
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from diffgenz.core.smooth import HARD, Scalar
from diffgenz.hardware.platform import Accelerator, Level
from diffgenz.hardware.topology import Ranks, Schedule, Topology, ring
from diffgenz.inference.timing.collectives import Group, Link
from diffgenz.inference.timing.roofline import Rates, operators_time
from diffgenz.operators.operator import Kind, Operator
from diffgenz.operators.precision import Precision
from genz.graph import ATTENTION_LAWS, Entry, Graph, Holds, Kernel, Law, Message, Pattern
from genz.system import System

START_UP = 5e-6
"""Quirk: seconds that GenZ adds to every collective, but not to a message between stages."""

Column = np.ndarray


class Footprint(NamedTuple):
    """What a graph holds and moves, over all its entries and repeats: B, and FLOP. `idle_weights`: of kernels without rows."""

    weights: float
    cache: float
    idle_weights: float
    flops: float
    traffic: float
    largest: float


class Timing(NamedTuple):
    """Seconds of each entry, once: what computing, memory and communication would take alone, and what it takes.

    `ideal`: the same without efficiencies and with all tensors off chip, as GenZ's energy model wants it: computing, memory.
    """

    compute: Column
    memory: Column
    communication: Column
    total: Column
    ideal_compute: Column
    ideal_memory: Column
    repeats: Column

    @property
    def latency(self) -> float:
        """Seconds of the graph. Quirk: nothing overlaps."""
        return float(self.repeats @ self.total)


@dataclasses.dataclass(frozen=True)
class Measured:
    """Graphs with the operators of their kernels. Columns are over all entries; `operators` are those of the kernels among them."""

    graphs: Sequence[Graph]
    entries: list[Entry]
    owner: Column
    kernels: Column
    operators: Operator
    held_size: Column
    footprints: list[Footprint]


def measure(graphs: Sequence[Graph]) -> Measured:
    """Build all operators, and sum what the graphs hold."""
    entries = [entry for graph in graphs for entry in graph.entries]
    owner = np.repeat(np.arange(len(graphs)), [len(graph.entries) for graph in graphs])
    at = np.array([i for i, entry in enumerate(entries) if isinstance(entry, Kernel)], dtype=int)
    kernels = [entry for entry in entries if isinstance(entry, Kernel)]
    held_size = np.array(
        [_held_size(kernel, graphs[i].system) for kernel, i in zip(kernels, owner[at], strict=True)]
    )
    with jax.enable_x64(True):
        operators = _operators(kernels, _per_entry(graphs, owner[at], "element_size"), held_size)
        moved = (
            [np.asarray(column) for column in _moved(operators)] if kernels else [np.zeros(0)] * 3
        )
    return Measured(
        graphs,
        entries,
        owner,
        at,
        operators,
        held_size,
        _footprints(len(graphs), kernels, owner[at], *moved),
    )


def run(measured: Measured, bandwidths: Sequence[float]) -> list[Timing]:
    """Time all entries, each graph with its off-chip bandwidth in B/s."""
    graphs, entries, owner = measured.graphs, measured.entries, measured.owner
    compute, memory, communication, ideal_compute, ideal_memory = (
        np.zeros(len(entries)) for _ in range(5)
    )
    total = np.zeros(len(entries))
    with jax.enable_x64(True):
        at = measured.kernels
        if len(at):
            machine = _Machine(
                _per_entry(graphs, owner[at], "peak_flops"),
                np.asarray(bandwidths, float)[owner[at]],
                *(
                    _per_entry(graphs, owner[at], field)
                    for field in ("on_chip_bandwidth", "compute_efficiency", "memory_efficiency")
                ),
            )
            on_chip = tuple(
                np.array([getattr(entries[i].on_chip, tensor) for i in at])
                for tensor in ("inputs", "held", "outputs")
            )
            plain = _per_entry(graphs, owner[at], "element_size") / measured.held_size
            columns = (compute, memory, total, ideal_compute, ideal_memory)
            for column, values in zip(
                columns, _kernel_times(measured.operators, on_chip, machine, plain), strict=True
            ):
                column[at] = values
        for pattern in Pattern:
            at = np.array(
                [
                    i
                    for i, entry in enumerate(entries)
                    if isinstance(entry, Message) and entry.pattern is pattern
                ],
                dtype=int,
            )
            if len(at):
                nodes = np.array([float(entries[i].nodes) for i in at])
                volume = np.array([float(entries[i].elements) for i in at]) * _per_entry(
                    graphs, owner[at], "element_size"
                )
                links = (
                    _per_entry(graphs, owner[at], field)
                    for field in ("link_bandwidth", "link_latency", "comm_efficiency")
                )
                communication[at] = total[at] = _collective_times(pattern)(nodes, volume, *links)
    repeats = np.array([float(entry.repeats) for entry in entries])
    columns = (compute, memory, communication, total, ideal_compute, ideal_memory, repeats)
    ends = np.cumsum([len(graph.entries) for graph in graphs])
    slices = [slice(end - len(graph.entries), end) for graph, end in zip(graphs, ends, strict=True)]
    return [Timing(*(column[part] for column in columns)) for part in slices]


class _Machine(NamedTuple):
    peak_flops: Any
    memory_bandwidth: Any
    on_chip_bandwidth: Any
    compute_efficiency: Any
    memory_efficiency: Any


@jax.jit
@jax.vmap
def _kernel_times(
    op: Operator, on_chip: tuple[Scalar, Scalar, Scalar], machine: _Machine, plain: Scalar
) -> tuple[Scalar, ...]:
    """Compute, memory, total, ideal compute and ideal memory time of one kernel. `plain`: uncompressed over held size of W.

    On-chip tensors count as fewer bytes, by the ratio of bandwidths: the library's roofline has one memory.
    """
    accelerator = Accelerator(
        "GenZ",
        {"bf16": machine.peak_flops},
        machine.memory_bandwidth,
        1.0,
        compute_efficiency=machine.compute_efficiency,
        memory_efficiency=machine.memory_efficiency,
    )
    rates = Rates.of(accelerator, Precision("bf16"))
    discount = machine.memory_bandwidth / machine.on_chip_bandwidth
    inputs, held, outputs = (jnp.where(on, discount, 1.0) for on in on_chip)
    charged = dataclasses.replace(
        op, inputs=op.inputs * inputs, weights=op.weights * held, outputs=op.outputs * outputs
    )
    compute = charged.flops * rates.per_flop(charged.kind)
    memory = charged.traffic * rates.memory
    total = operators_time((charged,), rates, HARD)
    ideal_memory = (op.inputs + op.weights * plain + op.outputs) / machine.memory_bandwidth
    times = (compute, memory, total, compute * machine.compute_efficiency, ideal_memory)
    works = op.flops > 0  # quirk: without arithmetic, moving bytes takes no time
    return tuple(jnp.where(works, time, 0.0) for time in times)


class Ring(Topology):
    """GenZ's only wiring: one flat ring."""

    def all_reduce(self, ranks: Ranks) -> tuple[Schedule, ...]:
        return (ring(ranks, 2),)

    def all_gather(self, ranks: Ranks) -> tuple[Schedule, ...]:
        return (ring(ranks, 1),)

    def all_to_all(self, ranks: Ranks) -> tuple[Schedule, ...]:
        return (ring(ranks, 1),)


@cache
def _collective_times(pattern: Pattern) -> Any:
    @jax.jit
    @jax.vmap
    def times(
        nodes: Scalar, volume: Scalar, bandwidth: Scalar, latency: Scalar, efficiency: Scalar
    ) -> Scalar:
        link = Link.of(Level("ring", Ring(), nodes, bandwidth, latency))
        group = Group.of(nodes, (link,))
        if pattern is Pattern.PASS:
            time = link.send(volume)
        elif pattern is Pattern.ALL_REDUCE:
            time = START_UP + group.all_reduce(volume, HARD)
        elif pattern is Pattern.ALL_GATHER:
            time = START_UP + group.all_gather(volume, HARD)
        else:
            (rung,) = group.rungs
            time = START_UP + rung.fastest(link.topology.all_to_all(rung.ranks), volume, HARD)
        someone = (volume > 0) if pattern is Pattern.PASS else (volume > 0) & (nodes > 1)
        return jnp.where(someone, time, 0.0) / efficiency

    return times


def _operators(kernels: Sequence[Kernel], size: Column, held_size: Column) -> Operator:
    """The operators of all kernels, in order, as one batched record: one call per law."""
    alike: dict[tuple[Law, tuple[str, ...]], list[int]] = {}
    for i, kernel in enumerate(kernels):
        alike.setdefault((kernel.law, tuple(kernel.extents)), []).append(i)
    parts = []
    for (law, letters), at in alike.items():
        extents = {
            letter: np.array([float(kernels[i].extents[letter]) for i in at]) for letter in letters
        }
        parts.append(_batched(law)(extents, size[at], held_size[at]))
    order = (
        np.argsort(np.concatenate([np.asarray(at) for at in alike.values()]))
        if alike
        else np.zeros(0, int)
    )
    if not parts:
        return Operator("none", Kind.LINEAR)
    return jax.tree.map(
        lambda *columns: np.concatenate([np.asarray(column) for column in columns])[order], *parts
    )


@cache
def _batched(law: Law) -> Any:
    """`law` over columns. Names and kinds are dropped: GenZ has one peak for all."""

    @eqx.filter_jit
    @jax.vmap
    def operators(extents: dict[str, Scalar], size: Scalar, held_size: Scalar) -> Operator:
        return dataclasses.replace(
            law(extents, size, held_size), name="GenZ", kind=Kind.LINEAR, kernel="", shape=None
        )

    return operators


def _held_size(kernel: Kernel, system: System) -> float:
    if kernel.law in ATTENTION_LAWS:
        return system.cache_size(kernel.extents["N"], kernel.extents["D"])
    return system.element_size


def _per_entry(graphs: Sequence[Graph], owner: Column, field: str) -> Column:
    return np.array([float(getattr(graph.system, field)) for graph in graphs])[owner]


@jax.jit
@jax.vmap
def _moved(op: Operator) -> tuple[Scalar, Scalar, Scalar]:
    """FLOP, B, and B of W."""
    return jnp.asarray(op.flops), jnp.asarray(op.traffic), jnp.asarray(op.weights)


def _footprints(
    graphs: int,
    kernels: Sequence[Kernel],
    owner: Column,
    flops: Column,
    traffic: Column,
    held: Column,
) -> list[Footprint]:
    repeats, shares = (
        np.array([float(getattr(kernel, field)) for kernel in kernels])
        for field in ("repeats", "held_share")
    )
    weights, cached = (
        np.array([kernel.holds is kind for kernel in kernels], dtype=bool)
        for kind in (Holds.WEIGHTS, Holds.CACHE)
    )
    idle, every = weights & (flops == 0), np.ones(len(kernels), dtype=bool)

    def total(values: Column, chosen: Column) -> Column:
        return np.bincount(owner[chosen], (repeats * values)[chosen], graphs)

    largest = np.zeros(graphs)
    np.fmax.at(largest, owner, traffic)
    columns = (
        total(held, weights),
        total(held * shares, cached),
        total(held, idle),
        total(flops, every),
        total(traffic, every),
        largest,
    )
    return [Footprint(*map(float, values)) for values in zip(*columns, strict=True)]
