"""Choices beside plans, what more of a number is worth, and which limit is next."""

from pathlib import Path

import numpy as np
import pytest
from small_llama import small

import diffgenz as dgz
from diffgenz.studies.optimize.optimize import problems_of
from diffgenz.studies.sweep.axes import choice, integers, uniform, values

EXAMPLES = Path(dgz.__file__).parents[1] / "examples"
STACKS = {
    "over": {"memory_bandwidth": (1e11, 1e14)},
    "objective": "(cost + 100 * sites) * accelerators * tpot",
    "quantities": {"cost": "300", "sites": "1"},
    "derived": {"memory_capacity": "sites * 24e9"},
    "subject_to": ["fits", "memory_bandwidth <= sites * 1e12"],
    "starts": 1,
}
"""More stacks make it dearer and quicker; bandwidth is free and goes to its limit."""

FORMATS = choice(
    {
        "bf16": {"precision": dgz.Precision()},
        "fp8": {"precision": dgz.Precision(weights="fp8", activations="fp8")},
    }
)


def question(count=2):
    return dgz.Scenario(
        small(),
        dgz.load_platform("h100_sxm", count, "none"),
        dgz.Workload(4, 64, 16),
        dgz.Parallelism(count),
    )


def test_every_combination_is_that_of_its_own_study():
    """Structures (formats) and numbers (stacks, accelerators) alike; the best eight are kept."""
    choices = {"sites": integers(2, 4, 2), "formats": FORMATS, "accelerators": values(1, 2)}
    found = dgz.optimize(question(), **STACKS, choices=choices, check_prices=False)
    rows = {each.label: each for each in found.plans}
    left = [note for note in found.notes if note.startswith("left out")]
    assert len(rows) == len(found.plans) >= 8
    assert len(rows) + sum(note.count(" (by ") for note in left) == 2 * 2 * (1 + 3)
    order = [each.value for each in found.plans]
    assert order == sorted(order)
    for label, formats, sites, count in (
        ("sites 4, fp8, accelerators 2; tp 2", "fp8", "4", 2),
        ("sites 2, bf16, accelerators 1; tp 1", "bf16", "2", 1),
        ("sites 2, fp8, accelerators 1; tp 1", "fp8", "2", 1),
    ):
        case = question(count).replace(precision=FORMATS.options[formats]["precision"])
        asked = STACKS | {"quantities": {"cost": "300", "sites": sites}}
        alone = dgz.optimize(case, **asked, plans=case.plan, check_prices=False)
        if label in rows:
            assert rows[label].value == pytest.approx(alone.best.value, rel=1e-6)
            assert rows[label].numbers["memory_bandwidth"] == pytest.approx(float(sites) * 1e12)
        else:
            (note,) = [note for note in left if label in note]
            behind = float(note.split(f"{label} (by ")[1].split(" %")[0]) / 100
            assert alone.best.value > max(order[7], order[0] * (1 + behind - 0.005))
    assert found.best.label == "sites 2, fp8, accelerators 1; tp 1"
    exact = found.exact
    assert exact.choices == found.best.choices
    assert float(exact.scenario.platform.accelerators) == exact.choices["accelerators"]
    assert exact.scenario.precision == FORMATS.options[exact.choices["formats"]]["precision"]
    now = dgz.estimate(exact.scenario)
    by_hand = (300 + 100 * exact.choices["sites"]) * exact.choices["accelerators"]
    assert exact.value == pytest.approx(by_hand * float(now.tpot), rel=1e-5)


def test_what_is_not_possible_is_noted_and_the_rest_is_solved():
    found = dgz.optimize(
        question(),
        **STACKS,
        plans=dgz.Parallelism(2),
        choices={"accelerators": values(1, 2)},
        check_prices=False,
    )
    assert [each.choices for each in found.plans] == [{"accelerators": 2}]
    (note,) = found.notes
    assert note.startswith("accelerators 1: not possible (")


def test_the_worth_of_a_multiple_is_the_difference_of_two_studies():
    asked = STACKS | {"quantities": {"cost": "300", "sites": "2"}, "plans": dgz.Parallelism(2)}
    found = dgz.worth_of("sites", 2, question(), **asked)
    ends = [
        dgz.optimize(
            question(),
            **asked | {"quantities": {"cost": "300", "sites": sites}},
            check_prices=False,
        )
        for sites in ("2", "4")
    ]
    assert found.now == pytest.approx(ends[0].best.value, rel=1e-6)
    assert found.then == pytest.approx(ends[1].best.value, rel=1e-6)
    assert found.gain == pytest.approx(found.now - found.then)


