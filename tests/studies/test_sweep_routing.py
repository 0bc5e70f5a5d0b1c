"""Sweeps over routing: its numbers beside EP degree, node size and link bandwidth."""

import numpy as np
import pytest
from support import make_cluster

from diffgenz import (
    InputError,
    Parallelism,
    PowerLaw,
    Rows,
    Scenario,
    Space,
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
    case = case_of(Traced(rows=1.5, far=0.8))
    space = Space(
        case,
        {
            "plan.expert": values(4, 16),
            "network[0].size": values(4, 8),
            "network[1].bandwidth": values(25e9, 50e9),
            "routing.far": values(0.5, 1.0),
            "routing.wire": values(1.0, 1.3),  # which the scenario leaves out
        },
    )
    found = sweep(space, keep={"all": Rows(("tpot",))})["all"]
    assert len(found) == space.size == 32
    for row in found.table() if hasattr(found, "table") else found:
        inner, outer = case.platform.network
        network = (
            inner.replace(size=row["network[0].size"]),
            outer.replace(bandwidth=row["network[1].bandwidth"]),
        )
        alone = case.replace(
            platform=case.platform.replace(network=network),
            plan=case.plan.replace(expert=row["plan.expert"]),
            routing=Traced(
                rows=1.5, far=np.float32(row["routing.far"]), wire=np.float32(row["routing.wire"])
            ),
        )
        assert row["tpot"] == pytest.approx(float(estimate(alone).tpot), rel=1e-4)
