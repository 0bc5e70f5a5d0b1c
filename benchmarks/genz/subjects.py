"""Golden rows: the graphs of each, where they are placed, and our numbers beside GenZ's."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from genz.evaluation import Footprint, Timing
from genz.graph import (
    ATTENTION_LAWS,
    LAWS,
    RESIDENCY,
    Graph,
    Kernel,
    Law,
    Message,
    Pattern,
    einsum_law,
)
from genz.layers import Decode, Prompt, Shape, Split
from genz.memory import Placement, place
from genz.phases import chunked, decode, expected_tokens, micro_batch, prefill
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


class Primitive(Subject):
    """One operator or collective on one system."""

    def __init__(self, row: Row):
        args, kind = row["args"], row["op_type"]
        self.out = row["out"]
        if kind == "Sync":
            elements = args["B"] * args["M"] * args["N"]
            entry = Message(kind, Pattern(args["collective"]), args["nodes"], elements)
        elif kind == "Einsum":
            law, letters = checked_einsum(args["equation"])
            extents = {letter: args["dims"][letter] for letter in letters}
            entry = Kernel(kind, law, extents, RESIDENCY[row["residency"]])
        elif kind in LAWS:
            law, letters = LAWS[kind]
            extents = {letter: args[letter] for letter in letters}
            entry = Kernel(kind, law, extents, RESIDENCY[row["residency"]])
        else:
            raise NotCovered(f"no operator {kind!r}")
        self.graphs = (Graph(System.of_primitive_row(row["system"]), (entry,)),)

    def compare(self, results: Sequence[Result]) -> Pairs:
        ((footprint, _, timing),) = results
        out = self.out
        moved = out["input_a_bytes"] + out["input_w_bytes"] + out["output_bytes"]
        return {
            "latency": (timing.latency, out["latency_s"]),
            "compute": (timing.compute[0], out["compute_s"]),
            "memory": (timing.memory[0], out["memory_s"]),
            "communication": (timing.communication[0], out["comm_s"]),
            "flops": (footprint.flops, out["flops"]),
            "bytes": (footprint.traffic, moved),
        }


def checked_einsum(equation: str) -> tuple[Law, list[str]]:
    """The law of `equation`, and its letters.

    Raises:
        NotCovered: it is not a product of two operands.
    """
    equation = equation.replace(" ", "")
    inputs, arrow, output = equation.partition("->")
    if inputs.count(",") != 1 or not arrow or not set(output) <= set(inputs) - {","}:
        raise NotCovered(f"einsum {equation!r} is not a product of two operands")
    return einsum_law(equation), list(dict.fromkeys(inputs.replace(",", "")))


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


class Estimate(Subject):
    """A whole model: prefill, decode or chunked."""

    def __init__(self, row: Row):
        self.row, self.out, self.phase, self.work = row, row["out"], row["phase"], row["workload"]
        self.split = checked_split(row["parallel"])
        # In chunks all layers are attention, whatever they are in the model.
        shape_of = Shape.of if self.phase == "chunked" else checked_model
        shape, system = shape_of(row["model"]), System.of_model_row(row["system"])
        self.graphs = (model_graph(self.phase, row, shape, self.split, system),)

    def place(self, footprints: Sequence[Footprint]) -> list[Placement]:
        ((footprint,), (graph,)) = footprints, self.graphs
        held, offload = footprint.weights + footprint.cache, self.row.get("offload_allowed", False)
        return [place(held, graph.system, self.split.pipeline, offload=offload)]

    def compare(self, results: Sequence[Result]) -> Pairs:
        ((footprint, placement, timing),) = results
        pairs = outcome_pairs(placement, self.out)
        if "summary" in self.out:
            pairs |= summary_pairs([footprint], self.out)
        if self.out["status"] == "ok":
            pairs["latency"] = timing.latency / MILLI, self.out["latency_ms"]
            pairs["throughput"] = self._served / timing.latency, self.out["throughput_per_s"]
            pairs |= time_pairs(self.graphs, [timing], self.out["summary"])
        return pairs

    @property
    def _served(self) -> float:
        """What the throughput counts: the requests, and in a chunk the tokens.

        A chunk serves its new tokens, and one token for each decode entry. Quirk
        throughput_batch_over_one_microbatch_latency: the requests are those of the whole batch.
        """
        if self.phase == "chunked":
            prompts, decodes = self.work["prefill_kv_sizes"], self.work["decode_kv_sizes"]
            return sum(prompt[1] for prompt in prompts) + len(decodes)
        return self.work["batch"]


class Speculative(Subject):
    """A target model that verifies a draft's tokens as a chunk.

    Its memory is that of both models' decode graphs; the draft runs without expert ranks.
    """

    def __init__(self, row: Row):
        self.row, self.out, self.work = row, row["out"], row["workload"]
        self.split = split = checked_split(row["parallel"])
        target, draft = checked_model(row["model"]), checked_model(row["draft_model"])
        system = System.of_model_row(row["system"])
        work, self.drafts = self.work, self.work["gamma"]
        context, generated = work["input_tokens"], work["output_tokens"]
        requests = micro_batch(work["batch"], split)
        verification: tuple[list[Prompt], list[Decode]] = [(context + generated, self.drafts)], []
        self.graphs = (
            Graph(system, chunked(target, split, requests, *verification)),
            Graph(system, decode(draft, split._replace(expert=1), requests, 1, context, generated)),
            Graph(system, decode(target, split, requests, 1, context, generated)),
            Graph(system, decode(draft, split, requests, 1, context, generated)),
        )

    def place(self, footprints: Sequence[Footprint]) -> list[Placement]:
        held = sum(footprint.weights + footprint.cache for footprint in footprints[2:])
        system, offload = self.graphs[0].system, self.row.get("offload_allowed", False)
        stages = self.split.pipeline
        placed = place(held, system, stages, offload=offload, offloaded_together=True)
        return [placed] * len(self.graphs)

    def compare(self, results: Sequence[Result]) -> Pairs:
        verify, draft = results[:2]
        pairs = outcome_pairs(verify.placement, self.out)
        if self.out["status"] != "ok":
            return pairs
        latency = self.latency(verify.timing, draft.timing)
        tokens = expected_tokens(self.drafts, self.work["acceptance"])
        pairs["latency"] = latency / MILLI, self.out["latency_ms"]
        pairs["throughput"] = self.work["batch"] * tokens / latency, self.out["throughput_per_s"]
        pairs["expected_tokens"] = tokens, self.out["expected_tokens"]
        pairs |= summary_pairs([verify.footprint, draft.footprint], self.out)
        pairs |= time_pairs(self.graphs[:2], [verify.timing, draft.timing], self.out["summary"])
        return pairs

    def latency(self, verify: Timing, draft: Timing) -> float:
        """Seconds of one round. Quirk: with stages it is of all micro-batches, but only here."""
        once = verify.latency + self.drafts * draft.latency
        if self.split.pipeline == 1:
            return once
        waits = self.work["batch"] // micro_batch(self.work["batch"], self.split) - 1
        return once + waits * once / self.split.pipeline


class Operators(Subject):
    """Every operator of a model; in speculative decoding, every operator of the verification."""

    def __init__(self, row: Row):
        self.row = row
        if row["phase"] == "spec":
            self.model: Subject = Speculative({**row, "out": {}, "offload_allowed": True})
        else:
            self.model = Estimate({**row, "out": {}, "offload_allowed": True})
        self.graphs = self.model.graphs

    def place(self, footprints: Sequence[Footprint]) -> list[Placement]:
        return self.model.place(footprints)

    def compare(self, results: Sequence[Result]) -> Pairs:
        timing, graph = results[0].timing, self.graphs[0]
        latency = timing.latency
        if isinstance(self.model, Speculative):
            latency = self.model.latency(results[0].timing, results[1].timing)
        shown = [
            i
            for i, entry in enumerate(graph.entries)
            if isinstance(entry, Kernel) or timing.total[i] > 0
        ]
        theirs = [op for op in self.row["ops"] if op["op_type"] != "Sync" or op["latency_ms"] > 0]
        names = [graph.entries[i].name for i in shown]
        pairs: Pairs = {
            "total": (latency / MILLI, self.row["total_latency_ms"]),
            "names": (names == [op["layer_name"] for op in theirs], True),
        }
        if len(shown) == len(theirs):
            for i, op in zip(shown, theirs, strict=True):
                label = f"{op['layer_name']} {i}"
                pairs[f"{label} repeat"] = timing.repeats[i], op["repeat"]
                columns = {
                    "latency": timing.total,
                    "compute": timing.compute,
                    "memory": timing.memory,
                    "comm": timing.communication,
                }
                for quantity, ours in columns.items():
                    pairs[f"{label} {quantity}"] = ours[i] / MILLI, op[f"{quantity}_ms"]
        theirs = self.row.get("energy_kwh_power1000W_30_40_20_10")
        if theirs is not None:
            pairs["energy"] = energy(timing, 1000.0) / 3.6e6, theirs
        return pairs


def energy(timing: Timing, power: float) -> float:
    """The energy in J: a static part, and one by the use of compute, memory and network.

    Quirk: shares of `power` count as 30 instead of 30 %.

    Arguments:
        timing: of the entries.
        power: W.
    """
    busy = timing.total + 0.0
    dynamic = 40 * timing.ideal_compute + 20 * timing.ideal_memory + 10 * timing.communication
    return float(timing.repeats @ (power * (30 * busy + dynamic)))


class Candidates(Subject):
    """The layouts, of tensor x pipeline ranks, that GenZ's search considers."""

    def __init__(self, row: Row):
        self.expected = {tuple(pair) for pair in row["out"]}
        self.found = set(candidates(checked_model(row["model"]), row["total_nodes"]))

    def compare(self, results: Sequence[Result]) -> Pairs:
        return {"candidates": (self.found == self.expected, True)}


