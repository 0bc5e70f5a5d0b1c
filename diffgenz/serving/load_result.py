"""`LoadResult`: what users of a server under load see, and what its operator sees."""

from typing import Any

import numpy as np

from diffgenz.core.reprs import text_of_record
from diffgenz.core.smooth import Flag, Leaf
from diffgenz.core.tree import Tree


class Latencies(Tree):
    """A latency over requests, or over tokens.

    Arguments:
        mean: s.
        p50: s that half of them do not exceed.
        p90: s that nine of ten do not exceed.
        p99: s that all but one of a hundred do not exceed.
    """

    mean: Leaf
    p50: Leaf
    p90: Leaf
    p99: Leaf

    def __repr__(self) -> str:
        return text_of_record(self, dict.fromkeys(("mean", "p50", "p90", "p99"), "s"))


class LoadResult(Tree):
    """A deployment under load, in steady state.

    Arguments:
        ttft: s from the arrival of a request to its first token, with all waiting.
        tpot: s between tokens of a request, each request's own mean.
        itl: s between tokens, over all tokens.
        end_to_end: s from the arrival of a request to its last token.
        requests_per_second: requests/s that are served.
        throughput: output tokens/s of all replicas.
        concurrency: requests under way, those that wait included.
        running: requests of which tokens are decoded, in the mean over time.
        utilization: `requests_per_second` over `saturation_rate`.
        saturation_rate: requests/s that cannot be exceeded.
        cache_use: the share of the KV cache in use, in the mean.
        goodput: requests/s that meet the objectives; None where there are none.
        preempts: whether running requests are likely to be put back since the cache is full; what
            that costs is in the saturation rate and in closed loops, not in latencies below it.
        saturated: whether more requests arrive than can be served; of latencies only those of a
            batch or under `jit`, where nothing can be refused, are then given, just below
            saturation.
        residual: how far the solution is from solving its equations, relatively; of float32 small
            unless it is within hundredths of saturation.
    """

    ttft: Latencies
    tpot: Latencies
    itl: Latencies
    end_to_end: Latencies
    requests_per_second: Leaf
    throughput: Leaf
    concurrency: Leaf
    running: Leaf
    utilization: Leaf
    saturation_rate: Leaf
    cache_use: Leaf
    goodput: Leaf | None
    preempts: Flag
    saturated: Flag
    residual: Leaf

    def __repr__(self) -> str:
        units = dict.fromkeys(("requests_per_second", "saturation_rate", "goodput"), "1/s")
        return text_of_record(self, units | {"throughput": "tokens/s"})

    @property
    def figures(self) -> dict[str, Any]:
        """Every figure in SI by name, latencies as "ttft_mean", "ttft_p50" and so on."""
        found: dict[str, Any] = {}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if isinstance(value, Latencies):
                for kind in ("mean", "p50", "p90", "p99"):
                    found[f"{name}_{kind}"] = getattr(value, kind)
            elif value is not None:
                found[name] = value
        return found

    def to_dict(self) -> dict[str, Any]:
        """The `figures`.

        Returns:
            NumPy arrays: of shape () for one configuration, else of the shape of the batch.
        """
        return {name: np.asarray(value) for name, value in self.figures.items()}
