"""The time of all graphs at once, by the library's operators, rooflines and collectives.

There is one `jax.vmap` per law, in float64. `measure` builds every kernel's operator and sums the
bytes that each graph holds; these decide the bandwidths (`memory`); `run` then times every entry.
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
from diffgenz.inference.timing.execution import Execution
from diffgenz.inference.timing.roofline import Rates, operators_time
from diffgenz.operators.layer_format import DTYPE
from diffgenz.operators.operator import Kind, Operator
from diffgenz.operators.precision import Precision
from genz.graph import ATTENTION_LAWS, Entry, Graph, Holds, Kernel, Law, Message, Pattern
from genz.system import System

START_UP = 5e-6
"""Seconds to start a collective. Quirk: a message between stages starts at once."""

Column = np.ndarray


class Footprint(NamedTuple):
    """The sums of a graph over all its entries and their repeats.

    Arguments:
        weights: B of weights.
        cache: B of KV cache or state.
        idle_weights: B of the weights of kernels without rows.
        flops: FLOP.
        traffic: B that are read and written.
        largest: B that the kernel with most traffic moves in one execution.
    """

    weights: float
    cache: float
    idle_weights: float
    flops: float
    traffic: float
    largest: float


class Timing(NamedTuple):
    """Seconds of one execution of each entry.

    Arguments:
        compute, memory, communication: as if each of them were alone.
        total: of the entry.
        ideal_compute, ideal_memory: without efficiencies and with all tensors off chip, as GenZ's
            energy model takes them.
        repeats: executions of the entry.
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
    """Graphs with the operators of their kernels.

    Arguments:
        graphs: in their order.
        entries: of all graphs, one after the other.
        owner: index of the graph of each entry.
        kernels: indices of those entries that are kernels.
        operators: of the kernels, as one batched record.
        held_size: B per element that each kernel holds.
        footprints: of the graphs.
    """

    graphs: Sequence[Graph]
    entries: list[Entry]
    owner: Column
    kernels: Column
    operators: Operator
    held_size: Column
    footprints: list[Footprint]


def measure(graphs: Sequence[Graph]) -> Measured:
    """Build all operators, and sum the bytes and FLOP of each graph."""
    entries = [entry for graph in graphs for entry in graph.entries]
    owner = np.repeat(np.arange(len(graphs)), [len(graph.entries) for graph in graphs])
    at = np.array([i for i, entry in enumerate(entries) if isinstance(entry, Kernel)], dtype=int)
    kernels = [entry for entry in entries if isinstance(entry, Kernel)]
    systems = [graphs[i].system for i in owner[at]]
    held_size = np.array(
        [_held_size(kernel, system) for kernel, system in zip(kernels, systems, strict=True)]
    )
    moved = [np.zeros(0)] * 3
    with jax.enable_x64(True):
        operators = _operators(kernels, _per_entry(graphs, owner[at], "element_size"), held_size)
        if kernels:
            moved = [np.asarray(column) for column in _moved(operators)]
    footprints = _footprints(len(graphs), kernels, owner[at], *moved)
    return Measured(graphs, entries, owner, at, operators, held_size, footprints)


