"""GenZ's hardware record, in SI."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

GIGA = 2.0**30
"""B/s in GenZ's GB/s. Quirk: it is 7.4 % above a vendor's."""

ELEMENT_SIZE = {
    "f32": 4.0,
    "bf16": 2.0,
    "int8": 1.0,
    "fp8": 1.0,
    "fp6": 0.75,
    "int4": 0.5,
    "fp4": 0.5,
    "int2": 0.25,
}
"""B per element. Quirk: weights, KV cache, activations, messages and arithmetic share a format."""

COMPUTE_MULTIPLIER = {
    "f32": 2.0,
    "bf16": 1.0,
    "int8": 0.5,
    "fp8": 0.5,
    "fp6": 0.5,
    "int4": 0.25,
    "fp4": 0.25,
    "int2": 0.125,
}
"""Time to compute in each format over that in bf16."""

ON_CHIP_BANDWIDTH, OFFLOAD_BANDWIDTH, LINK_LATENCY_US = 18000, 128, 1
"""GenZ's defaults where a system does not state them: GB/s, GB/s, us."""


class Gear(NamedTuple):
    """GEAR's compressed KV cache (arXiv 2403.05527).

    Arguments:
        core: B per element of the quantised core.
        outliers: elements that are kept at full size, in %.
        rank: of the low-rank factors.
    """

    core: float
    outliers: float
    rank: float

    def size(self, full: float, length: float, head_dim: float) -> float:
        """B per element of a compressed cache.

        Quirk gear_nan_when_zero_suffix: it is NaN, not 0, for an empty cache.

        Arguments:
            full: B per element uncompressed.
            length: tokens.
            head_dim: size of each head.
        """
        if length * head_dim == 0:
            return math.nan
        factors = (length + head_dim) * self.rank / (length * head_dim)
        return self.core + self.outliers / 100 * full + factors * full


class System(NamedTuple):
    """GenZ's record of an accelerator and its links.

    Arguments:
        peak_flops: FLOP/s in the row's format.
        memory_bandwidth, on_chip_bandwidth, offload_bandwidth: B/s.
        memory_capacity: B.
        link_bandwidth: B/s.
        link_latency: s.
        compute_efficiency, memory_efficiency: shares, in (0, 1].
        comm_efficiency: a share that divides latencies and start-up, too.
        element_size: B per element.
        gear: compression of the KV cache; None: there is none.
    """

    peak_flops: float
    memory_bandwidth: float
    on_chip_bandwidth: float
    offload_bandwidth: float
    memory_capacity: float
    link_bandwidth: float
    link_latency: float
    compute_efficiency: float
    memory_efficiency: float
    comm_efficiency: float
    element_size: float
    gear: Gear | None = None

    @classmethod
    def of_model_row(cls, row: Mapping[str, Any]) -> Self:
        """The `system` of a whole-model row."""
        gear = row.get("gear")
        return cls(
            peak_flops=row["flops_tflops"] * 1e12 / COMPUTE_MULTIPLIER[row["bits"]],
            memory_bandwidth=row["mem_bw_gbs"] * GIGA,
            on_chip_bandwidth=row["onchip_bw_gbs"] * GIGA,
            offload_bandwidth=row["offload_bw_gbs"] * GIGA,
            memory_capacity=row["mem_size_gb"] * GIGA,
            link_bandwidth=row["icn_gbs"] * GIGA,
            link_latency=row["icn_latency_us"] * 1e-6,
            compute_efficiency=row["compute_efficiency"],
            memory_efficiency=row["memory_efficiency"],
            comm_efficiency=row["comm_efficiency"],
            element_size=ELEMENT_SIZE[row["bits"]],
            gear=Gear(ELEMENT_SIZE[gear["b"]], gear["s"], gear["r"]) if gear else None,
        )

    @classmethod
    def of_primitive_row(cls, row: Mapping[str, Any]) -> Self:
        """The `system` of a primitive row."""
        alike = ("bits", "compute_efficiency", "memory_efficiency", "comm_efficiency")
        return cls.of_model_row(
            {
                **{key: row[key] for key in alike},
                "flops_tflops": row["flops"],
                "mem_bw_gbs": row["offchip_mem_bw"],
                "onchip_bw_gbs": row["onchip_mem_bw"],
                "offload_bw_gbs": OFFLOAD_BANDWIDTH,
                "mem_size_gb": row["off_chip_mem_size"] / 1024,
                "icn_gbs": row["interchip_link_bw"],
                "icn_latency_us": row["interchip_link_latency"],
                "gear": row.get("gear_params"),
            }
        )

    @classmethod
    def of_search_row(cls, row: Mapping[str, Any], bits: str) -> Self:
        """The `system` of a search row, which is GenZ's dict of an ideal accelerator."""
        return cls.of_model_row(
            {
                "bits": bits,
                "flops_tflops": row["Flops"],
                "mem_bw_gbs": row["Memory_BW"],
                "onchip_bw_gbs": ON_CHIP_BANDWIDTH,
                "offload_bw_gbs": OFFLOAD_BANDWIDTH,
                "mem_size_gb": row["Memory_size"],
                "icn_gbs": row["ICN"],
                "icn_latency_us": row.get("ICN_LL", LINK_LATENCY_US),
                "compute_efficiency": 1,
                "memory_efficiency": 1,
                "comm_efficiency": 1,
            }
        )

    def cache_size(self, length: float, head_dim: float) -> float:
        """B per element of the KV cache of `length` tokens."""
        if self.gear is None:
            return self.element_size
        return self.gear.size(self.element_size, length, head_dim)
