"""Seconds of a layer of experts: those of the breakdown, batched, and monotone."""

import functools

import numpy as np
import pytest
from support import make_cluster

from diffgenz import (
    InputError,
    Parallelism,
    Precision,
    Scenario,
    Serving,
    Traced,
    Workload,
    breakdown,
    load_model,
    load_platform,
)
from diffgenz.routing.timing import ROWS, ModelledTime

V3 = load_model("deepseek-ai/DeepSeek-V3")
V2_LITE = load_model("deepseek-ai/DeepSeek-V2-Lite")
BUSY = Traced(1.8, 1.3, 0.7, 0.73, 0.9, 0.95, 1.4, 1.2)
FP8 = Precision(weights="fp8_block", activations="fp8")


def case_of(name, routing=None):
    plan = Parallelism(1, expert=64, attention_data=64)
    if name == "wires":
        return Scenario(V2_LITE, make_cluster(), Workload(4096, 200, 20), plan, routing=routing)
    if name == "one node":
        plan = Parallelism(2, expert=8, attention_data=4)
        return Scenario(V2_LITE, make_cluster(8), Workload(64, 200, 20), plan, routing=routing)
    batch = 8192 if name == "DeepEP, many tokens" else 64
    serving = Serving(chunk=64) if name == "DeepEP, chunks" else None
    platform = load_platform("h100_sxm", 64)
    return Scenario(V3, platform, Workload(batch, 200, 20), plan, FP8, serving, routing)


@functools.cache
def whole(name, busy):
    """A breakdown, which has both phases."""
    return breakdown(case_of(name, BUSY if busy else None))


NAMES = ["wires", "one node", "DeepEP, many tokens", "DeepEP, chunks"]


@pytest.mark.parametrize("routing", [None, BUSY], ids=["uniform", "traced"])
@pytest.mark.parametrize("phase", ["ttft", "tpot"])
@pytest.mark.parametrize("name", NAMES)
def test_seconds_are_those_of_the_rows_of_a_breakdown(name, phase, routing):
    case = case_of(name, routing)
    rows = whole(name, routing is not None).rows(phase)
    expected = sum(sum(rows[row].values()) for row in ROWS if row in rows)
    (layers,) = [float(each.count) for each in case.model.blocks if each.block.experts is not None]
    time = ModelledTime(case, phase)
    prompts = float(case.workload.batch) * 200
    passes = prompts / time.tokens if phase == "ttft" else 1.0  # the chunks of all prompts
    assert float(time(*time.own)) * layers * passes == pytest.approx(expected, rel=2e-4)


@pytest.mark.parametrize("name", NAMES)
def test_layers_and_candidates_are_answered_at_once(name):
    time = ModelledTime(case_of(name), "tpot")
    even = time.uniform
    factors = np.random.default_rng(1).uniform(1, 2, (7, 2, 3))
    work = [even.rows * factors[0], even.active / factors[1], even.far / factors[2]]
    work += [even.near / factors[3], factors[4], factors[5]]
    together = time(*work, even.remote / factors[6])
    assert together.shape == (2, 3)
    for at in ((0, 0), (1, 2)):
        alone = time(*(each[at] for each in work), (even.remote / factors[6])[at])
        assert float(together[at]) == pytest.approx(float(alone), rel=1e-5)
    assert time(*work[:4]).shape == (2, 3)
    assert time(*even[:4], wire=factors[5]).shape == (2, 3)


@pytest.mark.parametrize("name", NAMES)
def test_more_work_is_never_faster(name):
    time = ModelledTime(case_of(name), "tpot")
    even, more = time.uniform, np.array([1.0, 1.3, 2.0, 4.0])
    for field in even._fields:
        if field in ("remote", "slots"):
            continue
        work = even._replace(**{field: getattr(even, field) * more})
        if field == "active":
            work = even._replace(active=even.active / more[::-1])
        seconds = time(*work)
        assert (np.diff(seconds) >= -1e-6 * seconds[0]).all(), field
    assert float(time(*even)) > 0


def test_counts_of_uniform_routing():
    """DeepSeek-V3 on 8 nodes of 8: 4 of 8 nodes; 4 experts for each rank; 64 x 128 tokens."""
    time = ModelledTime(case_of("DeepEP, many tokens"), "tpot")
    assert (time.held, time.tokens) == (4, 8192)
    assert time.uniform.far == pytest.approx(3.5, abs=1e-3)
    assert time.uniform.remote == pytest.approx(7)
    assert time.uniform.rows == pytest.approx(8192 * 8 / 64)
    assert time.uniform.active == pytest.approx(4, rel=1e-6)


def test_other_phases_models_and_kinds_are_refused():
    with pytest.raises(InputError, match="phase: 'decode' is not known; use ttft or tpot"):
        ModelledTime(case_of("wires"), "decode")
    with pytest.raises(InputError, match="kind: 1 is not one of the 1 kinds"):
        ModelledTime(case_of("wires"), "tpot", 1)
    dense = Scenario(load_model("meta-llama/Llama-3.1-8B"), make_cluster(8))
    with pytest.raises(InputError, match="kind: 0 is not one of the 0 kinds"):
        ModelledTime(dense)
