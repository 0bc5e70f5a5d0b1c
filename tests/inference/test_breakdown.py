"""Breakdowns: what binds, and rows that add up for every plan and sharpness."""

from itertools import product

import jax
import numpy as np
import pytest
from support import assert_close, stack

from diffgenz import HARD, Parallelism, Scenario, Workload, breakdown, estimate

PLANS = [
    Parallelism(),
    Parallelism(4),
    Parallelism(16),
    Parallelism(1, 4),
    Parallelism(2, 8),
    Parallelism(4, 3, 2, 0.7),
    Parallelism(8, 1, 1, 1.0),
]
WORKLOADS = [Workload(1, 300, 20), Workload(17, 40, 5)]
PHASES = ("ttft", "tpot")


@pytest.mark.parametrize("sharpness", [2, HARD])
def test_rows_sum_to_the_times(sharpness, gemma_27b, cluster):
    def explained(plan, workload):
        case = Scenario(gemma_27b, cluster, workload, plan, sharpness=sharpness)
        return estimate(case), breakdown(case)

    chosen = [stack(each) for each in zip(*product(PLANS, WORKLOADS), strict=True)]
    with jax.disable_jit():  # each program would run once: to compile it takes longer
        results, rows = jax.vmap(explained)(*chosen)
    for phase in PHASES:
        seconds = np.asarray(getattr(rows, phase))
        assert_close(seconds.sum(axis=(1, 2)), getattr(results, phase), rtol=1e-6)
        assert (seconds >= 0).all()


def test_rows_are_read_by_operator_and_by_resource(gemma_27b, cluster):
    """A rank alone does not communicate."""
    rows = breakdown(Scenario(gemma_27b, cluster, Workload(4, 300, 20), Parallelism()))
    for phase in PHASES:
        by_resource, seconds = rows.by_resource(phase), np.asarray(getattr(rows, phase))
        assert_close(sum(by_resource.values()), seconds.sum(), rtol=1e-6)
        assert by_resource["communication"] == 0
        assert sum(rows.rows(phase)["all_reduce"].values()) == 0
        assert list(rows.rows(phase)) == list(rows.operators)


def test_hard_rows_are_bound_by_one_resource(llama_8b, cluster):
    case = Scenario(llama_8b, cluster, Workload(4, 3000, 20), Parallelism(), sharpness=HARD)
    for row in breakdown(case).rows("ttft").values():
        assert row["compute"] == 0 or row["memory"] == 0


def test_what_binds(llama_8b, cluster):
    rows = breakdown(Scenario(llama_8b, cluster, Workload(1, 8000, 100), Parallelism()))
    assert rows.bound_by("ttft") == "compute"
    assert rows.bound_by("tpot") == "memory"
    assert rows.rows("tpot")["gate_up"]["memory"] > rows.rows("tpot")["qkv"]["memory"]