def run(measured: Measured, bandwidths: Sequence[float]) -> list[Timing]:
    """Time all entries.

    Arguments:
        measured: the graphs.
        bandwidths: off-chip bandwidth of each graph, in B/s.

    Returns:
        The times of each graph's entries.
    """
    graphs, entries, owner = measured.graphs, measured.entries, measured.owner
    compute, memory, communication, ideal_compute, ideal_memory = (
        np.zeros(len(entries)) for _ in range(5)
    )
    total = np.zeros(len(entries))
    with jax.enable_x64(True):
        at = measured.kernels
        if len(at):
            fields = ("on_chip_bandwidth", "compute_efficiency", "memory_efficiency")
            machine = _Machine(
                _per_entry(graphs, owner[at], "peak_flops"),
                np.asarray(bandwidths, float)[owner[at]],
                *(_per_entry(graphs, owner[at], field) for field in fields),
            )
            on_chip = tuple(
                np.array([getattr(entries[i].on_chip, tensor) for i in at])
                for tensor in ("inputs", "held", "outputs")
            )
            plain = _per_entry(graphs, owner[at], "element_size") / measured.held_size
            columns = (compute, memory, total, ideal_compute, ideal_memory)
            times = _kernel_times(measured.operators, on_chip, machine, plain)
            for column, values in zip(columns, times, strict=True):
                column[at] = values
        for pattern in Pattern:
            alike = [
                i
                for i, entry in enumerate(entries)
                if isinstance(entry, Message) and entry.pattern is pattern
            ]
            at = np.array(alike, dtype=int)
            if len(at):
                nodes = np.array([float(entries[i].nodes) for i in at])
                elements = np.array([float(entries[i].elements) for i in at])
                volume = elements * _per_entry(graphs, owner[at], "element_size")
                fields = ("link_bandwidth", "link_latency", "comm_efficiency")
                links = (_per_entry(graphs, owner[at], field) for field in fields)
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
    """Seconds of one kernel: computing, memory, total, ideal computing and ideal memory.

    The library's roofline has one memory, so that on-chip tensors count as fewer bytes here, by
    the ratio of the bandwidths.

    Arguments:
        op: the kernel.
        on_chip: whether its inputs, its weights and its outputs are on chip.
        machine: where it runs.
        plain: B per element of W uncompressed / as held.
    """
    accelerator = Accelerator(
        "GenZ",
        {"bf16": machine.peak_flops},
        machine.memory_bandwidth,
        1.0,
        compute_efficiency=machine.compute_efficiency,
        memory_efficiency=machine.memory_efficiency,
    )
    rates = Rates.of(accelerator, Execution.of(accelerator, Precision("bf16")))
    discount = machine.memory_bandwidth / machine.on_chip_bandwidth
    inputs, held, outputs = (jnp.where(on, discount, 1.0) for on in on_chip)
    charged = dataclasses.replace(
        op, inputs=op.inputs * inputs, weights=op.weights * held, outputs=op.outputs * outputs
    )
    compute = charged.flops * rates.per_flop(charged.part)
    memory = charged.traffic * rates.memory
    total = operators_time((charged,), rates, HARD)
    ideal_memory = (op.inputs + op.weights * plain + op.outputs) / machine.memory_bandwidth
    times = (compute, memory, total, compute * machine.compute_efficiency, ideal_memory)
    works = op.flops > 0  # Quirk: without arithmetic, moving bytes takes no time.
    return tuple(jnp.where(works, time, 0.0) for time in times)


class Ring(Topology):
    """One flat ring, which is all the wiring that GenZ knows."""

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
    """The operators of all kernels, in order, as one batched record; there is one call per law.

    Arguments:
        kernels: in their order.
        size: B per element of each one's inputs and outputs.
        held_size: B per element of each one's W.
    """
    alike: dict[tuple[Law, tuple[str, ...]], list[int]] = {}
    for i, kernel in enumerate(kernels):
        alike.setdefault((kernel.law, tuple(kernel.extents)), []).append(i)
    parts = []
    for (law, letters), at in alike.items():
        extents = {
            letter: np.array([float(kernels[i].extents[letter]) for i in at]) for letter in letters
        }
        parts.append(_batched(law)(extents, size[at], held_size[at]))
    if not parts:
        return Operator("none", Kind.LINEAR)
    order = np.argsort(np.concatenate([np.asarray(at) for at in alike.values()]))

    def joined(*columns: Any) -> Column:
        return np.concatenate([np.asarray(column) for column in columns])[order]

    return jax.tree.map(joined, *parts)


@cache
def _batched(law: Law) -> Any:
    """A law over columns. Names and kinds are dropped, since GenZ has one peak for all kinds."""

    @eqx.filter_jit
    @jax.vmap
    def operators(extents: dict[str, Scalar], size: Scalar, held_size: Scalar) -> Operator:
        return dataclasses.replace(
            law(extents, size, held_size),
            name="GenZ",
            kind=Kind.LINEAR,
            part=DTYPE,
            kernel="",
            shape=None,
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
    """The FLOP, the B of traffic, and the B of W of one kernel."""
    return jnp.asarray(op.flops), jnp.asarray(op.traffic), jnp.asarray(op.weights)


def _footprints(
    graphs: int,
    kernels: Sequence[Kernel],
    owner: Column,
    flops: Column,
    traffic: Column,
    held: Column,
) -> list[Footprint]:
    repeats = np.array([float(kernel.repeats) for kernel in kernels])
    shares = np.array([float(kernel.held_share) for kernel in kernels])
    weights = np.array([kernel.holds is Holds.WEIGHTS for kernel in kernels], dtype=bool)
    cached = np.array([kernel.holds is Holds.CACHE for kernel in kernels], dtype=bool)
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
