"""Formats that stand in for others."""

import pytest

from diffgenz import load_platform
from diffgenz.kernels.families import FAMILIES
from diffgenz.kernels.fits import read_fits
from diffgenz.kernels.form import Form
from diffgenz.kernels.library import Library
from diffgenz.kernels.relatives import EXPERTS, PRODUCTS, STARTS_LATE, misfit, nearest_format
from diffgenz.kernels.selection import fit_path


def test_experts_in_narrow_weights_are_timed_by_those_of_16_bits_first():
    there = ("bf16", "fp8_block", "mxfp4/bf16")
    assert nearest_format(there, "experts", "int4/bf16") == "bf16"
    assert nearest_format(there, "experts", "mxfp4/bf16") == "mxfp4/bf16"
    assert nearest_format(there[1:], "experts", "int4/bf16") == "mxfp4/bf16"
    assert nearest_format(there, "gemm", "int4/bf16") == "mxfp4/bf16"
    assert nearest_format(("fp8",), "gemm", "nvfp4") == "fp8"


def test_what_starts_late_stands_in_for_nothing_but_times_its_own_format():
    forms: dict[str, Form] = {
        "bf16": FAMILIES["gemm"].form(),
        "int8/bf16": FAMILIES["gemm"].form_in("int8/bf16")(),
    }
    alone = Library({"gemm": forms}, alone=(("gemm", "int8/bf16"),))
    assert Library({"gemm": forms}).format_of("gemm", "int4/bf16") == "int8/bf16"
    assert alone.format_of("gemm", "int4/bf16") == "bf16"
    assert alone.format_of("gemm", "int8/bf16") == "int8/bf16"


@pytest.mark.parametrize("system", ["h100_sxm", "b200_sxm", "a100_sxm"])
def test_shipped_kernels_that_start_late_are_alone(system):
    library = load_platform(system).accelerator.kernels
    assert library is not None
    late = {
        ("gemm", name)
        for name, form in library.forms["gemm"].items()
        if float(getattr(form, "launch")) > STARTS_LATE  # noqa: B009
    }
    assert set(library.alone) == late
    assert (("gemm", "int8/bf16") in late) == (system == "h100_sxm")


def test_only_narrow_formats_misfit_and_most_where_wide_ones_time_them():
    assert misfit("gemm", "bf16", "bf16") == misfit("gemm", "fp16", "bf16") == 0
    assert misfit("all_reduce", "fp8", "bf16") == 0
    weight_only = misfit("gemm", "int4/bf16", "int8/bf16")
    assert (
        0 < weight_only < misfit("gemm", "fp8", "fp8_block") < misfit("gemm", "int4/bf16", "bf16")
    )
    for table, family in ((PRODUCTS, "gemm"), (EXPERTS, "experts")):
        for name, others in table.items():
            assert name not in others
            assert all(misfit(family, name, each) >= 0 for each in others)


def test_experts_that_were_measured_untuned_come_last():
    for system in ("h100_sxm", "h200_sxm"):
        fits = read_fits(fit_path(system))[1]
        assert any("modeloptfp8moe_flashinfer_cutlass" in fit.kernel for fit in fits)
        library = load_platform(system).accelerator.kernels
        assert library is not None
        form = library.form("experts", "fp8")
        assert float(getattr(form, "memory")) > 0.9  # noqa: B009
