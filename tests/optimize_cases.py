"""A small problem of `optimize`."""

import diffgenz as dgz

OVER = {
    "peak_flops[bf16]": ("0.2 PFLOP/s", "4 PFLOP/s"),
    "memory_bandwidth": (1e12, 16e12),
    "network[0].bandwidth": ("50 GB/s", "2 TB/s"),
    "batch": (1, 4096),
}
COST = "2500 + 2.5e-12 * peak_flops[bf16] + 3e-10 * memory_bandwidth + 1e-9 * network[0].bandwidth"
TWO = dgz.Parallelism(2)
ASKED = {
    "objective": "unit_cost / throughput",
    "quantities": {"unit_cost": COST},
    "subject_to": ["fits", "tpot <= 0.004", "ttft <= 0.2", "unit_cost <= 9000"],
}


def question(**changes):
    parts = {"workload": dgz.Workload(32, 512, 64), "plan": dgz.Parallelism(2)} | changes
    return dgz.Scenario(
        dgz.load_model("meta-llama/Llama-3.1-8B"), dgz.load_platform("h100_sxm", 2, "none"), **parts
    )


def solve(**changes):
    return dgz.optimize(
        question(), **({"over": OVER, "starts": 2, "check_prices": False} | ASKED | changes)
    )
