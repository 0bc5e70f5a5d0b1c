"""Damaged quantisation sections: each is read, or refused in one line."""

import copy
import random

import pytest
from checkpoint_cases import read, written
from section_cases import CASES

from diffgenz import InputError

WRONG = (None, [], {}, "x", "", -1, 0, 2**40, 1.5, True, ["a", 1], {"a": 1}, [[]], "re:(", [None])
"""Values of every type, few of which any key may have."""


def places(section, at=()):
    """The paths of all values in nested objects and lists."""
    found = [at] if at else []
    items = section.items() if isinstance(section, dict) else enumerate(section)
    for key, value in items:
        if isinstance(value, dict | list):
            found += places(value, (*at, key))
        else:
            found.append((*at, key))
    return found


def mutated(section, chance):
    """The section with one value removed, null, of a wrong type, renamed or nested."""
    section = copy.deepcopy(section)
    *path, key = chance.choice(places(section))
    holder = section
    for part in path:
        holder = holder[part]
    change = chance.choice(("remove", "null", "wrong", "wrong", "rename", "nest"))
    if change == "remove":
        del holder[key]
    elif change == "null":
        holder[key] = None
    elif change == "wrong":
        holder[key] = chance.choice(WRONG)
    elif change == "nest":
        holder[key] = {"nested": holder[key]}
    elif isinstance(holder, dict):
        holder[f"{key}_renamed"] = holder.pop(key)
    else:
        holder[key] = f"{holder[key]}.renamed"
    return section


def said(*checkpoint):
    """What is read of a checkpoint, or the line that refuses it; only other errors come through."""
    try:
        return read(written(*checkpoint))[1]
    except InputError as error:
        return str(error)


def is_said_well(found):
    """Whether it is a value or one line; never that the checkpoint is not quantised."""
    return found is not None and not (isinstance(found, str) and "\n" in found)


@pytest.mark.parametrize("name", CASES)
def test_mutations_are_read_or_refused(name, tmp_path):
    case, chance = CASES[name], random.Random(name)
    for _ in range(20):
        section = mutated(case.section, chance)
        assert not section or is_said_well(said(tmp_path, section, case.config)), section


@pytest.mark.parametrize("name", ["modelopt, wrapped", "modelopt, mixed", "modelopt"])
def test_mutated_sidecars_are_read_or_refused(name, tmp_path):
    case, chance = CASES[name], random.Random(name)
    section = case.section.get("quantization", case.section)
    for _ in range(100):
        sidecar = mutated({"quantization": section}, chance)
        assert is_said_well(said(tmp_path, None, case.config, sidecar)), sidecar


def test_mutations_reach_both_outcomes(tmp_path):
    chance = random.Random(0)
    found = [
        said(tmp_path, mutated(case.section, chance), case.config)
        for case in CASES.values()
        for _ in range(2)
    ]
    refused = sum(isinstance(each, str) for each in found)
    assert 0.1 < refused / len(found) < 0.9
