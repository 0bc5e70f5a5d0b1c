"""A golden row with its graphs, and what all kinds of rows have in common."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from genz.evaluation import Footprint, Timing
from genz.graph import ATTENTION_LAWS, Graph, Message
from genz.layers import Shape, Split
from genz.memory import Placement
from genz.phases import chunked, decode, micro_batch, prefill
from genz.system import System

MIB, MILLI, MEGA = 2.0**20, 1e-3, 1e6

Row = Mapping[str, Any]

Pairs = dict[str, tuple[Any, Any]]
"""Our number and GenZ's, by quantity. None stands for GenZ's NaN."""


class NotCovered(Exception):
    """The error of a row whose kind or values GENZ.md does not describe."""


class Result(NamedTuple):
    """The numbers of one graph."""

    footprint: Footprint
    placement: Placement
    timing: Timing


class Subject(ABC):
    """A golden row with its graphs.

    To implement one, build `graphs` from the row in `__init__`, where a missing key raises, and
    pair our numbers with GenZ's in `compare`.
    """

    @abstractmethod
    def __init__(self, row: Row): ...

    graphs: tuple[Graph, ...] = ()

    def place(self, footprints: Sequence[Footprint]) -> list[Placement]:
        """Where each graph's tensors are; by default all off chip, with memory unchecked."""
        return [Placement(True, False, graph.system.memory_bandwidth) for graph in self.graphs]

    @abstractmethod
    def compare(self, results: Sequence[Result]) -> Pairs:
        """Our numbers with GenZ's, by quantity.

        Arguments:
            results: of each of the graphs.
        """


def model_graph(phase: str, row: Row, shape: Shape, split: Split, system: System) -> Graph:
    """The graph of a prefill, decode or chunked row.

    Raises:
        NotCovered: it is of another phase.
    """
    work = row["workload"]
    if phase == "prefill":
        requests, tokens = micro_batch(work["batch"], split), work["input_tokens"]
        return Graph(system, prefill(shape, split, requests, tokens))
    if phase == "decode":
        requests, beams = micro_batch(work["batch"], split), work.get("beams", 1)
        tokens = work["input_tokens"], work["output_tokens"]
        return Graph(system, decode(shape, split, requests, beams, *tokens))
    if phase == "chunked":
        sizes = work["prefill_kv_sizes"], work["decode_kv_sizes"]
        return Graph(system, chunked(shape, split, 1, *sizes))
    raise NotCovered(f"no phase {phase!r}")


def checked_model(row: Row) -> Shape:
    """The model of a row.

    Raises:
        NotCovered: its layers are not alike, or of a kind that prefill and decode do not know.
    """
    if row["layer_type"] not in ("MHA-global", "Mamba"):
        raise NotCovered(f"layers of type {row['layer_type']!r}")
    if row["unique_layers"] != 1:
        raise NotCovered("layers of more than one kind")
    return Shape.of(row)


def checked_split(row: Row) -> Split:
    """The layout of a row.

    Raises:
        NotCovered: GenZ does not expose it.
    """
    if row["sp"] != 1:
        raise NotCovered("sequence parallelism, which GenZ does not expose")
    return Split.of(row)


def summary_pairs(footprints: Sequence[Footprint], out: Row) -> Pairs:
    """The quantities of GenZ's memory summary, summed over graphs.

    Quirk: where the model does not fit, FLOP are multiply-adds.
    """
    total, summary = Footprint(*map(sum, zip(*footprints, strict=True))), out["summary"]
    operations = total.flops if out["status"] == "ok" else total.flops / 2
    return {
        "weights": (total.weights / MIB, summary["weights_MB"]),
        "kv": (total.cache / MIB, summary["kv_MB"]),
        "idle_weights": (total.idle_weights / MIB, summary["unused_weights_MB"]),
        "flops": (operations / MEGA, summary["num_ops_mflop"]),
        "bytes": (total.traffic / MIB, summary["total_data_MB"]),
        "largest": (total.largest / MIB, summary["max_op_tensors_MB"]),
    }


def time_pairs(graphs: Sequence[Graph], timings: Sequence[Timing], summary: Row) -> Pairs:
    """The parts into which GenZ's summary splits the latency, summed over graphs."""
    attention = communication = 0.0
    for graph, timing in zip(graphs, timings, strict=True):
        for entry, seconds in zip(graph.entries, timing.total * timing.repeats, strict=True):
            if isinstance(entry, Message):
                communication += float(seconds)
            elif entry.law in ATTENTION_LAWS:
                attention += float(seconds)
    return {
        "communication": (communication / MILLI, summary["comm_latency_ms"]),
        "attention": (attention / MILLI, summary["attn_latency_ms"]),
    }


def outcome_pairs(placement: Placement, out: Row) -> Pairs:
    """Whether the model fits, and where it does, whether by offload."""
    fits: Pairs = {"fits": (placement.fits, out["status"] == "ok")}
    if out["status"] == "ok":
        fits["offloaded"] = placement.offloaded, out["is_offload"]
    return fits
