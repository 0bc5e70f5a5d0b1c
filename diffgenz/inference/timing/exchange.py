"""The time that DeepEP's kernels take to bring tokens to the ranks of their experts and back.

It is known where these kernels are fitted. Low-latency kernels send a token once for each of its
experts. Normal kernels send it once for each rank, and over the network between nodes once for each
node (arXiv 2412.19437, section 3.2.2). Both see the two innermost levels of the platform's network;
on levels further out only the time on the wires is counted.
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp

from diffgenz.core.smooth import Scalar, smooth_max
from diffgenz.hardware.network import Level
from diffgenz.inference.timing.collectives import Group
from diffgenz.kernels.families import EXCHANGES
from diffgenz.kernels.hardware import Wires
from diffgenz.kernels.library import Bound, Library, executed, shared
from diffgenz.kernels.shapes import ExchangeShape
from diffgenz.operators.message import Exchange
from diffgenz.operators.routing import reached

SMS = 20.0
"""Streaming multiprocessors given to normal kernels (DeepEP's default, `Buffer.num_sms`)."""


def fitted_exchanges(library: Library) -> list[tuple[str, str]]:
    """The families of exchanges that a library has fits of.

    Returns:
        Each family, and the format of the messages that it was fitted to; it times messages of any
        format.
    """
    return [
        (family, next(iter(library.forms[family])))
        for families in EXCHANGES.values()
        for family in families
        if library.forms.get(family)
    ]


class DeepEP(eqx.Module):
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
        cls, library: Library | None, network: Sequence[Level], launch: Scalar
    ) -> tuple["DeepEP", ...]:
        """The modes that a library has fits of.

        Arguments:
            library: fitted kernels by family and format; None: there are none.
            network: the network levels, innermost first.
            launch: s that a kernel takes to launch.
        """
        if library is None or not network:
            return ()
        near, far = network[0], network[min(1, len(network) - 1)]
        wires = Wires.of(near.wire(launch), far.wire(launch))
        fitted = fitted_exchanges(library)
        kernels = {family: Bound(library.forms[family][format], wires) for family, format in fitted}
        kernels = shared(kernels, launch)
        found = []
        for mode, families in EXCHANGES.items():
            bound = [kernels[family] for family in families if family in kernels]
            if len(bound) == len(families):
                found.append(cls(*bound, low_latency=mode == "low_latency"))
        return tuple(found)

    def seconds(self, exchange: Exchange, stage: Group, owners: Scalar, sharpness: float) -> Scalar:
        """Seconds of one dispatch and combine over the ranks of a stage; zero for one rank.

        Arguments:
            exchange: the tokens that travel.
            stage: the ranks of the stage.
            owners: expert-parallel groups; the ranks of one group need the same tokens.
            sharpness: of the maximum over levels.
        """
        inside, ranks = stage.rungs[0].ranks.count, stage.count
        nodes = jnp.ceil(ranks / inside)
        if self.low_latency:
            near = exchange.picks / owners * (inside - 1)
            far = exchange.picks * ranks / owners * (1 - 1 / nodes)
            lanes = exchange.experts
        else:
            near = reached(ranks, 1 / owners, exchange.picks) * (1 - 1 / inside)
            nodes_reached = reached(nodes, 1 / jnp.minimum(nodes, owners), exchange.picks)
            far, lanes = nodes_reached * (1 - 1 / nodes), SMS
        phases = []
        for bound, own in ((self.dispatch, exchange.dispatch), (self.combine, exchange.combine)):
            moved = own * exchange.busiest
            shape = ExchangeShape(
                ranks, nodes, exchange.tokens, own, near * moved, far * moved, lanes
            )
            phases.append(executed(bound, [(1.0, shape)]))
        fitted = sum(phases, start=jnp.zeros(()))
        if len(stage.rungs) > 2:
            volume = exchange.busiest * (exchange.dispatch + exchange.combine)
            wires = stage.there_and_back(volume, exchange.picks, owners, sharpness)
            fitted = smooth_max(fitted, wires, sharpness)
        return fitted
