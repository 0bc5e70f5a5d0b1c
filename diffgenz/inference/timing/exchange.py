"""The time that DeepEP's kernels take to bring tokens to the ranks of their experts and back.

It is known where these kernels are fitted. Low-latency kernels send a token once for each of its
experts, straight to their ranks, so that all wait for the fullest rank. Normal kernels send it once
for each rank, and over the network between nodes once for each node (arXiv 2412.19437, section
3.2.2), spread over the links of the node: there all wait for the busiest node, and inside nodes for
the fullest rank. Both see the two innermost levels of the platform's network; on levels further out
only the time on the wires is counted.
"""

from collections.abc import Mapping, Sequence

import equinox as eqx

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar, smooth_max
from diffgenz.core.tree import Tree
from diffgenz.hardware.network import Level
from diffgenz.inference.timing.collectives import Group
from diffgenz.kernels.form import Form
from diffgenz.kernels.hardware import Wires
from diffgenz.kernels.library import Bound, executed, shared
from diffgenz.kernels.shapes import ExchangeShape
from diffgenz.operators.message import Exchange
from diffgenz.operators.routing import times
from diffgenz.operators.visits import visited

SMS = 20.0
"""Streaming multiprocessors given to normal kernels (DeepEP's default, `Buffer.num_sms`)."""


class DeepEP(Tree):
    """DeepEP's kernels in one of its modes.

    Arguments:
        dispatch: the fitted kernel that takes tokens to their experts.
        combine: the fitted kernel that brings the results back.
        low_latency: whether the mode is low-latency; normal otherwise.
    """

    dispatch: Bound
    combine: Bound
    low_latency: bool = eqx.field(static=True)

    @classmethod
    def modes(
        cls,
        fitted: Mapping[str, tuple[Form, Form]],
        network: Sequence[Level],
        launch: Scalar,
    ) -> tuple["DeepEP", ...]:
        """The modes whose kernels are fitted.

        Arguments:
            fitted: dispatch and combine, by mode.
            network: the network levels, innermost first.
            launch: s that a kernel takes to launch.
        """
        if not fitted or not network:
            return ()
        near, far = network[0], network[min(1, len(network) - 1)]
        wires = Wires.of(near.wire(launch), far.wire(launch))
        kernels = {
            (mode, phase): Bound(form, wires)
            for mode, forms in fitted.items()
            for phase, form in zip(("dispatch", "combine"), forms, strict=True)
        }
        kernels = shared(kernels, launch)
        return tuple(
            cls(
                kernels[mode, "dispatch"],
                kernels[mode, "combine"],
                low_latency=mode == "low_latency",
            )
            for mode in fitted
        )

    def seconds(self, exchange: Exchange, stage: Group, owners: Scalar, sharpness: float) -> Scalar:
        """Seconds of one dispatch and combine over the ranks of a stage; zero for one rank.

        Arguments:
            exchange: the tokens that travel.
            stage: the ranks of the stage.
            owners: expert-parallel groups; the ranks of one group need the same tokens.
            sharpness: of the maximum over levels.
        """
        inside, ranks = stage.rungs[0].ranks.count, stage.count
        nodes = xp.ceil(ranks / inside)
        picks, experts, limit = exchange.picks, exchange.experts, exchange.limit
        travel = exchange.travel
        if self.low_latency:
            near = picks / owners * (inside - 1)
            far = picks * ranks / owners * (1 - 1 / nodes)
            if travel.remote is not None:
                elsewhere = travel.remote * (1 - 1 / nodes)
                near, far = near * nodes * xp.maximum(1 - elsewhere, 0.0), far * travel.remote
            lanes, beyond = experts, exchange.excess
        else:
            near = visited(ranks, owners, picks, experts, limit) * (1 - 1 / inside)
            near = times(near, travel.near)
            nodes_visited = visited(nodes, xp.minimum(nodes, owners), picks, experts, limit)
            far = times(nodes_visited * (1 - 1 / nodes), travel.far)
            lanes, beyond = SMS, travel.wire
        near, far = times(near, exchange.excess), times(far, beyond)
        phases = []
        for bound, own in ((self.dispatch, exchange.dispatch), (self.combine, exchange.combine)):
            shape = ExchangeShape(ranks, nodes, exchange.tokens, own, near * own, far * own, lanes)
            phases.append(executed(bound, [(1.0, shape)]))
        fitted = sum(phases, start=xp.zeros(()))
        if len(stage.rungs) > 2:
            wires = stage.there_and_back(exchange, owners, sharpness, padded=False)
            fitted = smooth_max(fitted, wires, sharpness)
        return fitted
