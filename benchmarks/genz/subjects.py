"""Golden rows: the graphs of each, where they are placed, and our numbers beside GenZ's."""

from collections.abc import Sequence

from genz.evaluation import Footprint, Timing
from genz.graph import LAWS, RESIDENCY, Graph, Kernel, Law, Message, Pattern, einsum_law
from genz.layers import Decode, Prompt, Shape
from genz.memory import Placement, place
from genz.phases import chunked, decode, expected_tokens, micro_batch
from genz.search_subjects import Best, Candidates
from genz.subject import (
    MILLI,
    NotCovered,
    Pairs,
    Result,
    Row,
    Subject,
    checked_model,
    checked_split,
    model_graph,
    outcome_pairs,
    summary_pairs,
    time_pairs,
)
from genz.system import System


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
