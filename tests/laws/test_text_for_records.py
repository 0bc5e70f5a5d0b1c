"""Every public function and record refuses a text where a record belongs, in one line."""

import subprocess
import sys

LAW = """
import inspect, typing
import equinox as eqx
import diffgenz as dgz

from diffgenz.core.record import Record

RECORDS = (eqx.Module, dgz.Space)
named = [getattr(dgz, name) for name in dgz.__all__]
records = [thing for thing in named if isinstance(thing, type) and issubclass(thing, Record)]

def wants_record(kind):
    inner = [k for k in typing.get_args(kind) or (kind,) if isinstance(k, type)]
    return bool(inner) and issubclass(inner[0], RECORDS)

for name in sorted(dgz.__all__):
    thing = getattr(dgz, name)
    if not (inspect.isfunction(thing) or thing is dgz.Space or thing in records):
        continue
    parameters = inspect.signature(thing).parameters.values()
    needed = [p for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if not needed or not wants_record(needed[0].annotation):
        continue
    given = {p.name: "some text" for p in parameters if p.default is p.empty}
    if name == "disaggregate":
        given["link_bandwidth"] = 1e9
    if "reductions" in given:
        given["reductions"] = {}
    if name == "Mix":
        given |= {"scenarios": ("some text",), "shares": (1.0,)}
    try:
        thing(**given)
    except dgz.InputError as error:
        print(name, "|", error)
    except Exception as error:
        print(name, "|", type(error).__name__, error)
    else:
        print(name, "| nothing")
"""
VERBS = {
    *("estimate", "breakdown", "elasticities", "deviations", "iteration_cost"),
    *("search", "requirements", "disaggregate", "suggest", "plans", "ideal_platform"),
    *("sweep", "merge", "Scenario", "Platform", "Pool", "Draft", "Space"),
}


def test_text_is_refused_by_name():
    """In a process without the type checks of tests, which would come first."""
    run = subprocess.run([sys.executable, "-c", LAW], capture_output=True, text=True, check=True)
    told = dict(line.split(" | ", 1) for line in run.stdout.splitlines())
    assert set(told) >= VERBS
    for name, error in told.items():
        assert ": 'some text' is no " in error, f"{name}: {error}"
        assert "; write " in error, f"{name}: {error}"
