"""Suggestions of what to measure next."""

from itertools import pairwise

import pytest

from diffgenz import InputError, Workload, load_platform
from diffgenz.calibrating.suggest import suggest
from diffgenz.kernels.fits import write_fits
from diffgenz.kernels.library import Library

CHAT = Workload(batch=12, input_tokens=700, output_tokens=90)


def with_few_kernels(path, fit):
    """An H100 with `fit` and one more: each kernel's parameters take seconds to compile."""
    write_fits(path, "h100_sxm", [fit], "a test")
    platform = load_platform("h100_sxm", fit=path)
    kernels = platform.accelerator.kernels
    few = Library(
        {family: kernels.forms[family] for family in (fit.family, "decode")}, kernels.origin
    )
    return platform.replace(accelerator=platform.accelerator.replace(kernels=few))


def test_the_first_suggestion_narrows_most_and_none_widens(found, tmp_path, llama_8b):
    platform = with_few_kernels(tmp_path / "fit.toml", found)
    steps = suggest(llama_8b, platform, Workload(16, 1000, 100), metric="tpot", count=3)
    assert {step.family for step in steps} <= set(platform.accelerator.kernels.forms)
    assert len(steps) == 3
    assert all(step.after < step.before for step in steps)
    assert all(later.before == pytest.approx(step.after) for step, later in pairwise(steps))
    assert steps[0].before - steps[0].after >= steps[1].before - steps[1].after
    with pytest.raises(InputError, match="suggest: the kernels of .* are not fitted"):
        suggest(llama_8b, load_platform("h100_sxm", fit="none"), CHAT)
