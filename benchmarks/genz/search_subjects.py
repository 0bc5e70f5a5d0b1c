"""Golden rows of GenZ's search: the layouts that it considers, and the best of them."""

from collections.abc import Sequence

from genz.graph import Graph
from genz.layers import Shape, Split
from genz.subject import MILLI, NotCovered, Pairs, Result, Row, Subject, checked_model, model_graph
from genz.system import System


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
