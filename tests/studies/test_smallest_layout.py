"""The smallest layout fits, nothing on fewer accelerators does, and it is a legal scenario."""

import math
from itertools import product

import pytest
from support import CHIP, FABRIC, NODE

from diffgenz import (
    Accelerator,
    Draft,
    Level,
    Parallelism,
    Platform,
    Precision,
    Scenario,
    Serving,
    Speculation,
    Workload,
    estimate,
    load_model,
)
from diffgenz.hardware.accelerator import MemoryTier
from diffgenz.scenario.engines.engine import Ranks
from diffgenz.scenario.engines.refusals import layout_accepted
from diffgenz.studies.search.smallest_layout import smallest_layout

SMALL = Platform(
    Accelerator(**CHIP | {"memory_capacity": 8e9, "tiers": (MemoryTier("host", 8e9, 5e10),)}),
    (Level(**NODE | {"size": 4}), Level(**FABRIC | {"size": 64})),
)


def runs(case, tensor, pipeline, context, data) -> bool:
    """Whether an engine accepts a layout that holds the scenario."""
    plan = Parallelism(tensor, pipeline, data, context=context)
    if not layout_accepted(case.model, Ranks.of(plan), case.precision):
        return False
    platform = case.platform.replace(accelerators=float(plan.ranks))
    return bool(estimate(case.replace(platform=platform, plan=plan)).memory.fits)


@pytest.mark.parametrize(
    ("name", "work", "serving", "data"),
    [
        ("Qwen/Qwen2.5-0.5B", Workload(1, 100, 10), Serving(), 1),
        ("meta-llama/Llama-3.1-8B", Workload(4, 2000, 100), Serving(), 2),
        ("meta-llama/Llama-3.1-8B", Workload(4, 2000, 100), Serving(offload="weights"), 1),
        ("meta-llama/Llama-3.1-8B", Workload(2, 60_000, 100), Serving(offload="kv_cache"), 1),
        ("Qwen/Qwen2.5-0.5B", Workload(4, 60_000, 100), Serving(chunk=256, beams=2), 1),
        ("Qwen/Qwen2.5-VL-7B-Instruct", Workload(2, 1000, 10, 8), Serving(), 1),
        ("state-spaces/mamba-2.8b-hf", Workload(64, 1000, 10), Serving(), 1),
    ],
)
def test_it_is_the_smallest_that_fits(name, work, serving, data):
    case = Scenario(load_model(name), SMALL, work, serving=serving)
    found = smallest_layout(case, data)
    assert found is not None
    assert bool(estimate(found).memory.fits)
    plan = found.plan
    assert layout_accepted(case.model, Ranks.of(plan), case.precision)
    assert float(plan.data) == data
    assert float(found.platform.accelerators) == float(plan.ranks)
    used = int(plan.ranks) // data
    contexts = (1,) if case.model.keeps_state else (1, 2, 4, 8, 16)
    tried = 0
    for layout in product((1, 2, 4), (1, 2, 4, 8, 16), contexts):
        if math.prod(layout) < used:
            tried += 1
            assert not runs(case, *layout, data), layout
    assert tried > 0 or used == 1


@pytest.mark.parametrize(
    ("name", "weights", "without", "proposed"),
    [
        # 10 KV heads: 4 ranks would hold it in 4 GB each, and no engine shares those among 4
        ("microsoft/Phi-3-medium-4k-instruct", "bf16", (4, 2), (2, 4)),
        # experts of 1536 features: 8 ranks get 192, which is no multiple of 128
        ("Qwen/Qwen3-235B-A22B", "fp8_block", (8, 1), (4, 2)),
    ],
)
def test_it_is_one_that_an_engine_accepts(name, weights, without, proposed):
    model, formats = load_model(name), Precision(weights=weights, activations="bf16")
    holds = 1.2 * float(model.parameters) * float(formats.weight_size) / math.prod(without)
    chip = Accelerator(**CHIP | {"memory_capacity": holds / 0.9, "memory_reserve": 0.0})
    platform = Platform(chip, (Level(**NODE | {"size": 8}), Level(**FABRIC | {"size": 64})))
    case = Scenario(model, platform, Workload(1, 100, 10), precision=formats)
    plan = smallest_layout(case).plan
    assert not layout_accepted(model, Ranks(without[0], 1, 1, without[1], 1, 1), formats)
    assert (float(plan.tensor), float(plan.pipeline)) == proposed


def test_a_layout_that_no_engine_accepts_is_better_than_none():
    """A cache of one layer that only context ranks share, with KV heads."""
    chip = Accelerator(**CHIP | {"memory_capacity": 8e9})
    platform = Platform(chip, (Level(**NODE | {"size": 64}),))
    case = Scenario(load_model("Qwen/Qwen2.5-0.5B"), platform, Workload(1, 8_000_000, 10))
    plan = smallest_layout(case).plan
    assert float(plan.context) > 1
    assert not layout_accepted(case.model, Ranks.of(plan), case.precision)


def test_a_draft_model_needs_its_ranks():
    """Its layout is legal, though fewer accelerators would hold the model."""
    small = load_model("Qwen/Qwen2.5-0.5B")
    case = Scenario(small, SMALL.replace(accelerators=4), Workload(1, 100, 10))
    assert float(smallest_layout(case).plan.ranks) == 1
    drafts = Speculation(3, 0.7, Draft(small, tensor=2))
    drafting = case.replace(serving=Serving(speculation=drafts))
    assert float(smallest_layout(drafting).plan.ranks) == 2


def test_the_plan_and_the_number_of_accelerators_do_not_count():
    case = Scenario(load_model("meta-llama/Llama-3.1-8B"), SMALL, Workload(4, 2000, 100))
    other = case.replace(platform=SMALL.replace(accelerators=16), plan=Parallelism(4, 2, 2))
    plans = [smallest_layout(each).plan for each in (case, other)]
    assert str(plans[0]) == str(plans[1])


def test_what_no_number_of_accelerators_holds_has_no_layout():
    case = Scenario(load_model("meta-llama/Llama-3.1-405B"), SMALL, Workload(4096, 100_000, 10))
    assert smallest_layout(case) is None
    alone = case.replace(platform=Platform(SMALL.accelerator))
    assert smallest_layout(alone) is None
