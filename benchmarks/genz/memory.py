"""Whether a graph fits, and what GenZ does where it does not."""

from typing import NamedTuple

from genz.system import System


class Placement(NamedTuple):
    """Whether it fits (by offload, if `offloaded`), and the off-chip bandwidth then, in B/s."""

    fits: bool
    offloaded: bool
    bandwidth: float


def place(
    held: float, system: System, stages: int, *, offload: bool, offloaded_together: bool = False
) -> Placement:
    """Weights and KV cache, `held` B over all stages, on `system`.

    Quirks: activations take no memory, the KV cache is one micro-batch's (kv_footprint_counts_one_microbatch_only), the stages share evenly,
    and offload slows down every tensor. `offloaded_together`: as if one stage's memory faced the need of all (speculative decoding).
    """
    if (
        not held > system.memory_capacity * stages
    ):  # so written that a NaN of GEAR's fits, as in GenZ
        return Placement(True, False, system.memory_bandwidth)
    need = held if offloaded_together else held / stages
    kept = min(need, system.memory_capacity)
    bandwidth = need / max(
        kept / system.memory_bandwidth, (need - system.memory_capacity) / system.offload_bandwidth
    )
    return Placement(offload, offload, bandwidth if offload else system.memory_bandwidth)
