"""Suggestions of what to measure next."""

from itertools import pairwise

import pytest
from fit_cases import with_few_kernels

from diffgenz import InputError, Parallelism, Scenario, Workload, load_platform
from diffgenz.calibrating.suggest import suggest


def test_the_first_suggestion_narrows_most_and_none_widens(found, tmp_path, llama_8b):
    platform = with_few_kernels(tmp_path / "fit.toml", found)
    case = Scenario(llama_8b, platform, Workload(16, 1000, 100), Parallelism())
    steps = suggest(case, "tpot", count=3)
    assert {step.family for step in steps} <= set(platform.accelerator.kernels.forms)
    assert len(steps) == 3
    assert all(step.after < step.before for step in steps)
    assert all(later.before == pytest.approx(step.after) for step, later in pairwise(steps))
    assert steps[0].before - steps[0].after >= steps[1].before - steps[1].after
    with pytest.raises(InputError, match="suggest: the kernels of .* are not fitted"):
        suggest(case.replace(platform=load_platform("h100_sxm", fit="none")))
