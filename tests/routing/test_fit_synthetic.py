import dataclasses
from pathlib import Path

import numpy as np
import pytest
from routing_presets import deepseek_v2_lite_trace

from diffgenz.core.errors import InputError
from diffgenz.routing.fit_synthetic import (
    Layout,
    fit_counts,
    fit_moments,
    fit_synthetic,
    layout_of,
)
from diffgenz.routing.moments import NAMES, Moments, moments
from diffgenz.routing.synthetic import Synthetic, synthesize
from diffgenz.routing.synthetic_files import load_synthetic
from diffgenz.routing.trace import Counts, Trace

DATA = Path(__file__).resolve().parents[3] / "shared" / "measurements" / "routing"
FACTORS = Synthetic(
    32,
    1,
    tuple(range(6)),
    ("a", "b"),
    popularity=0.9,
    domain=0.8,
    request=0.6,
    private=0.3,
    prefill=0.7,
    prefill_request=0.3,
)
BLOCKS = Synthetic(
    32,
    4,
    tuple(range(6)),
    popularity=0.5,
    private=0.2,
    partitions=2,
    blocks=8,
    block_choices=2,
    block_bonus=5.0,
    concentration=2.0,
)
TOLERANCES = dict.fromkeys(NAMES, 0.05) | {"lift": 0.15}
"""Two standard deviations over seeds of a draw of this size."""


@pytest.mark.parametrize(
    "planted",
    [
        pytest.param(FACTORS, id="factors"),
        pytest.param(BLOCKS, id="blocks", marks=pytest.mark.slow),
    ],
)
def test_a_fit_has_the_moments_of_the_trace_in_draws_of_its_own(planted):
    prefill = 0 if planted is BLOCKS else 12
    trace = synthesize(planted, 90, prefill, 50, seed=11)
    fitted = fit_synthetic(trace)
    wanted = moments(trace)
    drawn = [moments(layout_of(trace).draw(fitted, seed)) for seed in range(100, 105)]
    for name in NAMES:
        if name != "peak" and not np.isnan(getattr(wanted, name)):
            mean = np.mean([getattr(each, name) for each in drawn])
            assert mean == pytest.approx(getattr(wanted, name), abs=TOLERANCES[name]), name
    planted_spread = planted.domain**2 + planted.request**2 + planted.private**2
    spread = fitted.domain**2 + fitted.request**2 + fitted.private**2
    assert fitted.popularity == pytest.approx(planted.popularity, rel=0.35)
    assert spread == pytest.approx(planted_spread, rel=0.35, abs=0.05)
    assert set(fitted.basis.values()) == {"fitted"}


def test_moments_that_are_not_known_leave_their_parameters():
    layout = Layout(np.zeros(4, int), np.full(4, 2000), np.zeros(4, int))
    start = dataclasses.replace(FACTORS, popularity_spread=0.0, domain=0.0, request=0.0)
    fitted = fit_moments(Moments(gini=0.4), start, layout)
    assert dataclasses.replace(fitted, popularity=start.popularity, basis={}) == start
    drawn = [moments(layout.draw(fitted, seed)).gini for seed in range(100, 105)]
    assert np.mean(drawn) == pytest.approx(0.4, abs=0.03)
    with pytest.raises(InputError, match="no moment is known"):
        fit_moments(Moments(), start, layout)


CHOSEN = {
    "one token": (4, np.zeros((1, 1, 1), int), np.zeros(1, int)),
    "all alike": (4, np.zeros((50, 2, 1), int), np.arange(50) // 10),
    "all experts": (2, np.tile([0, 1], (50, 1, 1)), np.arange(50) // 10),
    "one request": (8, np.arange(60).reshape(60, 1, 1) % 8, np.zeros(60, int)),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_traces_that_say_little_are_fitted_all_the_same(name):
    experts, chosen, request = CHOSEN[name]
    fitted = fit_synthetic(Trace(experts, tuple(range(chosen.shape[1])), chosen, request))
    assert fitted.basis["popularity"] == "fitted"
    assert fitted.popularity > 1 if name in ("one token", "all alike") else fitted.popularity < 0.2


@pytest.mark.parametrize("k", [1, 2, 6])
def test_counts_by_domain_give_the_spreads_of_each_layer(k):
    planted = Synthetic(
        96,
        k,
        (0, 4),
        ("a", "b", "c", "d"),
        popularity=(0.4, 0.8),
        domain=(0.9, 0.3),
        popularity_spread=0.0,
        factors=24,
    )
    fits = [
        fit_counts(synthesize(planted, 4, 0, 15_000, seed=seed).reduced("domain"))
        for seed in range(5)
    ]
    for name in ("popularity", "domain"):
        values = np.array([getattr(fit, name) for fit in fits])
        error = values.std(0, ddof=1) / np.sqrt(5)
        assert np.all(np.abs(values.mean(0) - getattr(planted, name)) < 4 * error + 0.02)
    assert fits[0].layers == (0, 4)
    assert fits[0].domains == planted.domains


@pytest.mark.parametrize(
    ("counts", "by", "k", "message"),
    [
        ([[[1, 2]]], "domain", 1, "counts: have 1 groups by domain"),
        ([[[1, 2]], [[2, 1]]], "request", 1, "counts: have 2 groups by request"),
        ([[[1, 2]], [[2, 0]]], "domain", 1, "counts: an expert was never chosen"),
        ([[[9, 2, 2]], [[2, 9, 2]]], "domain", 2, "counts: an expert has 69% of all choices"),
    ],
)
def test_counts_that_say_too_little_are_refused(counts, by, k, message):
    names = tuple("abcdef"[: len(counts)])
    with pytest.raises(InputError, match=message):
        fit_counts(Counts(np.array(counts), names, by, (0,), k=k))


@pytest.mark.skipif(not DATA.is_dir(), reason="the trace is not on this machine")
def test_the_real_trace_has_the_moments_of_its_preset():
    """The recorded trace of DeepSeek-V2-Lite against what its preset draws."""
    real = moments(deepseek_v2_lite_trace(DATA))
    assert real.gini == pytest.approx(0.121, abs=0.001)
    assert real.same_domain == pytest.approx(0.725, abs=0.01)
    assert real.participation == pytest.approx(0.694, abs=0.01)
    assert real.lift == pytest.approx(1.99, abs=0.02)
    preset = load_synthetic("deepseek-v2-lite")
    drawn = [moments(synthesize(preset, 300, 0, 95, seed=seed)) for seed in range(2)]
    for name, tolerance in (
        ("gini", 0.02),
        ("peak", 0.25),  # not fitted
        ("same_domain", 0.03),
        ("participation", 0.03),
        ("lift", 0.1),
    ):
        mean = np.mean([getattr(each, name) for each in drawn])
        assert mean == pytest.approx(getattr(real, name), abs=tolerance), name
