"""The mean field against the event simulator `serving_simulator.py`, whose runs are a fixture."""

import functools

import numpy as np
import pytest
from mean_field_cases import found_for, means_for, rows, state_of
from serving_fixtures import CASES, simulate
from serving_simulator import CLOCKS

from diffgenz.serving.load import Load

ROWS = rows()


@pytest.fixture(scope="module")
def states():
    return [state_of(row["case"]) for row in ROWS]


@pytest.fixture(scope="module")
def answers(states):
    """The figures of an engine under a load, calculated once for all tests."""

    @functools.cache
    def answer(index, **options):
        return found_for(states[index], Load(**options))

    return answer


def open_errors(answers, load, name):
    """Errors at one share of the simulated saturation rate, with the simulation's own noise."""
    found = []
    for index, row in enumerate(ROWS):
        measured = row["open"][load]
        mine = answers(index, rate=float(load) * row["saturation"])[name]
        found.append((mine / measured[name] - 1, measured["ttft_error"] / measured["ttft"]))
    return np.array(found).T


def saturation_errors(found, states):
    """Errors of saturation rates."""
    pairs = zip(found, states, strict=True)
    return np.array([float(state.most.rate) / row["saturation"] - 1 for row, state in pairs])


def test_saturation_rates(states):
    ratios = np.abs(saturation_errors(ROWS, states))
    assert np.mean(ratios) < 0.01
    assert np.max(ratios) < 0.02


def test_saturation_rates_of_full_caches():
    """Requests are put back and computed again: up to four fifths of an engine's prompt tokens."""
    found = rows("full_caches")
    ratios = np.abs(saturation_errors(found, [state_of(row["case"]) for row in found]))
    assert np.mean(ratios) < 0.015
    assert np.max(ratios) < 0.035


@pytest.mark.parametrize("name", ["prefill_first", "speculation"])
def test_other_policies(name):
    """Prompts that go first, and verifications of drafts: in the mean over engines."""
    found = rows(name)
    engines = [state_of(row["case"]) for row in found]
    assert np.mean(np.abs(saturation_errors(found, engines))) < 0.02
    for share, limit in (("0.3", 0.015), ("0.5", 0.025), ("0.8", 0.06)):
        errors = {"ttft": [], "tpot": []}
        for row, state in zip(found, engines, strict=True):
            mine = means_for(state, Load(rate=float(share) * row["saturation"]))
            for each, off in errors.items():
                off.append(mine[each] / row["open"][share][each] - 1)
        assert np.mean(np.abs(errors["tpot"])) < 0.03, share
        assert np.mean(np.abs(errors["ttft"])) < limit, share
    off = []
    for row, state in zip(found, engines, strict=True):
        equal = row["case"][1] == "constant"
        if equal and name == "speculation":
            continue  # equal answers take different numbers of verifications: neither loop
        for concurrency, measured in row["closed"].items():
            mine = means_for(state, Load(concurrency=float(concurrency), lockstep=equal))
            off.append([mine[each] / measured[each] - 1 for each in ("tpot", "ttft")])
    assert np.all(np.mean(np.abs(off), axis=0) < (0.02, 0.04))


@pytest.mark.parametrize("load", ["0.1", "0.3", "0.5", "0.7", "0.8", "0.9"])
def test_time_per_token(answers, load):
    errors, _ = open_errors(answers, load, "tpot")
    assert np.mean(np.abs(errors)) < 0.025


@pytest.mark.parametrize("load", ["0.1", "0.3", "0.5", "0.7", "0.8"])
def test_time_to_first_token(answers, load):
    errors, _ = open_errors(answers, load, "ttft")
    assert np.mean(np.abs(errors)) < 0.04


@pytest.mark.parametrize("load", ["0.1", "0.3", "0.5", "0.7", "0.8"])
def test_end_to_end(answers, load):
    errors, _ = open_errors(answers, load, "end_to_end")
    assert np.mean(np.abs(errors)) < 0.03
    tails, _ = open_errors(answers, load, "end_to_end_p99")
    assert np.mean(np.abs(tails)) < 0.10


@pytest.mark.parametrize(
    ("load", "limit"), [("0.1", 0.05), ("0.3", 0.06), ("0.5", 0.06), ("0.7", 0.07), ("0.8", 0.11)]
)
def test_tails_of_time_to_first_token(answers, load, limit):
    errors, _ = open_errors(answers, load, "ttft_p99")
    assert np.mean(np.abs(errors)) < limit


@pytest.mark.parametrize("concurrency", ["4", "16", "64", "128"])
def test_random_lengths_in_a_closed_loop(answers, concurrency):
    """Throughput has the noise of the lengths that were drawn."""
    found = {"throughput": [], "tpot": []}
    for index, row in enumerate(ROWS):
        if row["case"][1] == "lognormal" and concurrency in row["closed"]:
            mine, measured = answers(index, concurrency=float(concurrency)), row["closed"]
            for name, errors in found.items():
                errors.append(mine[name] / measured[concurrency][name] - 1)
    assert np.mean(np.abs(found["throughput"])) < 0.035
    assert np.mean(np.abs(found["tpot"])) < 0.03


@pytest.mark.parametrize("concurrency", ["1", "4", "16", "64", "128"])
def test_equal_lengths_in_a_closed_loop_move_in_lockstep(answers, concurrency):
    for index, row in enumerate(ROWS):
        if row["case"][1] == "constant" and concurrency in row["closed"]:
            mine = answers(index, concurrency=float(concurrency), lockstep=True)
            for name, most in (("throughput", 0.015), ("tpot", 0.002), ("ttft", 0.08)):
                off = mine[name] / row["closed"][concurrency][name] - 1
                assert abs(off) < most, (row["case"], name)


def test_the_simulator_alone_gives_the_phases():
    """One request at a time: its prefill, then decode iterations over a growing context."""
    case = CASES[1]
    clock = CLOCKS[case[0]]
    found = simulate(case, 40, seed=1, concurrency=1)
    prompt, output = case[2], case[3]
    assert found["ttft"] == pytest.approx(clock(0, 0, prompt, prompt * (prompt + 1) / 2), rel=1e-4)
    mean = np.mean([clock(1, prompt + step, 0, 0) for step in range(1, output)])
    assert found["tpot"] == pytest.approx(mean, rel=1e-4)


def test_the_simulator_with_one_slot_is_a_single_server_queue():
    """Pollaczek and Khinchine: W = rate E[S^2] / (2 (1 - load)), and half of nothing else."""
    case = ("small", "constant", 512, 8, 2048, 1, np.inf)
    alone = simulate(case, 40, seed=1, concurrency=1)["end_to_end"]
    rate = 0.6 / alone
    found = simulate(case, 40000, seed=2, rate=rate)
    wait = rate * alone**2 / (2 * (1 - 0.6))
    assert found["end_to_end"] - alone == pytest.approx(wait, rel=0.05)


def test_the_fixture_is_of_these_cases():
    assert [tuple(row["case"]) for row in ROWS] == [tuple(case) for case in CASES]
