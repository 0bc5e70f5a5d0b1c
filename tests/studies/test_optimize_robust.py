"""Designs under uncertainty: closed forms by hand, laws, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm
from small_llama import small
from ui_cases import run

import diffgenz as dgz
from diffgenz.core.smooth import HARD
from diffgenz.studies.optimize.compiled import Compiled
from diffgenz.studies.optimize.distributions import lognormal, normal, uniform, values
from diffgenz.studies.optimize.draws import draws_of
from diffgenz.studies.optimize.layouts import Layout
from diffgenz.studies.optimize.problem import Problem
from diffgenz.studies.optimize.robust import Robust
from diffgenz.studies.optimize.slopes import point_at
from diffgenz.studies.optimize.statistic_words import limits_on_draws
from diffgenz.studies.optimize.statistics import Statistic

WIDTH, TAIL = 0.5, 0.75
ALONE = {"plans": dgz.Parallelism(), "starts": 1, "check_prices": False}


def question(fit="none", **changes):
    parts = {"workload": dgz.Workload(1, 16, 4)} | changes
    return dgz.Scenario(small(), dgz.load_platform("h100_sxm", 1, fit), **parts)


def solve(over, objective, limits, uncertain, **changes):
    case = changes.pop("case", question())
    return dgz.optimize(
        case, over, objective, subject_to=limits, uncertain=uncertain, **ALONE | changes
    )


def tail(width, level):
    """CVaR of a lognormal with median 1."""
    z = norm.ppf(level)
    return np.exp(width**2 / 2) * norm.cdf(width - z) / (1 - level)


def drawn(draws, width=WIDTH, **changes):
    return dgz.Uncertainty({"u": lognormal(1, width)}, draws=draws, **changes)


BY_HAND = {"a": (0.01, 100)}, "a + u / a"
"""Its statistic is a + S / a, S being that of u: at least 2 sqrt S."""


@pytest.mark.parametrize(
    ("objective", "statistic"),
    [
        ("a + u / a", np.exp(WIDTH**2 / 2)),
        ("mean(a + u / a)", np.exp(WIDTH**2 / 2)),
        ("cvar(75%, a + u / a)", tail(WIDTH, TAIL)),
    ],
)
def test_the_best_of_a_statistic_is_its_closed_form(objective, statistic):
    found = solve(BY_HAND[0], objective, [], drawn(128), quantities={"a": "1", "u": "3"})
    assert found.best.value == pytest.approx(2 * np.sqrt(statistic), rel=0.01)
    assert found.exact.value == pytest.approx(2 * np.sqrt(statistic), rel=0.01)
    assert found.best.certified
    how = found.robustness
    assert how.nominal.numbers["a"] == pytest.approx(1, rel=1e-3)  # the median of u is 1, not 3
    assert how.robust.value == pytest.approx(2 * np.sqrt(statistic), rel=0.03)
    nominal = 1 + statistic  # a = 1
    assert how.premium == pytest.approx(100 * (2 * np.sqrt(statistic) / nominal - 1), abs=1)
    assert how.premium < 0


def test_the_worst_case_is_that_of_the_worst_value():
    """Of 1, 2 and 4, equally likely."""
    uncertain = dgz.Uncertainty({"u": values(4, 1, 2)}, draws=30)
    found = solve(BY_HAND[0], "worst(a + u / a)", [], uncertain, quantities={"a": "1", "u": "1"})
    assert found.exact.value == pytest.approx(2 * np.sqrt(4), rel=1e-5)
    assert found.exact.numbers["a"] == pytest.approx(2, rel=1e-2)
    least = solve(
        {"a": (0.01, 100)},
        "worst(u * a / (1 + a ** 2))",
        [],
        uncertain,
        quantities={"a": "1", "u": "1"},
        maximise=True,
    )
    assert least.exact.value == pytest.approx(1 / 2, rel=1e-4)


def test_more_draws_come_closer_to_the_closed_form():
    exact = 2 * np.sqrt(tail(WIDTH, TAIL))

    def error(draws):
        asked = *BY_HAND[:1], "cvar(75%, a + u / a)", []
        every = [
            solve(*asked, drawn(draws, seed=seed), quantities={"a": "1", "u": "1"})
            for seed in range(3)
        ]
        return np.sqrt(np.mean([(each.exact.value / exact - 1) ** 2 for each in every]))

    assert error(128) < error(8) / 4


def test_no_width_is_the_optimum_without_uncertainty():
    """Also in smoothed tails: limits that draws do not move are plain ones."""
    limits = ["a >= 0.5", "mean(a) <= 1e3", "b * a >= 2 in 90% of draws"]
    over = {"a": (0.01, 100), "b": (0.01, 100)}
    quantities = {"a": "1", "b": "1", "u": "2"}
    found = solve(over, "cvar(75%, a + u * b)", limits, drawn(16, 0.0), quantities=quantities)
    plain = ["a >= 0.5", "a <= 1e3", "b * a >= 2"]
    alone = solve(over, "a + b", plain, None, quantities=quantities)
    assert found.exact.value == pytest.approx(alone.exact.value, rel=1e-6)
    for name, value in alone.exact.numbers.items():
        assert found.exact.numbers[name] == pytest.approx(value, rel=1e-4)
    assert found.robustness.premium == pytest.approx(0, abs=1e-4)
    assert found.robustness.robust.all_met == 1


def memory_bound():
    """Decode without launch latency: TPOT is bytes / (bandwidth x efficiency)."""
    case = question(sharpness=HARD)
    chip = case.platform.accelerator.replace(launch_latency=0.0, memory_efficiency=0.5)
    return case.replace(platform=case.platform.replace(accelerator=chip))


def test_the_bandwidth_for_a_share_of_draws_is_that_of_the_tail_of_a_lognormal():
    """1 / efficiency is lognormal, too; its CVaR is what is made sure of."""
    width, limit = 0.2, 1e-6
    case = memory_bound()
    uncertain = dgz.Uncertainty({"memory_efficiency": lognormal(0.5, width)}, draws=512)
    over = {"memory_bandwidth": (1e11, 1e13)}
    found = {
        text: solve(over, "memory_bandwidth", [text], uncertain, case=case)
        for text in (f"tpot <= {limit} in 90% of draws", f"mean(tpot) <= {limit}")
    }
    chip = case.platform.accelerator
    moved = case.replace(
        platform=case.platform.replace(accelerator=chip.replace(memory_bandwidth=1e12))
    )
    bandwidth = 1e12 * float(dgz.estimate(moved).tpot) / limit  # at the median
    share, mean = (each.exact.numbers["memory_bandwidth"] for each in found.values())
    assert share == pytest.approx(bandwidth * tail(width, 0.9), rel=0.01)
    assert mean == pytest.approx(bandwidth * np.exp(width**2 / 2), rel=0.01)
    how = next(iter(found.values())).robustness
    (limit,) = how.robust.limits
    meets = norm.cdf(np.log(tail(width, 0.9)) / width)
    assert limit.asked == 0.9
    assert limit.held
    assert limit.share == pytest.approx(meets, abs=0.02)
    assert limit.share > 0.9
    assert how.nominal.limits[0].share == pytest.approx(0.5, abs=0.02)
    assert not how.nominal.limits[0].held
    (price,) = found[f"mean(tpot) <= {1e-6}"].best.prices
    assert price.name == "mean(tpot) <= 1e-06"
    assert price.elasticity == pytest.approx(-1, rel=0.01)


OVER = {"memory_bandwidth": (1e12, 8e12), "batch": (1, 64)}
LIMITS = ["fits", "tpot <= 1e-4 in 90% of draws", "mean(ttft) <= 1e-3", "cvar(50%, tdp) <= 900"]


def robust(uncertain, case=None, fit="none", count=5):
    case = question(fit) if case is None else case
    limits = limits_on_draws(LIMITS)
    texts = [limit.text for limit in limits]
    layouts = [Layout(dgz.Parallelism())]
    asked = OVER, "tpot", False, texts, {}, {"u": "1"}, layouts
    problem = Problem(case, *asked).hardened(sharpness=8, smooth_batch=True)
    return Robust(problem, draws_of(problem, uncertain, count), Statistic("cvar", 0.5), limits)


def test_draws_together_are_as_one_by_one():
    """Workloads and hardware: each draw is the scenario with its numbers."""
    uncertain = dgz.Uncertainty(
        {"output_tokens": lognormal(8, 1), "launch_latency": uniform(1e-6, 5e-6)}
    )
    problem = robust(uncertain)
    x = np.log([[2e12, 3.0], [5e12, 20.0]])
    f, c = problem.values_of_draws(x, np.zeros(2, int))
    assert f.shape == (2, 5)
    tokens = problem.drawn.table[:, 0]
    assert (tokens == np.round(tokens)).all()
    for place, (output, latency) in enumerate(problem.drawn.table):
        case = question(workload=dgz.Workload(1, 16, float(output)))
        chip = case.platform.accelerator.replace(launch_latency=float(latency))
        case = case.replace(platform=case.platform.replace(accelerator=chip))
        texts = [limit.text for limit in limits_on_draws(LIMITS)]
        layouts = [Layout(dgz.Parallelism())]
        one = Problem(case, OVER, "tpot", False, texts, {}, {}, layouts)
        one = one.hardened(sharpness=8, smooth_batch=True)
        alone = one.values(x, np.zeros(2, int))
        np.testing.assert_allclose(f[:, place], alone[0], rtol=1e-6)
        np.testing.assert_allclose(c[:, place], alone[1], rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_compiled_draws_are_those_of_numpy():
    uncertain = dgz.Uncertainty({"u": lognormal(1, 0.1)}, calibration=True, technology=True)
    problem = robust(uncertain, fit="trtllm", count=3)
    x = np.log([[2e12, 3.0], [5e12, 20.0]])
    compiled = problem.over_draws(Compiled(problem.inner, 8))
    plans = np.zeros(2, int)
    for one, other in zip(compiled(x, plans), point_at(problem, x, plans), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_kernels_are_drawn_as_their_deviations_say():
    case = question("trtllm", workload=dgz.Workload(4, 64, 16))
    chip = case.platform.accelerator
    problem = robust(dgz.Uncertainty(calibration=True), case, count=256)
    x = np.log([[float(chip.memory_bandwidth), 4.0]])
    smooth = case.replace(smooth_batch=True, sharpness=8)
    f, _ = problem.values_of_draws(x, np.zeros(1, int))
    told = float(dgz.deviations(smooth).tpot) / float(dgz.estimate(smooth).tpot)
    assert np.std(f[0]) == pytest.approx(told, rel=0.15)
    assert np.median(f[0]) == pytest.approx(np.log(float(dgz.estimate(smooth).tpot)), abs=told / 5)


def test_technology_is_drawn_as_its_fit_says_and_other_draws_are_others():
    uncertain = dgz.Uncertainty(technology=True)
    problem = robust(uncertain, count=64)
    x = np.log([[3e12, 4.0]])
    _, c = problem.values_of_draws(x, np.zeros(1, int))
    tdp = c[0, :, -1]
    assert 0.03 < np.std(tdp) < 0.6
    assert np.ptp(c[0, :, 1]) == 0  # times do not depend on it
    place = [each.name for each in problem.drawn.chosen].index("technology.leakage")
    leakage = dgz.load_technology().leakage
    logs = np.log(problem.drawn.table[:, place] / float(leakage.value))
    assert np.std(logs) == pytest.approx(float(leakage.deviation), rel=0.3)
    again = draws_of(problem.nominal, uncertain, 64)
    np.testing.assert_array_equal(again.table, problem.drawn.table)
    assert not np.isclose(draws_of(problem.nominal, uncertain, 64, salt=1).table, again.table).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"a": lognormal(1, 1)}, "uncertain[a]: it is free (over), derived or chosen"),
        ({"v": lognormal(1, 1)}, "uncertain[v]: it is a formula (2 * u)"),
        ({"memory_bandwith": normal(1, 0)}, "did you mean"),
        ({"plan.tensor": values(1, 2)}, "counts ranks and is not drawn"),
        ({"memory_efficiency": normal(0.9, 0.3)}, "is not allowed"),
        ({"memory_efficiency": normal(3, 0.0)}, "and a draw is; narrow the distribution"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(changes, words):
    quantities = {"a": "1", "u": "1", "v": "2 * u"}
    with pytest.raises(dgz.InputError) as error:
        solve(*BY_HAND, [], dgz.Uncertainty(changes, draws=64), quantities=quantities)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: lognormal(0, 1), "a median of 0 has no logarithm"),
        (lambda: lognormal(1, -1), "a width of -1 is not allowed"),
        (lambda: normal(float("nan"), 1), "a mean of nan"),
        (dgz.Uncertainty, "uncertain: nothing is"),
        (lambda: drawn(0), "draws: 0 is not allowed"),
        (lambda: solve(*PLAIN, [], dgz.Uncertainty(calibration=True)), "are not fitted"),
        (lambda: solve(*PLAIN, [], dgz.Uncertainty(technology=True)), "no formula names what an"),
        (lambda: solve(PLAIN[0], "mean(tpot)", [], None), "and nothing is uncertain"),
        (lambda: solve(*PLAIN, ["ttft <= 2 in 90% of draws"], None), "nothing"),
    ],
)
def test_distributions_and_uncertainties_that_mean_nothing_are_refused(make, words):
    with pytest.raises(dgz.InputError, match=words):
        make()


PLAIN = {"batch": (1, 9)}, "tpot"

STUDY = """
minimize = "cvar(75%, cost)"
constraints = ["fits", "tpot <= 1e-4 in 90% of draws"]
starts = 1
draws = 8

