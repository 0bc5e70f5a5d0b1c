"""Sweeps and `optimize` of a scenario under a load: the numbers are those of `serve`."""

from pathlib import Path

import numpy as np
import pytest
from small_llama import small
from support import make_cluster

from diffgenz import (
    Engine,
    InputError,
    Load,
    Lognormal,
    Objectives,
    Parallelism,
    Scenario,
    Serving,
    Space,
    UnderLoad,
    Workload,
    axes,
    load_space,
    load_study,
    max_rate,
    optimize,
    serve,
    sweep,
)
from diffgenz.core.differences import as_double, in_double
from diffgenz.core.leaves import find, with_leaves
from diffgenz.core.record import unnamed
from diffgenz.serving.serve import saturation_rate
from diffgenz.serving.under_load import answers_of, in_columns, names_of
from diffgenz.studies.sweep.reductions.top import Top

EXAMPLES = Path(__file__).parents[2] / "examples"
CASE = Scenario(
    small(hidden_size=2048, num_hidden_layers=16, intermediate_size=8192),
    make_cluster(4),
    Workload(input_tokens=900, output_tokens=120),
    Parallelism(2),
    serving=Serving(chunk=2048),
)
PROMISE = Objectives(ttft=0.05, tpot=0.004)
RATE = 0.5 * float(saturation_rate(CASE, Load(rate=1.0)))
LOAD = Load(rate=RATE, prompts=Lognormal(0.5), outputs=Lognormal(0.5))
QUESTION = UnderLoad(CASE, LOAD, Engine(max_num_seqs=128), PROMISE)


def test_columns_are_what_serve_answers_of_each():
    rates, bandwidths = np.array([0.7, 1.1]) * RATE, np.array([2.0, 1.4])
    at = find(QUESTION, "rate")[0], find(QUESTION, "memory_bandwidth")[0]
    now = float(CASE.platform.accelerator.memory_bandwidth)
    with in_double():
        question = as_double(unnamed(QUESTION))
        columns = {at[0]: rates, at[1]: now * bandwidths}
        found = in_columns(with_leaves(question, columns))
        for i in range(2):
            one = with_leaves(question, {path: value[i] for path, value in columns.items()})
            alone = serve(one.scenario, one.load, one.engine, PROMISE).to_dict()
            for name in ("ttft_p99", "tpot_mean", "end_to_end_p90", "goodput", "saturation_rate"):
                assert np.isclose(found[name][i], alone[name], rtol=1e-5), name
    per_gpu = found["throughput"] / 2
    assert np.allclose(found["tokens_per_second_per_accelerator"], per_gpu)


def test_names_are_known_before_anything_is_answered():
    closed = QUESTION.replace(load=Load(concurrency=8))
    for question in (QUESTION, closed, QUESTION.replace(objectives=None), CASE):
        assert names_of(question) == {*answers_of(question)}


def test_beyond_saturation_there_are_no_latencies():
    answers = answers_of(QUESTION.replace(load=LOAD.replace(rate=3 * RATE)))
    assert not answers["sustained"]
    assert answers["goodput"] == 0
    assert np.isnan(answers["ttft_mean"])
    assert np.isfinite(answers["saturation_rate"])
    assert answers_of(QUESTION)["sustained"]


@pytest.mark.slow
def test_a_sweep_has_the_numbers_of_serve():
    """Some of the rates are beyond saturation, and never count."""
    factors = (0.4, 1.2, 2.5)
    space = Space(
        QUESTION,
        {"rate": axes.values(*(f * RATE for f in factors)), "plan.tensor": axes.values(1, 2)},
        constraints=("fits", "sustained"),
    )
    found = sweep(space, {"best": Top(maximize="goodput", count=10)})
    goals = found.goals("best")["goodput"]
    for index, goal in zip(found.indices("best"), goals, strict=True):
        one = space.configuration(index)
        answer = serve(one.scenario, one.load, one.engine, one.objectives)
        assert np.isclose(goal, float(answer.goodput), rtol=1e-3)
    served = 0
    for index in range(space.size):
        one = space.configuration(index)
        served += float(one.load.rate) < float(saturation_rate(one.scenario, LOAD, one.engine))
    assert 0 < served < space.size
    assert found.tally.feasible == served