def test_a_premium_brings_the_cost_back_to_what_it_was():
    """Cost per token is proportional to the price: the premium is so by hand."""
    over = {"network[0].bandwidth": (1e11, 4e11)}
    asked = {"objective": "cost_per_million_output_tokens", "plans": dgz.Parallelism(2)}
    case = question()
    found = dgz.worth_of("memory_bandwidth", 2, case, over, starts=1, **asked)
    price = float(case.platform.accelerator.price)
    assert found.gain > 0
    assert found.premium == pytest.approx(price * (found.now / found.then - 1), rel=1e-3)


def test_a_path_names_the_limit_that_takes_over():
    """Least x / 5 with x >= 1 / a and x >= 1 / 3: the second takes over at a = 3."""
    asked = {
        "over": {"x": (0.01, 100)},
        "objective": "x / 5",
        "quantities": {"x": "1", "a": "1"},
        "subject_to": ["x * a >= 1", "x >= 1 / 3", "tpot <= 1"],
        "plans": dgz.Parallelism(2),
        "starts": 1,
    }
    first, last = dgz.bottlenecks("a", 8, question(), **asked)
    assert first.active == ("x * a >= 1",)
    assert last.active[0].startswith("x >= 0.333") or last.active == ("x >= 1 / 3",)
    assert first.high < 3 < last.low
    assert last.low / first.high < 1.01
    assert first.elasticity == pytest.approx(-1, rel=1e-5)
    assert last.elasticity == pytest.approx(0, abs=1e-5)
    assert last.value_high == pytest.approx(1 / 15, rel=1e-5)
    assert np.isclose(first.value_low, 0.2)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"sites": uniform(1, 2)}, "choices[sites]: a choice has single values"),
        ({"memory_bandwidth": values(1e12, 2e12)}, "choices: memory_bandwidth is free (over)"),
        ({"memory_capacity": values(1e12, 2e12)}, "choices: memory_capacity is free (over), der"),
        ({"plan": choice({"a": dgz.Parallelism(2)})}, "write them in plans"),
        ({"memory_efficiency": values(0.5, 2)}, "choices[memory_efficiency]"),
        ({"sits": values(1, 2)}, "'sits' is not known"),
    ],
)
def test_choices_that_cannot_be_used_are_refused_in_one_line(choices, words):
    with pytest.raises(dgz.InputError) as error:
        dgz.optimize(question(), **STACKS, choices=choices, check_prices=False)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "factor", "words"),
    [
        ("memory_bandwidth", 2, "it is free or chosen"),
        ("sites", 1, "a factor of 1 changes nothing"),
        ("launch_latenci", 2, "is not known"),
    ],
)
def test_numbers_that_cannot_be_multiplied_are_refused(name, factor, words):
    with pytest.raises(dgz.InputError, match=words):
        dgz.worth_of(name, factor, question(), **STACKS)


def test_a_file_lists_choices_in_the_words_of_sweeps():
    study = dgz.load_study(EXAMPLES / "formats_and_stacks.toml", fit="none")
    assert list(study.choices) == ["sites", "accelerators", "formats"]
    assert study.choices["sites"].levels == (4, 6, 8)
    assert not study.chooses_systems


