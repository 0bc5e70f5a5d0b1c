"""Rows that cannot be believed are left out, and counted."""

import dataclasses

import numpy as np
import pytest
from fit_cases import H100, planted

from diffgenz import InputError
from diffgenz.calibrating.binding import chip_of
from diffgenz.calibrating.cleaning import cleaned
from diffgenz.calibrating.samples import Samples
from diffgenz.hardware.specs import read_spec
from diffgenz.kernels.forms.elementwise import Elementwise
from diffgenz.kernels.forms.gemm import Gemm
from diffgenz.kernels.forms.last_level_cache import cached
from diffgenz.kernels.shapes import ElementwiseShape


def small(seconds, moved=None):
    seconds = np.asarray(seconds, float)
    shape = ElementwiseShape(
        np.full(len(seconds), 1e6) if moved is None else np.asarray(moved, float)
    )
    return Samples(Elementwise, "elementwise", "bf16", "vllm-1.0", "one", shape, seconds)


def test_rows_that_cannot_be_used_are_left_out_and_counted():
    rows = small([1e-5, 3e-5, 2e-5, np.nan, -1.0, 0.0, 5e-5], moved=[1, 1, 1, 2, 3, 4, 5])
    clean = cleaned(rows, H100, "table.csv")
    assert clean.dropped == {"not a positive number": 3, "repeats of a shape (median kept)": 2}
    assert sorted(clean.seconds.tolist()) == [2e-5, 5e-5]
    hosts = [*np.linspace(100e-6, 101e-6, 60)]
    bound = cleaned(small([*hosts, *[400e-6] * 60], moved=np.arange(120)), H100, "table.csv")
    assert len(bound) == 60
    assert [why.split(" (")[0] for why in bound.dropped] == ["bound by the host"]
    with pytest.raises(
        InputError,
        match=r"table.csv: elementwise bf16 one: 60 of 119 rows are bound by the host \(a floor of 100 us"
        r"\), whose time the others contain as well; measure it in CUDA graphs",
    ):
        cleaned(small([*hosts, *[400e-6] * 59], moved=np.arange(119)), H100, "table.csv")
    with pytest.raises(
        InputError,
        match=r"table.csv: elementwise bf16: no row has a positive latency; check the latency column",
    ):
        cleaned(small([-1.0, np.nan]), H100, "table.csv")


CACHED = cached(Gemm)(compute=0.7, memory=0.8, launch=1.2, resident=0.8, cache=40.0)


def warm():
    """Products as a benchmark measures them whose operands stay in a cache of 40 MB."""
    return dataclasses.replace(planted(form=CACHED, noise=0.02), form=Gemm)


def test_rows_faster_than_memory_are_of_a_form_with_a_cache():
    samples = warm()
    clean = cleaned(samples, H100, "table.csv")
    assert clean.form is cached(Gemm)
    assert len(clean) > 0.98 * len(samples)
    assert cleaned(planted(), H100, "table.csv").form is Gemm
    slow = dataclasses.replace(samples, seconds=samples.seconds / 20)  # no cache is that fast
    with pytest.raises(InputError, match="faster than the accelerator's peaks allow"):
        cleaned(slow, H100, "table.csv")


def test_another_unit_of_time_is_suspected():
    samples = planted(200)
    wrong = dataclasses.replace(samples, seconds=samples.seconds * 1e-3)
    with pytest.raises(
        InputError,
        match=r"19\d of 200 rows are faster than the accelerator's peaks allow \(m \d.*another unit of time",
    ):
        cleaned(wrong, H100, "table.csv")
    slow = dataclasses.replace(samples, seconds=samples.seconds * 1e3)
    with pytest.raises(
        InputError,
        match=r"table.csv: gemm bf16: half of the 200 rows take more than 1,\d{3} times what .*"
        r"check the unit of the latencies \(us, ms or s\)",
    ):
        cleaned(slow, H100, "table.csv")
    hosts = dataclasses.replace(samples, seconds=samples.seconds + 200e-6)
    with pytest.raises(InputError, match="173 of 200 rows are bound by the host"):
        cleaned(hosts, H100, "table.csv")  # a slow host is another thing
    with pytest.raises(
        InputError, match="v100_sxm: peak_flops: it has no fp8, which rows in fp8 need"
    ):
        chip_of(read_spec("v100_sxm"), "fp8")
