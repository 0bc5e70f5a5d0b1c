"""What `optimize` refuses, and says of starts that it cannot use."""

import pytest
from optimize_cases import ASKED, OVER, TWO, solve

import diffgenz as dgz


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"over": {}}, "over: nothing is free"),
        ({"over": {"memory_bandwith": (1, 2)}}, "memory_bandwith' is not known; did you mean"),
        ({"over": {"memory_bandwidth": (2e12, 1e12)}}, "lower bound 2e+12 exceeds"),
        ({"over": {"memory_bandwidth": (1e12, 1e12)}}, "leaves no room"),
        ({"over": {"memory_bandwidth": (0, 1e12)}}, "has no logarithm"),
        ({"over": {"memory_bandwidth": (1e12,)}}, "are no two bounds"),
        ({"over": {"memory_bandwidth": (1e12, float("inf"))}}, "give finite ones"),
        ({"over": {"memory_efficiency": (0.5, 1.5)}}, "1.5 is not allowed"),
        ({"over": {"plan.tensor": (1, 8)}}, "counts ranks and is not continuous; list plans"),
        ({"over": {"unit_cost": (1, 2)}}, "over[unit_cost]: it is a formula"),
        ({"over": {"batch": (2.2, 2.8)}}, "no whole number lies between 2.2 and 2.8"),
        (
            {"over": {"memory_bandwidth": (1, 2), "accelerator.memory_bandwidth": (1, 2)}},
            "are one number",
        ),
        ({"objective": "tpott"}, "objective: 'tpott' is not known; did you mean"),
        ({"objective": "tpot <= 1"}, "is a condition; name a number"),
        ({"objective": "mixed_tpot"}, "objective: mixed_tpot needs mixed iterations"),
        (
            {"objective": "memory_capacity", "subject_to": ["tpot <= 1"]},
            "nothing that is free moves 'memory_capacity'",
        ),
        ({"subject_to": ["tpot"]}, "'tpot' is no limit"),
        ({"subject_to": ["tpot <= 0.02 or fits"]}, "is no limit"),
        ({"subject_to": ["tpot == 0.02"]}, "is no limit"),
        ({"subject_to": ["tpot <= 0"]}, "a limit of 0 has no logarithm"),
        ({"subject_to": ["1 <= 2"]}, "has no name in it"),
        ({"subject_to": ["tpo <= 1"]}, "subject_to: 'tpo' is not known"),
        ({"subject_to": "tpot <= 1"}, "is one text"),
        ({"objective": "log(unit_cost / 1e9)"}, "start 1 of dp 2 (peak_flops[bf16] ="),
        ({"subject_to": ["sqrt(1 - unit_cost) <= 3"]}, "subject_to: 'sqrt(1 - unit_cost) <= 3'"),
        ({"derived": {"memory_bandwidth": "1e12"}}, "memory_bandwidth is free (over)"),
        ({"quantities": {"unit_cost": "unit_cost + 1"}}, "is made of itself"),
        ({"plans": []}, "plans: none to try"),
        ({"plans": dgz.Parallelism(4)}, "exceeds 2"),
        ({"starts": 0}, "starts: 0 is not allowed"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(changes, words):
    with pytest.raises(dgz.InputError) as error:
        solve(**changes)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_some_starts_without_a_number_are_named():
    found = solve(
        over={"memory_bandwidth": OVER["memory_bandwidth"]},
        quantities=ASKED["quantities"] | {"odd": "sqrt(memory_bandwidth - 2e12)"},
        subject_to=["fits", "odd <= 1e7"],
        plans=TWO,
        starts=8,
    )
    (note,) = found.notes
    assert note.startswith("subject_to: 'odd <= 10000000.0' has no positive, finite value at ")
    assert "such as start " in note
    assert found.best is not None