@pytest.mark.slow
def test_the_highest_rate_is_that_of_max_rate_and_so_is_its_price():
    alike = QUESTION.replace(load=Load(rate=RATE))
    limit = float(serve(CASE, Load(rate=1.2 * RATE), QUESTION.engine).tpot.mean)
    found = optimize(
        alike,
        {"rate": (0.1 * RATE, 3 * RATE)},
        "rate",
        maximise=True,
        subject_to=("fits", f"tpot_mean <= {limit}"),
        plans=[Parallelism(2)],
        starts=1,
    )

    def most(factor):
        return float(max_rate(CASE, Objectives(tpot=factor * limit), None, QUESTION.engine))

    assert np.isclose(found.best.numbers["rate"], most(1.0), rtol=1e-4)
    assert np.isclose(found.best.numbers["rate"], 1.2 * RATE, rtol=1e-4)
    (price,) = found.best.prices
    measured = np.log(most(1.01) / most(0.99)) / np.log(1.01 / 0.99)
    assert np.isclose(price.elasticity, measured, rtol=0.02)
    scenario = found.exact.scenario
    assert isinstance(scenario, UnderLoad)
    assert np.isclose(float(scenario.load.rate), found.exact.numbers["rate"])


STUDY = """
maximize = "goodput"

[scenario]
model = "meta-llama/Llama-3.1-8B"
system = "h100_sxm"
isl = 512
osl = 64

[load]
rate = 4
sigma = 0.7
max_num_seqs = 128
host = "0.5 ms"
router = "round_robin"
ttft = "200 ms"
tpot = 0.02
of = "p90"

[over]
rate = [1, 10]
"""


def test_a_load_is_read_from_a_file(tmp_path):
    (tmp_path / "study.toml").write_text(STUDY)
    asked = load_study(tmp_path / "study.toml").case
    assert isinstance(asked, UnderLoad)
    assert asked.of == "p90"
    assert float(asked.load.rate) == 4
    assert np.isclose(float(asked.engine.host_seconds), 5e-4)
    assert asked.engine.router == "round_robin"
    assert np.isclose(float(asked.objectives.ttft), 0.2)
    assert np.isclose(float(asked.objectives.tpot), 0.02)
    space, _ = load_space(EXAMPLES / "under_load.toml")
    assert [expression.text for expression in space.constraints][:2] == ["fits", "sustained"]
    assert float(space.configuration(0).load.rate) == 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rate = 4", "speed = 4", "study.toml: load: key: 'speed' is not known"),
        ("rate = 4", "rate = 4\nconcurrency = 3", "load: give either a rate"),
        ("rate = 4", "requests = 40\nrate = 4", "requests: needs a concurrency"),
        ("max_num_seqs = 128", "max_num_seqs = 0", "max_num_seqs: 0 is not allowed"),
        ('of = "p90"', 'of = "p95"', "of: 'p95' is not known"),
        ("osl = 64", "osl = 64\nbeams = 2", "beams: not modelled under load"),
    ],
)
def test_loads_that_make_no_sense(old, new, said, tmp_path):
    (tmp_path / "study.toml").write_text(STUDY.replace(old, new, 1))
    with pytest.raises(InputError, match=said):
        load_study(tmp_path / "study.toml")


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        ("ttft", "ttft is that of one batch; under a load write one of ttft_mean"),
        ("power", "power is that of one batch; under a load it is not modelled"),
        ("max_concurrency", "max_concurrency needs"),
    ],
)
def test_metrics_of_one_batch_are_not_those_of_a_load(objective, said):
    over = {"rate": (RATE, 2 * RATE)}
    with pytest.raises(InputError, match=said):
        optimize(QUESTION, over, objective, plans=[Parallelism(2)])
