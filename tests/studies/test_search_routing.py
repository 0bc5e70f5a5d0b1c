"""A search with a trace: each plan has the numbers of its own ranks, as `estimate` has them."""

import numpy as np
import pytest
from support import assert_close, make_cluster

from diffgenz import (
    InputError,
    NoSolution,
    Parallelism,
    PerPhase,
    Precision,
    Scenario,
    Serving,
    Traced,
    Uniform,
    Workload,
    estimate,
    load_model,
    routed,
    search,
)
from diffgenz.core.leaves import leaf_at, leaf_names
from diffgenz.inference.metrics import metrics_of
from diffgenz.routing.baselines import random
from diffgenz.routing.synthetic import Synthetic, synthesize
from diffgenz.studies.search.plans import plans
from diffgenz.studies.search.routings import routings_of

MODEL = load_model("deepseek-ai/DeepSeek-V2-Lite")
LAYERS = (1, 9, 20)
CASE = Scenario(MODEL, make_cluster(16), Workload(64, 200, 20), Parallelism(1), serving=Serving(64))


def trace_of(popularity=1.0, request=0.5):
    router = Synthetic(64, 6, LAYERS, popularity=popularity, popularity_spread=0.0, request=request)
    return synthesize(router, 24, 8, 16, seed=0)


TRACE = trace_of()
PLACED = random(3, 64, 2, 8, 80, seed=0)


@pytest.fixture(scope="module")
def found():
    return search(
        CASE,
        batches=[64],
        precisions=[Precision()],
        any_layout=True,
        trace=TRACE,
        placement=PLACED,
        note="drawn",
    )


def numbers(routing):
    return {name: float(leaf_at(routing, path)) for name, path in leaf_names(routing).items()}


def test_a_row_has_the_routing_of_its_own_ranks_and_the_times_of_its_estimate(found):
    """With a placement of 2 nodes of 8 ranks, and experts in order elsewhere."""
    apart = {}
    for row in found.deployments:
        nodes = -(-int(row.scenario.plan.stage) // 8)
        apart.setdefault((nodes, row.plan["expert"]), row)
    assert len(apart) >= 6
    for (nodes, expert), row in apart.items():
        placed = (nodes, expert) == (2, 16)
        question = CASE.replace(plan=row.scenario.plan)
        own = routed(question, TRACE, PLACED if placed else None, note="drawn").routing
        assert isinstance(row.routing, PerPhase)
        assert (numbers(row.routing), row.routing.prefill.note) == (numbers(own), "drawn")
        assert ("prefill.slots" in numbers(own)) == placed
        assert row.scenario.routing is row.routing
        if (nodes, expert) in ((1, 1), (1, 8), (2, 2), (2, 16)):
            for name, value in metrics_of(estimate(row.scenario)).items():
                assert_close(row.metrics[name], float(value), rtol=2e-5)
    differ = {tuple(numbers(row.routing).items()) for row in apart.values()}
    assert len(differ) == len(apart)


def test_plans_of_which_a_trace_says_nothing_are_left_out_and_counted(found):
    """Experts in one group over two nodes; that is 16 ranks of a stage, and `expert` 1."""
    every = plans(MODEL, CASE.platform)
    stage = every.tensor * every.attention_data * np.asarray(every.context)
    left = int(((stage == 16) & (every.expert == 1)).sum())
    assert left > 0
    assert f"{left} of {every.tensor.size} plans are left out" in found.notes[0]
    assert found.tried == every.tensor.size - left


def test_a_uniform_trace_searches_as_none():
    even = trace_of(0.0, 0.0)
    every = plans(MODEL, CASE.platform)
    table = routings_of(CASE, every, [64.0, None], even, None)
    assert all(isinstance(each, Uniform) for each in table.distinct)
    assert isinstance(table.table, Uniform)


def test_prompts_that_are_cut_have_numbers_of_their_own():
    """Of a prompt in an iteration, more tokens fill one rank the more; generated ones are alike."""
    ranks = Parallelism(np.ones(1), data=np.ones(1), expert=np.full(1, 16.0), attention_data=16.0)
    every = ranks.replace(pipeline=np.ones(1), attention_data=np.full(1, 16.0))
    table = routings_of(CASE, every, [32.0, 64.0, None], TRACE, None)
    assert table.index.tolist() == [[0, 1, 2]]
    spread = [numbers(each)["prefill.dispersion"] for each in table.distinct]
    assert spread[0] < spread[1] < spread[2]
    assert len({numbers(each)["decode.dispersion"] for each in table.distinct}) == 1


def ask(**changes):
    case = changes.pop("case", CASE)
    given = {"batches": [64], "precisions": [Precision()], "any_layout": True, "trace": TRACE}
    return search(case, **(given | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"placement": random(26, 64, 4, 8, 64, seed=0)}, "is for 4 nodes of 8 ranks, which no"),
        ({"placement": random(5, 64, 2, 8, 64, seed=0)}, "has 5 layers of 64 experts"),
        ({"placement": PLACED, "trace": None}, "placement: says nothing without a trace"),
        ({"case": CASE.replace(routing=Traced(rows=1.2))}, "routing: the scenario has one"),
        ({"case": CASE.replace(model=load_model("meta-llama/Llama-3.1-8B"))}, "has no experts"),
    ],
)
def test_bad_questions_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        ask(**changes)


def test_a_trace_that_says_nothing_of_any_plan():
    every = Parallelism(np.full(1, 16.0), data=np.ones(1), expert=np.ones(1))
    every = every.replace(pipeline=np.ones(1), attention_data=np.ones(1))
    with pytest.raises(NoSolution, match="says nothing of any plan .*1 groups of experts"):
        routings_of(CASE, every, [None], TRACE, None)
