"""What presets were not fitted to: the gain of a placement, against that of the real model."""

import numpy as np
import pytest
from synthetic_traces import REAL, drawn

GAINS = {
    name: [key for key in figures if key.startswith("traffic")] for name, figures in REAL.items()
}
SEEDS = {"llama-4-maverick": 3, "deepseek-v2-lite": 1, "olmoe": 5, "mixtral": 3}
"""Draws whose mean is taken: a draw's standard deviation is .014, .005, .025 and .001."""


@pytest.fixture(scope="module")
def mean():
    found = {}

    def of(name):
        if name not in found:
            draws = [drawn(name, seed) for seed in range(SEEDS[name])]
            found[name] = {key: np.mean([draw[key] for draw in draws]) for key in REAL[name]}
        return found[name]

    return of


EASIER = pytest.mark.xfail(
    strict=True,
    reason="the preset's 8 blocks are divided over 8 nodes more easily than the real model's "
    "experts; with more blocks, choices or partitions the lift of pairs is not reached",
)


def marks(name, key=""):
    found = [pytest.mark.slow] if name == "llama-4-maverick" else []
    return [*found, EASIER] if (name, key) == ("deepseek-v2-lite", "traffic, 8 nodes") else found


CASES = [pytest.param(name, key, marks=marks(name, key)) for name in SEEDS for key in GAINS[name]]
STATISTICS = [
    ("llama-4-maverick", "gini", 0.06),
    ("llama-4-maverick", "participation", 0.015),
    ("llama-4-maverick", "same_domain", 0.06),
    ("llama-4-maverick", "other_domain", 0.05),
    ("llama-4-maverick", "domain_cosine", 0.08),
    ("llama-4-maverick", "prefill_pearson", 0.06),
    ("llama-4-maverick", "request_pearson", 0.06),
    ("olmoe", "gini", 0.03),
    ("olmoe", "domain_cosine", 0.05),
    ("mixtral", "gini", 0.03),
    ("mixtral", "domain_cosine", 0.01),
]


@pytest.mark.parametrize(("name", "key"), CASES)
def test_a_placement_gains_as_much_as_with_the_real_model(mean, name, key):
    assert mean(name)[key] == pytest.approx(REAL[name][key], abs=0.06)


@pytest.mark.parametrize(
    ("name", "key", "tolerance"),
    [pytest.param(*each, marks=marks(each[0])) for each in STATISTICS],
)
def test_statistics_are_those_that_were_asked_for(mean, name, key, tolerance):
    """Within two standard deviations of a draw: seven figures cannot all be met by six numbers."""
    assert mean(name)[key] == pytest.approx(REAL[name][key], abs=tolerance)