[scenario]
model = "MODEL"
system = "h100_sxm"
fit = "none"
isl = 16
osl = 4

[over]
memory_bandwidth = ["0.1 TB/s", "10 TB/s"]

[uncertain]
input_tokens = { lognormal = 16, width = 0.3 }
launch_latency = { uniform = ["1 us", "3 us"] }
usd = { normal = 300, deviation = 20 }

[quantities]
usd = "280"
cost = "usd * memory_bandwidth / 1e12"
"""


def study(tmp_path, text=STUDY):
    path = tmp_path / "robust.toml"
    path.write_text(text.replace("MODEL", "meta-llama/Llama-3.1-8B").replace("1e-4", "0.01"))
    return str(path)


def test_a_file_says_what_is_uncertain_and_the_command_what_it_costs(capsys, tmp_path):
    path = study(tmp_path)
    uncertain = dgz.load_study(path).uncertain
    assert uncertain.numbers == {
        "input_tokens": lognormal(16, 0.3),
        "launch_latency": uniform(1e-6, 3e-6),
        "usd": normal(300, 20),
    }
    assert (uncertain.draws, uncertain.calibration, uncertain.technology) == (8, False, False)
    out = tmp_path / "found.json"
    text = run(capsys, "optimize", path, "--out", str(out))
    for said in (
        "least cvar(75%, cost):",
        "With 8 draws of input_tokens, launch_latency, usd; judged at 1,000 others:",
        "tpot <= 0.01 in 90% of draws",
        "best at medians",
        "is made sure of by the mean of the worst ones (CVaR)",
    ):
        assert said in text
    how = json.loads(out.read_text())["robustness"]
    assert how["robust"]["limits"][1]["share"] >= 0.9
    assert how["robust"]["low"] < how["robust"]["middle"] < how["robust"]["high"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("lognormal = 16, width = 0.3", "lognormal = 16", "width is missing; write { lognormal ="),
        ("lognormal = 16, width = 0.3", "width = 0.3", "has no distribution; write one of"),
        ("normal = 300", "uniform = [1, 2], normal = 300", "has normal and uniform; write one of"),
        ('["1 us", "3 us"]', '["1 us"]', "uniform has 1 bounds, not 2"),
        ('["1 us", "3 us"]', '["1 us", "3 W"]', "3 W"),
        ("width = 0.3", "widht = 0.3", "is not known"),
        ("input_tokens =", "input_tokns =", "did you mean"),
        ("[uncertain]", "[uncertain]\ncalibration = 1", "1 is not true or false"),
        ("draws = 8", "draws = 0", "draws: 0 is not allowed"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(tmp_path, old, new, words):
    assert old in STUDY
    with pytest.raises(dgz.InputError) as error:
        dgz.load_study(study(tmp_path, STUDY.replace(old, new, 1)))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_draws_of_nothing_and_fronts_of_draws_are_refused(tmp_path):
    start, end = STUDY.index("[uncertain]"), STUDY.index("[quantities]")
    with pytest.raises(dgz.InputError, match="draws: nothing is uncertain"):
        dgz.load_study(study(tmp_path, STUDY[:start] + STUDY[end:]))
    loaded = dgz.load_study(study(tmp_path))
    for ask in (
        lambda: loaded.front(["tpot"]),
        lambda: loaded.worth("launch_latency", 2),
        lambda: loaded.bottlenecks("launch_latency", 2),
    ):
        with pytest.raises(dgz.InputError, match="leave .uncertain. and its statistics out"):
            ask()


def test_the_example_reads():
    examples = Path(dgz.__file__).parents[1] / "examples"
    found = dgz.load_study(examples / "robust.toml")
    assert found.uncertain.calibration
    assert found.uncertain.technology
    assert set(found.uncertain.numbers) == {"input_tokens", "electricity"}