def test_what_if_is_exact_for_a_power_and_says_where_the_limit_changes():
    """Least x / 5 with x >= 1 / a and x >= 1 / 3: x = 1 / a until a = 3, then 1 / 3 for good."""
    asked = {
        "over": {"x": (0.01, 100)},
        "objective": "x / 5",
        "quantities": {"x": "1", "a": "1"},
        "subject_to": ["x * a >= 1", "x >= 1 / 3"],
        "plans": dgz.Parallelism(2),
        "starts": 1,
    }
    found = dgz.what_if("a", question(), factors=(0.5, 2, 6), **asked)
    assert found.elasticity == pytest.approx(-1, rel=1e-5)
    assert found.now == pytest.approx(0.2, rel=1e-6)
    assert [row.predicted for row in found.rows] == pytest.approx([0.4, 0.1, 0.2 / 6], rel=1e-5)
    assert [row.solved for row in found.rows] == pytest.approx([0.4, 0.1, 1 / 15], rel=1e-5)
    assert [row.kept for row in found.rows] == pytest.approx([0.2] * 3, rel=1e-5)
    ((name, by),) = found.rows[0].broken
    assert (name, by) == ("x * a >= 1", pytest.approx(2, rel=1e-5))
    assert not found.rows[1].broken + found.rows[2].broken
    share = dgz.what_if("memory_efficiency", question(), **asked)  # is 1: there is no more
    assert [row.factor for row in share.rows] == [0.7, 0.9]
    assert share.elasticity == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "factor", "words"),
    [
        ("memory_efficiency", 2, "2 x memory_efficiency: 2 is not allowed; it must be"),
        ("accelerators", 2, "list what it may be as a choice"),
        ("sites", 0, "a factor of 0 is not allowed"),
    ],
)
def test_multiples_that_cannot_be_are_refused_in_one_line(name, factor, words):
    with pytest.raises(dgz.InputError) as error:
        dgz.what_if(name, question(), factors=(factor,), **STACKS)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_examples_of_model_choices_have_as_many_parameters():
    """KV heads against MLPs, and experts against their width: parameters stay what they are."""
    llama = dgz.load_model("meta-llama/Llama-3.1-70B")
    latent = dgz.load_model(str(EXAMPLES / "mla_70b" / "config.json"))
    assert float(latent.parameters) == pytest.approx(float(llama.parameters), rel=1e-4)
    for name, total in (("kv_heads", float(llama.parameters)), ("experts", None)):
        study = dgz.load_study(EXAMPLES / f"{name}.toml", fit="none")
        asked = study.over, study.objective, False, study.subject_to, study.derived
        (problem,), _ = problems_of(
            study.case, (*asked, study.quantities), study.plans, study.choices
        )
        seen = {}
        middle = np.exp((problem.low + problem.high) / 2)
        for place, layout in enumerate(problem.layouts):
            if str(layout.choices) not in seen:
                numbers = problem.with_layout(study.case, problem.table_at(place), middle)
                question = problem.placed(*numbers)
                seen[str(layout.choices)] = float(question.model.parameters)
        assert len(seen) >= 4
        total = total or float(study.case.model.parameters)
        assert list(seen.values()) == pytest.approx([total] * len(seen), rel=2e-3)


def test_parts_with_platforms_and_plans_of_their_own_are_optimized_apart():
    """Prefill and decode on chips of their own: the least sum is the sum of what is least."""
    case = question()
    mix = dgz.Mix((case, case.replace(workload=dgz.Workload(16, 64, 16))), (1, 1))
    bandwidth = "platform.accelerator.memory_bandwidth"
    cost = "plan.tensor * (1 + {0}" + bandwidth + " / 3e12)"
    every = (1, 2)
    found = dgz.optimize(
        mix,
        {f"scenarios[{part}].{bandwidth}": (1e11, 1e14) for part in range(2)},
        " + ".join(
            f"scenarios[{part}].{cost.format(f'scenarios[{part}].')} * {metric}[{part}]"
            for part, metric in enumerate(("ttft", "tpot"))
        ),
        plans=dgz.Parallelism(1),
        choices={f"scenarios[{part}].plan.tensor": values(*every) for part in range(2)},
        starts=1,
        check_prices=False,
    )
    apart = [
        {
            ranks: dgz.optimize(
                part,
                {bandwidth: (1e11, 1e14)},
                f"{cost.format('')} * {metric}",
                plans=dgz.Parallelism(ranks),
                starts=1,
                check_prices=False,
            ).best.value
            for ranks in every
        }
        for part, metric in zip(mix.scenarios, ("ttft", "tpot"), strict=True)
    ]
    rows = {tuple(each.choices.values()): each.value for each in found.plans}
    assert len(rows) == 4
    for (first, second), value in rows.items():
        assert value == pytest.approx(apart[0][first] + apart[1][second], rel=1e-7)
    assert [float(part.plan.tensor) for part in found.exact.scenario.scenarios] == list(
        found.best.choices.values()
    )
    assert ";" not in found.best.label  # the plan that both parts had before is neither's