def candidates(shape: Shape, accelerators: int) -> list[tuple[int, int]]:
    """The (tensor, pipeline) ranks that divide heads and layers.

    Quirk: they never use all of the accelerators.
    """
    if accelerators == 1:
        return [(1, 1)]
    tensors = [n for n in range(1, shape.heads + 1) if shape.heads % n == 0]
    stages = [n for n in range(1, shape.layers + 1) if shape.layers % n == 0]
    return [
        (tensor, stage)
        for tensor in tensors
        for stage in stages
        if accelerators // 2 <= tensor * stage < accelerators
    ]


class Best(Subject):
    """The layout with most tokens/s. Quirk: the batch is divided by the stages twice."""

    def __init__(self, row: Row):
        self.out, shape = row["out"], checked_model(row["model"])
        batch = row["batch"]
        self.layouts = [
            layout for layout in candidates(shape, row["total_nodes"]) if layout[1] <= batch
        ]
        if not self.layouts:
            raise NotCovered("no layout to choose from")
        system = System.of_search_row(row["system"], row["bits"])
        self.batches = [batch // stages for _, stages in self.layouts]
        work = {
            "input_tokens": row["input_tokens"],
            "output_tokens": row["output_tokens"],
            "beams": row["beam"],
        }

        def graph(tensor: int, stages: int, part: int) -> Graph:
            asked = {"workload": {**work, "batch": part}}
            return model_graph(row["stage"], asked, shape, Split(tensor, 1, stages), system)

        self.graphs = tuple(
            graph(*layout, part) for layout, part in zip(self.layouts, self.batches, strict=True)
        )

    def compare(self, results: Sequence[Result]) -> Pairs:
        rates = [
            part / result.timing.latency for part, result in zip(self.batches, results, strict=True)
        ]
        layout = (self.out["TP"], self.out["PP"])
        pairs: Pairs = {
            "best": (max(rates), self.out["Tokens/s"]),
            "considered": (layout in self.layouts, True),
        }
        if layout not in self.layouts:
            return pairs
        theirs = self.layouts.index(layout)
        return pairs | {
            "throughput": (rates[theirs], self.out["Tokens/s"]),
            "latency": (results[theirs].timing.latency / MILLI, self.out["Latency(ms)"]),
            "micro_batch": (self.batches[theirs], self.out["micro batch"]),
        }


def subject_of(row: Row) -> Subject:
    """The subject of any golden row.

    Raises:
        NotCovered: the row has none.
    """
    try:
        subject = _subject_of(row)
        for graph in subject.graphs:
            _check(graph)
        return subject
    except (KeyError, TypeError, ValueError, IndexError, ArithmeticError, AttributeError) as error:
        raise NotCovered(f"{type(error).__name__}: {error}") from error


def _check(graph: Graph) -> None:
    """Raise where a number of a graph is bad.

    All graphs are evaluated together, so that one bad number must not reach the others.
    """
    for field, value in graph.system._asdict().items():
        if field != "gear" and not (float(value) > 0 or (field == "link_latency" and value == 0)):
            raise NotCovered(f"{field} of {value!r}")
    for entry in graph.entries:
        is_kernel = isinstance(entry, Kernel)
        for extent in entry.extents.values() if is_kernel else (entry.nodes, entry.elements):
            float(extent)


def _subject_of(row: Row) -> Subject:
    kind = row.get("kind", "estimate")
    if kind == "estimate":
        return Speculative(row) if row["phase"] == "spec" else Estimate(row)
    kinds: dict[str, type[Subject]] = {"primitive": Primitive, "op_in_model": Operators}
    if kind == "search":
        kind = row["what"]
        kinds = {"parallel_candidates_TP_PP": Candidates, "best_parallelization": Best}
    if kind not in kinds:
        raise NotCovered(f"no rows of kind {kind!r}")
    return kinds[kind](row)
