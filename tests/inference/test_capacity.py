"""How many requests fit: one batch of as many fits, and one more for each group does not."""

import pytest
from support import make_cluster
from whole_models import DENSE, EXPERTS, WINDOWED

from diffgenz import Parallelism, Scenario, Serving, Workload, estimate, load_model
from diffgenz.inference.capacity import requests_that_fit

PLANS = {
    "one rank": (DENSE, Parallelism()),
    "replicas": (WINDOWED, Parallelism(2, data=4)),
    "attention apart": (EXPERTS, Parallelism(2, expert=8, attention_data=4)),
    "stages": (DENSE, Parallelism(2, 2)),
}


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("name", PLANS)
def test_as_many_fit_and_no_more(name, batch):
    model, plan = PLANS[name]
    cluster = make_cluster(int(plan.ranks))
    accelerator = cluster.accelerator.replace(memory_capacity=9e9, memory_reserve=0.0)
    chat = Workload(batch, 3000, 200)
    case = Scenario(model, cluster.replace(accelerator=accelerator), chat, plan)
    most = int(requests_that_fit(case, estimate(case).memory))
    groups = int(plan.data * plan.attention_data)
    assert most % groups == 0
    assert most > 8

    def fits(requests):
        return bool(estimate(case.replace(workload=chat.replace(batch=requests))).memory.fits)

    # decodes of more requests hold more activations than a chunk; some percent of what is kept
    assert fits(round(0.98 * most))
    assert not fits(most + groups)


def test_none_fit_where_weights_do_not():
    case = Scenario(load_model("meta-llama/Llama-3.1-70B"), make_cluster(1), Workload(4))
    assert int(requests_that_fit(case, estimate(case).memory)) == 0


def test_memory_that_may_not_be_used_holds_nothing():
    case = Scenario(DENSE, make_cluster(1), Workload(4, 3000, 200))
    half = case.replace(serving=Serving(memory_utilization=0.45))
    whole, part = (requests_that_fit(each, estimate(each).memory) for each in (case, half))
    assert 0 < part < whole
    assert float(estimate(half).memory.capacity) == 0.5 * float(estimate(case).memory.capacity)
