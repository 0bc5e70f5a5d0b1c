"""What tests of `search` ask, and what holds of every row."""

import pytest

from diffgenz import METRICS, Workload, estimate
from diffgenz.inference.metrics import metrics_of

LLAMA = "meta-llama/Llama-3.1-8B"
MIXTRAL = "mistralai/Mixtral-8x7B-v0.1"
SMALL = "Qwen/Qwen2.5-0.5B"
WORK = Workload(1, 600, 60)
SHORT = Workload(1, 100, 10)


def assert_row_is_its_estimate(deployment, rtol: float = 1e-5) -> None:
    """All metrics of a row, and no others, are those of its scenario."""
    single = metrics_of(estimate(deployment.scenario))
    there = {name for name, value in deployment.metrics.items() if value is not None}
    assert there == single.keys() <= METRICS.keys() == deployment.metrics.keys()
    for name, value in single.items():
        assert float(value) == pytest.approx(deployment.metrics[name], rel=rtol), name
