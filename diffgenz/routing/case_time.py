"""How long layers of experts take in a scenario: `LayerTime` of placements, by its own kernels."""

import numpy as np

from diffgenz.routing import measures
from diffgenz.routing.layer_time import Demand
from diffgenz.routing.migration import Migration
from diffgenz.routing.timing import ModelledTime
from diffgenz.scenario.scenario import Scenario

METRICS = {"prefill": "ttft", "decode": "tpot"}
"""The metric that each phase of a trace belongs to."""


class CaseTime:
    """The seconds of layers under a demand, by whatever times the kernels of a scenario.

    Kernels that send a token to a node once, and kernels that send it for each of its experts, see
    different traffic. `deduplicated` says which of the two the scenario's are.

    Arguments:
        case: a concrete scenario with a plan; its routing does not count.
        phase: "prefill" or "decode".
        kinds: the kind of each layer with experts, counted from 0 in the order of the blocks.
    """

    def __init__(self, case: Scenario, phase: str, kinds: tuple[int, ...]):
        self._kinds = np.array(kinds)
        self._times = {
            kind: ModelledTime(case, METRICS[phase], kind) for kind in sorted(set(kinds))
        }
        self._first = self._times[kinds[0]]
        self.deduplicated = self._slope("far") > self._slope("remote")

    def _slope(self, name: str) -> float:
        """What half as many copies more cost, in s: enough to tell which copies kernels send."""
        work = self._first.uniform
        more = {name: 1.5 * (getattr(work, name) or 0.0)}
        return float(self._first(*work._replace(**more)) - self._first(*work))

    @property
    def tokens(self) -> float:
        """New tokens of all ranks in one iteration."""
        return self._first.tokens

    @property
    def token_bytes(self) -> float:
        """B of one copy of a token, to its expert and back."""
        return self._first.token_bytes

    def migration(self, case: Scenario, steps: float) -> Migration:
        """What it costs to move experts: over the slowest level of the network that ranks span.

        Arguments:
            case: the scenario.
            steps: iterations until experts are placed anew, at least 1.
        """
        bandwidth = min(
            (float(level.bandwidth * level.efficiency) for level in case.platform.network),
            default=float("inf"),
        )
        return Migration(self._first.expert_bytes / bandwidth, steps)

    def __call__(self, demand: Demand, /) -> np.ndarray:
        """The seconds of each layer: [layers].

        Arguments:
            demand: what an iteration asks: of traffic that is de-duplicated where the kernels are.
        """
        pair = measures.pair_imbalance(demand.to_nodes)
        wire = measures.wire_imbalance(demand.to_nodes)
        copies = measures.away(demand.to_nodes).sum((1, 2)) / self.tokens
        near = demand.to_ranks.sum((1, 2)) / self.tokens
        found = np.empty(len(copies))
        for kind, time in self._times.items():
            at = self._kinds == kind
            even = time.uniform
            found[at] = time(
                demand.rows.max(1)[at],
                demand.active.max(1)[at],
                copies[at] if self.deduplicated else even.far,
                near[at] if self.deduplicated else even.near,
                pair[at],
                wire[at],
                None if self.deduplicated else copies[at],
                slots=demand.slots,
            )
        return found
