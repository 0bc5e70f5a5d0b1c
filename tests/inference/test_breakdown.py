"""Breakdowns: what binds, and rows that add up for every plan."""

import numpy as np
import pytest
from support import TWO_SHARPNESSES, assert_close, explained

from diffgenz import HARD, Parallelism, Scenario, Workload, breakdown

PLANS = [
    Parallelism(),
    Parallelism(4),
    Parallelism(16),
    Parallelism(1, 4),
    Parallelism(2, 8),
    Parallelism(4, 3, 2, 0.7),
    Parallelism(8, 1, 1, 1.0),
]


@pytest.mark.parametrize("sharpness", TWO_SHARPNESSES)
def test_rows_sum_to_the_times(sharpness, gemma_27b, cluster):
    for plan in PLANS:
        for workload in (Workload(1, 300, 20), Workload(17, 40, 5)):
            result, rows = explained(
                Scenario(gemma_27b, cluster, workload, plan, sharpness=sharpness)
            )
            for phase in ("ttft", "tpot"):
                assert_close(getattr(rows, phase).sum(), getattr(result, phase), rtol=1e-6)
                assert_close(
                    sum(rows.by_resource(phase).values()), getattr(result, phase), rtol=1e-6
                )
                assert (np.asarray(getattr(rows, phase)) >= 0).all()


def test_one_rank_does_not_communicate(gemma_27b, cluster):
    rows = breakdown(Scenario(gemma_27b, cluster, Workload(4, 300, 20), Parallelism()))
    assert (
        rows.by_resource("ttft")["communication"] == rows.by_resource("tpot")["communication"] == 0
    )
    assert sum(rows.rows("tpot")["all_reduce"].values()) == 0


def test_hard_rows_are_bound_by_one_resource(llama_8b, cluster):
    for row in (
        breakdown(Scenario(llama_8b, cluster, Workload(4, 3000, 20), Parallelism(), sharpness=HARD))
        .rows("ttft")
        .values()
    ):
        assert row["compute"] == 0 or row["memory"] == 0


def test_what_binds(llama_8b, cluster):
    rows = breakdown(Scenario(llama_8b, cluster, Workload(1, 8000, 100), Parallelism()))
    assert rows.bound_by("ttft") == "compute"
    assert rows.bound_by("tpot") == "memory"
    assert rows.rows("tpot")["gate_up"]["memory"] > rows.rows("tpot")["qkv"]["memory"]
