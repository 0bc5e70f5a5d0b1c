"""Mixes of scenarios: how their metrics combine, and what is legal, traced as well as built."""

import jax
import numpy as np
import pytest
from pyarrow import parquet
from support import make_cluster
from sweep_cases import scenario

import diffgenz as dgz
from diffgenz import InputError, Mix, Scenario, axes
from diffgenz.core.leaves import with_leaves
from diffgenz.inference.metrics import metrics_of
from diffgenz.inference.mix import is_legal, metrics_with_flags

MIXTRAL = "mistralai/Mixtral-8x7B-v0.1"


def test_metrics_of_a_mix():
    one = scenario()
    other = one.replace(workload=dgz.Workload(16, 100, 30))
    mixed = metrics_with_flags(Mix((one, other), (1, 3)))
    a, b = dgz.estimate(one), dgz.estimate(other)
    assert float(mixed["ttft"]) == pytest.approx(max(float(a.ttft), float(b.ttft)))
    assert float(mixed["tpot"]) == pytest.approx(max(float(a.tpot), float(b.tpot)))
    assert float(mixed["memory.total"]) == pytest.approx(
        max(float(a.memory.total), float(b.memory.total))
    )
    assert float(mixed["tokens_per_second_per_user"]) == pytest.approx(
        1 / max(float(a.tpot), float(b.tpot))
    )
    assert float(mixed["energy_per_output_token"]) == pytest.approx(
        0.25 * float(a.energy_per_output_token) + 0.75 * float(b.energy_per_output_token)
    )
    seconds = 100 / float(a.throughput) + 300 / float(b.throughput)  # of 400 output tokens
    assert float(mixed["throughput"]) == pytest.approx(400 / seconds)
    costs = 0.25 * float(a.cost_per_million_output_tokens) + 0.75 * float(
        b.cost_per_million_output_tokens
    )
    assert float(mixed["cost_per_million_output_tokens"]) == pytest.approx(costs)
    assert float(mixed["tpot[1]"]) == pytest.approx(float(b.tpot))
    assert bool(mixed["fits"])
    assert bool(mixed["legal"])


def test_metrics_of_one_scenario_are_those_of_its_estimate():
    found = metrics_with_flags(scenario())
    expected = metrics_of(dgz.estimate(scenario()))
    assert {name: float(found[name]) for name in expected} == {
        name: float(value) for name, value in expected.items()
    }
    assert found.keys() == expected.keys() | {"fits", "legal"}


def test_what_only_some_scenarios_have_is_no_metric_of_the_mix():
    one = scenario()
    chunked = one.replace(serving=dgz.Serving(chunk=64, mixed=True))
    found = metrics_with_flags(Mix((one, chunked), (1, 1)))
    assert "mixed_tpot" not in found
    assert "mixed_tpot[1]" in found


@pytest.mark.parametrize(
    ("scenarios", "shares", "message"),
    [
        (0, (), "scenarios: a mix needs at least one"),
        (2, (1,), "shares: 1 shares for 2 scenarios; give one each"),
        (2, (1, 0), "shares: 0 is not allowed; it must be"),
    ],
)
def test_bad_mixes_are_refused(scenarios, shares, message):
    with pytest.raises(InputError, match=message):
        Mix((scenario(),) * scenarios, shares)


def accepted(index, space):
    """Whether records accept a configuration."""
    try:
        space.configuration(index)
    except InputError:
        return False
    return True


def test_legal_is_what_records_accept(tmp_path):
    grid = dgz.Space(
        Scenario(dgz.load_model(MIXTRAL), make_cluster(8)),
        {
            "plan.tensor": axes.values(1, 3, 4, 64),
            "plan.pipeline": axes.values(1, 40),
            "plan.expert": axes.values(1, 3, 4),
            "plan.attention_data": axes.values(1, 2),
            "accelerators": axes.values(8, 64, 2048),
            "network[0].size": axes.values(8, 2000),
        },
        derived={
            "plan.data": "accelerators / (4 * plan.tensor)"
        },  # not always whole, or at least 1
        constraints=(),
    )
    findings = dgz.sweep(grid, {"rows": dgz.Rows(of=("plan.tensor",))}, out=tmp_path, batch=256)
    found = parquet.read_table(next(tmp_path.glob("*.parquet")))["index"].to_pylist()
    expected = [index for index in range(grid.size) if accepted(index, grid)]
    assert found == expected
    assert 5 < findings.tally.legal == len(expected) < grid.size / 2


@pytest.mark.parametrize("mixed", [False, True])
def test_legal_knows_dense_models_drafts_and_images(mixed):
    drafts = dgz.Speculation(4, 0.7, dgz.Draft(scenario().model, tensor=2))
    case = scenario().replace(serving=dgz.Serving(speculation=drafts))
    grid = dgz.Space(
        Mix((scenario(), case), (1, 1)) if mixed else case,
        {
            "plan.tensor": axes.values(1, 2, 4),
            "plan.expert": axes.values(1, 2),
            "plan.attention_data": axes.values(1, 2),
            "images": axes.values(0, 1),
        },
    )

    def legal(numbers):
        return is_legal(with_leaves(grid.scenario, dict(zip(grid.paths, numbers, strict=True))))

    found = np.flatnonzero(jax.jit(jax.vmap(legal))(grid.numbers(range(grid.size))))
    assert found.tolist() == [index for index in range(grid.size) if accepted(index, grid)]
    assert 0 < len(found) < grid.size
