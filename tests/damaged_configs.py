"""config.json files with one fault each: removed, null, of another kind, elsewhere, said twice."""

import json
import random
from pathlib import Path

from diffgenz.models.families.generic import ALIASES
from diffgenz.models.files import list_models, read_config

REPORTS = Path(__file__).resolve().parents[2] / "shared" / "reports" / "configs"

VALUES = (
    None,
    "many",
    "",
    [],
    [1, "two", None],
    [[]],
    {},
    {"size": 8},
    -1,
    0,
    0.5,
    2.5,
    1e300,
    -1e-300,
    10**18,
    2**31 - 1,
    float("nan"),
    float("inf"),
    float("-inf"),
    True,
    False,
)
"""What a field is replaced with."""


def published():
    """(name, content) of the shipped files and of those of reports, where there are any."""
    found = [read_config(name) for name in list_models()]
    for path in sorted(REPORTS.glob("*/config.json")) if REPORTS.exists() else ():
        found.append((path.parent.name, json.loads(path.read_text(encoding="utf-8-sig"))))
    return found


def _fields(raw, place=()):
    """The places of all fields, those of sections included."""
    found = []
    for key, value in raw.items():
        found.append((*place, key))
        if isinstance(value, dict):
            found += _fields(value, (*place, key))
    return found


def _section(raw, place):
    """The object that holds the field at a place."""
    for key in place[:-1]:
        raw = raw[key]
    return raw


def _replaced(raw, place, draw):
    value = draw.choice(VALUES)
    _section(raw, place)[place[-1]] = value
    return f"= {value!r}"


def _removed(raw, place, draw):
    del _section(raw, place)[place[-1]]
    return "removed"


def _renamed(raw, place, draw):
    section = _section(raw, place)
    section[draw.choice((f"{place[-1]}s", place[-1].upper(), f"n_{place[-1]}"))] = section.pop(
        place[-1]
    )
    return "renamed"


def _contradicted(raw, place, draw):
    section, key = _section(raw, place), place[-1]
    value = section[key]
    other = draw.choice(ALIASES.get(key, (f"{key}_2",)))
    section[other] = value + 1 if isinstance(value, int | float) else draw.choice(VALUES)
    return f"and {other} = {section[other]!r}"


def _another_number(raw, place, draw):
    value = _section(raw, place)[place[-1]]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    _section(raw, place)[place[-1]] = value * draw.choice((2, 3, 0.37, -1, 1e9)) if number else 3
    return f"= {_section(raw, place)[place[-1]]!r}"


def _another_list(raw, place, draw):
    """A list that is too long or too short, or that holds something else."""
    section, key = _section(raw, place), place[-1]
    value = section[key] if isinstance(section[key], list) else [section[key]]
    change = draw.choice(("longer", "shorter", "text", "number", "twice"))
    section[key] = {
        "longer": [*value, *value[-1:]],
        "shorter": value[:-1],
        "text": [*value[:-1], "x"],
        "number": [*value[:-1], 10**6],
        "twice": value * 2,
    }[change]
    return change


def _nested(raw, place, draw):
    """Everything one level down, or two sections of the same."""
    key = draw.choice(("text_config", "llm_config", "thinker_config", "language_config"))
    inner = dict(raw)
    if draw.random() < 0.5:
        raw.clear()
        raw["model_type"] = "some_wrapper"
    raw[key] = inner
    if draw.random() < 0.3:
        inner.pop("model_type", None)
    return f"nested under {key}"


CHANGES = (
    _replaced,
    _replaced,
    _replaced,
    _removed,
    _renamed,
    _contradicted,
    _another_number,
    _another_number,
    _another_list,
    _nested,
)


def damaged(count, seed):
    """(what was done, field, content) of `count` files, the same for the same seed."""
    draw, files = random.Random(seed), published()
    for number in range(count):
        name, raw = files[number % len(files)]
        raw = json.loads(json.dumps(raw))
        place = draw.choice(_fields(raw))
        change = draw.choice(CHANGES)
        yield f"{name}: {'.'.join(place)} {change(raw, place, draw)}", place[-1], raw
