"""The levels of an accelerator's network as collectives see them."""

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.hardware.specs import Spec
from diffgenz.kernels.hardware import Wire, Wires


def wire_of(spec: Spec, level: int = 0) -> Wire:
    """A level of the network, the innermost by default.

    Raises:
        InputError: the accelerator's file has no such level, or states no launch latency.
    """
    if level >= len(spec.network):
        raise InputError(
            f"{spec.id}: network: it has {len(spec.network)} level(s), and level {level + 1} is needed; add it to the accelerator's file"
        )
    if not spec.execution.get("launch_latency"):
        raise InputError(
            f"{spec.id}: execution.launch_latency: it is not stated, and collectives need it; add it to the accelerator's file"
        )
    figures = spec.network[level].figures
    return Wire(
        *(
            np.float64(x)
            for x in (figures["bandwidth"], figures["latency"], spec.execution["launch_latency"])
        )
    )


def wires_of(spec: Spec) -> Wires:
    """The two innermost levels of the network.

    Raises:
        InputError: as `wire_of`.
    """
    near, far = wire_of(spec), wire_of(spec, 1)
    return Wires(near.bandwidth, near.latency, far.bandwidth, far.latency, near.launch)
