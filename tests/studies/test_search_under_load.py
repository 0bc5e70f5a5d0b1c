"""A search under a load: its rows are what `serve` answers, the best first."""

import pytest
from support import make_cluster
from ui_cases import LLAMA, ROOFLINE, run, run_json
from whole_models import DENSE

from diffgenz import (
    Engine,
    InputError,
    Load,
    Objectives,
    Precision,
    Scenario,
    Workload,
    search_under_load,
    serve,
)
from diffgenz.core.errors import NoSolution
from diffgenz.ui.cli.main import main

CASE = Scenario(DENSE, make_cluster(2), Workload(input_tokens=1500.0, output_tokens=200.0))
FORMATS = [Precision()]
ENGINE = Engine(host_seconds=2e-3)


def search(load, objectives=None, **options):
    return search_under_load(CASE, load, objectives, engine=ENGINE, precisions=FORMATS, **options)


@pytest.fixture(scope="module")
def everything():
    """All deployments under a rate, without objectives."""
    return search(Load(rate=8.0), chunks=[2048.0, 8192.0])


def test_rows_are_what_serve_answers(everything):
    assert everything.tried == everything.sustaining == len(everything.deployments)
    kinds = {
        (
            float(each.scenario.plan.tensor),
            float(each.scenario.plan.data),
            each.scenario.serving.chunk,
        )
        for each in everything.deployments
    }
    assert {(tensor, chunk) for tensor, _, chunk in kinds} == {
        (tensor, chunk) for tensor in (1.0, 2.0) for chunk in (2048.0, 8192.0)
    }
    for each in (everything.deployments[0], everything.deployments[-1]):
        own = serve(each.scenario, Load(rate=8.0), ENGINE)
        assert each.result.to_dict() == own.to_dict()
    rates = [float(each.result.saturation_rate) for each in everything.deployments]
    assert rates == sorted(rates, reverse=True)


def test_objectives_are_met_and_goodput_ranks(everything):
    values = sorted(float(each.result.tpot.p90) for each in everything.deployments)
    limit = (values[0] + values[-1]) / 2
    found = search(Load(rate=8.0), Objectives(tpot=limit), chunks=[2048.0, 8192.0])
    assert len(found.deployments) == sum(value <= limit for value in values)
    assert 0 < len(found.deployments) < len(values)
    assert all(each.result.tpot.p90 <= limit for each in found.deployments)
    goodput = [float(f"{each.served:.3g}") for each in found.deployments]
    assert goodput == sorted(goodput, reverse=True)
    assert found.deployments[0].served <= 8.0


def test_the_best_in_a_closed_loop_serves_most():
    found = search(Load(concurrency=40.0))
    served = [float(f"{each.served:.3g}") for each in found.deployments]
    assert served == sorted(served, reverse=True)
    assert served[0] > served[-1]


def test_a_load_that_is_too_much_or_objectives_that_are_too_tight():
    with pytest.raises(
        NoSolution, match=r"no deployment sustains the load: of \d+, the rate is be"
    ):
        search(Load(rate=1e5))
    with pytest.raises(
        NoSolution, match="none meets the objectives: the closest has a p99 tpot of"
    ):
        search(Load(rate=8.0), Objectives(tpot=1e-6), of="p99")
    with pytest.raises(InputError, match="of: 'p95' is not known"):
        search(Load(rate=8.0), of="p95")
    with pytest.raises(InputError, match="chunks: none to try"):
        search(Load(rate=8.0), chunks=[])


def test_some_may_saturate_while_others_do_not(everything):
    rates = [float(each.result.saturation_rate) for each in everything.deployments]
    found = search(Load(rate=(rates[0] + rates[-1]) / 2), chunks=[2048.0, 8192.0])
    assert 0 < found.sustaining < found.tried
    assert found.refused["the rate is beyond saturation"] > 0
    assert found.sustaining + sum(found.refused.values()) == found.tried


SMALL = (*LLAMA, "--gpus", "2", "--isl", "1500", "--osl", "200", *ROOFLINE)
ONE = (*SMALL, "--weights", "bf16", "--kv-cache", "bf16")


def test_a_row_has_the_numbers_of_the_serve_command(capsys):
    limits = ("--ttft", "200", "--tpot", "20")
    found = run_json(capsys, "search", *ONE, "--rate", "5", *limits, "--host", "1")
    row = found["best"][0]
    ranks = {"tp": "tensor", "pp": "pipeline", "dp": "data"}
    layout = [part for flag, name in ranks.items() for part in (f"--{flag}", str(row[name]))]
    own = run_json(
        capsys, "serve", *LLAMA, *SMALL[5:], *layout, "--rate", "5", *limits, "--host", "1"
    )
    (expected,) = own["loads"]
    for name, value in expected.items():
        if name != "load":
            assert row[name] == pytest.approx(value, rel=1e-6), name
    assert found["targets"] == {"of": "p90", "ttft": 0.2, "tpot": 0.02}
    text = run(capsys, "search", *ONE, "--concurrency", "8", "--top", "1", "--of", "p99")
    assert "8 requests under way" in text
    assert "P99" in text


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--rate", "5", "--batch", "8"), "--batch: how many requests are under way follows"),
        (("--rate", "5", "--sort", "ttft"), "--sort: under a load goodput says which is best"),
        (("--rate", "5", "--chunk", "whole"), "--chunk: whole prompts are not modelled"),
        (("--of", "p99"), "--of: is of a load; give --rate or --concurrency"),
        (("--rate", "-1"), "rate: -1 is not allowed"),
    ],
)
def test_flags_that_do_not_go_together(flags, said, capsys):
    assert main(["search", *ONE, *flags]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
