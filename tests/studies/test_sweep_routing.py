"""Sweeps over routing: its numbers beside EP degree, node size and link bandwidth."""

import numpy as np
import pytest
from support import make_cluster

from diffgenz import (
    InputError,
    Parallelism,
    PowerLaw,
    Scenario,
    Space,
    Top,
    Traced,
    Workload,
    estimate,
    load_model,
    sweep,
)
from diffgenz.studies.sweep.axes import values

MODEL = load_model("deepseek-ai/DeepSeek-V2-Lite")


def case_of(routing):
    plan = Parallelism(1, expert=16, attention_data=16)
    return Scenario(MODEL, make_cluster(16), Workload(256, 200, 20), plan, routing=routing)


def test_ranks_nodes_links_and_routing_are_axes_of_one_space():
    """A number that the scenario leaves out may be an axis, too."""
    case = case_of(Traced(rows=1.5, far=0.8))
    axes = {
        "plan.expert": values(4, 16),
        "network[0].size": values(4, 8),
        "network[1].bandwidth": values(25e9, 50e9),
        "routing.far": values(0.5, 1.0),
        "routing.pair": values(1.0, 1.3),
    }
    space = Space(case, axes)
    table = sweep(space, {"top": Top(minimize="tpot", count=space.size)}).table("top")
    assert len(table["index"]) == space.size == 32
    for row in range(0, 32, 5):
        expert, size, bandwidth, far, pair = (float(table[name][row]) for name in axes)
        inner, outer = case.platform.network
        network = (inner.replace(size=size), outer.replace(bandwidth=bandwidth))
        alone = case.replace(
            platform=case.platform.replace(network=network),
            plan=case.plan.replace(expert=expert),
            routing=Traced(rows=1.5, far=np.float32(far), pair=np.float32(pair)),
        )
        assert table["tpot"][row] == pytest.approx(float(estimate(alone).tpot), rel=1e-4)
    best, worst = (
        {name: float(table[name][row]) for name in axes} for row in (0, len(table["index"]) - 1)
    )
    assert (best["routing.far"], best["routing.pair"]) == (0.5, 1.0)
    assert (worst["routing.far"], worst["routing.pair"]) == (1.0, 1.3)


def test_popularity_is_an_axis():
    case = case_of(PowerLaw(0.5))
    space = Space(case, {"spread": values(0.2, 0.6, 1.0)})
    table = sweep(space, {"top": Top(minimize="ttft", count=3)}).table("top")
    assert [round(float(x), 3) for x in table["spread"]] == [0.2, 0.6, 1.0]  # more is slower
    alone = float(estimate(case.replace(routing=PowerLaw(1.0))).ttft)
    assert table["ttft"][2] == pytest.approx(alone, rel=1e-4)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"routing.rows": values(0.5, 1.0)}, "rows: 0.5 is not allowed"),
        ({"routing.row": values(1.0, 2.0)}, "'routing.row' is not known; did you mean"),
    ],
)
def test_other_numbers_are_refused(axes, message):
    with pytest.raises(InputError, match=message):
        Space(case_of(Traced(rows=1.5)), axes)
