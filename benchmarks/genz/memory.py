"""Whether a graph fits in memory, and GenZ's bandwidth under offload where it does not."""

from typing import NamedTuple

from genz.system import System


class Placement(NamedTuple):
    """Where a graph's tensors are.

    Arguments:
        fits: whether they fit, with offload where it is allowed.
        offloaded: whether some of them are offloaded.
        bandwidth: off chip, in B/s.
    """

    fits: bool
    offloaded: bool
    bandwidth: float


def place(
    held: float, system: System, stages: int, *, offload: bool, offloaded_together: bool = False
) -> Placement:
    """The placement of a graph's weights and KV cache.

    Quirks: activations take no memory, the KV cache is one micro-batch's
    (kv_footprint_counts_one_microbatch_only), the stages share evenly, and offload slows down every
    tensor.

    Arguments:
        held: B of weights and KV cache over all stages.
        system: of each stage.
        stages: pipeline stages.
        offload: whether it is allowed.
        offloaded_together: whether one stage's memory faces the need of all stages (speculative
            decoding).
    """
    # A NaN of GEAR's fits, as in GenZ, which is why this is not `held <= ...`.
    if not held > system.memory_capacity * stages:
        return Placement(True, False, system.memory_bandwidth)
    need = held if offloaded_together else held / stages
    kept = min(need, system.memory_capacity)
    overflow = (need - system.memory_capacity) / system.offload_bandwidth
    bandwidth = need / max(kept / system.memory_bandwidth, overflow)
    return Placement(offload, offload, bandwidth if offload else system.memory_bandwidth)
