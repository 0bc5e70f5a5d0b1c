"""Slopes along few directions are all slopes, whatever reaches which part of a mix."""

import numpy as np
import pytest

import diffgenz as dgz
from diffgenz.core.differences import STEP, in_double
from diffgenz.core.verb import as_if_traced
from diffgenz.studies.optimize.influence import directions_of
from diffgenz.studies.optimize.layouts import Layout
from diffgenz.studies.optimize.problem import Problem

BATCHES = {f"scenarios[{part}].workload.batch": (2, 64) for part in range(3)}
SHARED = {"memory_bandwidth": (1e12, 4e12), "network[0].bandwidth": (1e11, 9e11)}
PROMPT = "scenarios[1].workload.input_tokens"


def problem_of(over, derived, limits):
    platform = dgz.load_platform("h100_sxm", 2, "none")
    model = dgz.load_model("meta-llama/Llama-3.1-8B")
    cases = [dgz.Scenario(model, platform, dgz.Workload(8, isl, 64)) for isl in (256, 512, 1024)]
    question = dgz.Mix(tuple(cases), (3, 2, 1))
    layouts = [Layout(dgz.Parallelism(2))]
    problem = Problem(question, over, "1 / throughput", False, limits, derived, {"n": "4"}, layouts)
    return problem.hardened(sharpness=8, smooth_batch=True)


def metrics(problem, names, x):
    with in_double(), as_if_traced():
        own = problem.table_at(np.zeros(len(x), int))
        question = problem.placed(*problem.with_layout(problem.double, own, np.exp(x).T))
        found = problem.metrics(question)
        return np.stack([np.broadcast_to(found[name], len(x)) for name in names], axis=1)


def slopes(problem, names, x, moves):
    ends = [metrics(problem, names, x + sign * STEP * moves) for sign in (1, -1)]
    return (ends[0] - ends[1]).T / (2 * STEP)


@pytest.mark.parametrize(
    ("more", "derived", "count"),
    [
        ({}, {}, 3),  # two that all parts share, and one for the batches of all parts
        ({"n": (1, 9)}, {}, 3),  # what no estimate sees needs none
        ({}, {PROMPT: "64 * scenarios[0].workload.batch"}, 4),  # the batch of one moves two parts
        ({"n": (1, 9)}, {PROMPT: "128 * n"}, 4),  # of one part, which has two of its own then
        ({"shares[0]": (1, 9)}, {}, 4),  # a share moves none of them, but the whole
    ],
)
def test_slopes_along_few_directions_are_all_slopes(more, derived, count):
    problem = problem_of(SHARED | BATCHES | more, derived, ("fits", "tpot <= 1"))
    found = directions_of(problem)
    assert len(found.basis) == count
    x = (problem.low + problem.high)[None] / 2
    along = slopes(problem, found.names, x, found.basis)
    every = slopes(problem, found.names, x, np.eye(len(problem.variables)))
    scale = np.abs(metrics(problem, found.names, x)).T
    np.testing.assert_allclose(found.spread(along[None])[0] / scale, every / scale, atol=1e-8)


def test_a_load_reaches_its_question():
    platform = dgz.load_platform("h100_sxm", 2, "none")
    case = dgz.Scenario(
        dgz.load_model("meta-llama/Llama-3.1-8B"), platform, dgz.Workload(1, 512, 64)
    )
    load, engine = dgz.Load(rate=2.0), dgz.Engine(host_seconds=1e-3)
    question = dgz.UnderLoad(case, load, engine, dgz.Objectives(tpot=0.02))
    over = {
        "rate": (1, 9),
        "host_seconds": (1e-4, 1e-2),
        "memory_bandwidth": (1e12, 4e12),
        "n": (1, 2),
    }
    layouts = [Layout(dgz.Parallelism(2))]
    limits = ("tpot_p90 <= 0.02",)
    problem = Problem(question, over, "rate * n", True, limits, {}, {"n": "1"}, layouts)
    found = directions_of(problem)
    assert found.counts.tolist() == [[True, True, True, False]] * len(found.names)
    assert len(found.basis) == 3
