"""Files with a fault: a finite model, or one line that names a field; never a traceback."""

import math
import re

import pytest
from damaged_configs import damaged

from diffgenz import Scenario, Workload, estimate, load_platform, model_from_config
from diffgenz.core.errors import InputError

COUNT, SEED = 400, 20260729


def fields_of(raw):
    """The names of all fields of a file."""
    for key, value in raw.items():
        yield key
        if isinstance(value, dict):
            yield from fields_of(value)


def outcome(raw, generic):
    """The model of a file, or the refusal."""
    try:
        return model_from_config(raw, "m", generic)
    except InputError as refusal:
        return str(refusal)


@pytest.mark.parametrize("generic", [False, True], ids=["known", "generic"])
def test_a_damaged_file_is_read_or_refused_by_field(generic):
    read = 0
    for what, field, raw in damaged(COUNT, SEED):
        found = outcome(raw, generic)
        if isinstance(found, str):
            assert found.startswith("m: "), what
            assert "\n" not in found, what
            said = set(re.findall(r"\w+", found.removeprefix("m: ")))
            names = {field, *fields_of(raw)} & said
            assert names or re.search(r"lacks \w+", found), (what, found)
        else:
            read += 1
            assert 0 < float(found.parameters) < 1e15, what
            assert all("\n" not in note for note in found.notes), what
    assert COUNT / 4 < read < COUNT  # some faults change nothing, and some are fatal


def test_what_is_read_can_be_estimated():
    platform, read = load_platform("h100_sxm", fit="none"), 0
    for what, _, raw in damaged(COUNT, SEED + 1):
        model = outcome(raw, generic=True)
        if isinstance(model, str):
            continue
        read += 1
        case = Scenario(model, platform, Workload(batch=4, input_tokens=512, output_tokens=64))
        result = estimate(case)
        for number in (result.ttft, result.tpot, result.memory.total):
            assert 0 < float(number) < math.inf, what
        if read == 50:
            return
    raise AssertionError(f"{read} files of {COUNT} are read")
