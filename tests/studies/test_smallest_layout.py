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
    Scenario,
    Serving,
    Speculation,
    Workload,
    estimate,
    load_model,
)
from diffgenz.hardware.accelerator import MemoryTier
from diffgenz.studies.search.smallest_layout import smallest_layout

SMALL = Platform(
    Accelerator(**CHIP | {"memory_capacity": 8e9, "tiers": (MemoryTier("host", 8e9, 5e10),)}),
    (Level(**NODE | {"size": 4}), Level(**FABRIC | {"size": 64})),
)


def fits(case, tensor, pipeline, context, data) -> bool:
    """Whether a layout holds the scenario."""
    plan = Parallelism(tensor, pipeline, data, context=context)
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
    assert float(plan.data) == data
    assert float(found.platform.accelerators) == float(plan.ranks)
    used = int(plan.ranks) // data
    contexts = (1,) if case.model.keeps_state else (1, 2, 4, 8, 16)
    tried = 0
    for layout in product((1, 2, 4), (1, 2, 4, 8, 16), contexts):
        if math.prod(layout) < used:
            tried += 1
            assert not fits(case, *layout, data), layout
    assert tried > 0 or used == 1


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
