"""Kernels whose operands a last-level cache holds."""

import dataclasses
import types

import jax
import numpy as np
import pytest
from fit_cases import H100, planted

from diffgenz.calibrating.cleaning import cleaned
from diffgenz.calibrating.fitting import described, predict
from diffgenz.calibrating.samples import Samples
from diffgenz.kernels.families import FORMS
from diffgenz.kernels.fits import read_fits, write_fits
from diffgenz.kernels.forms.attention_decode import Decode
from diffgenz.kernels.forms.attention_prefill import Prefill
from diffgenz.kernels.forms.elementwise import Elementwise
from diffgenz.kernels.forms.gemm import Gemm
from diffgenz.kernels.forms.last_level_cache import Cached, CachedProduct, cached
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.library import Origin
from diffgenz.kernels.selection import fits_of
from diffgenz.kernels.shapes import ElementwiseShape, GemmShape, PrefillShape


def small(seconds, moved=None):
    seconds = np.asarray(seconds, float)
    shape = ElementwiseShape(
        np.full(len(seconds), 1e6) if moved is None else np.asarray(moved, float)
    )
    return Samples(Elementwise, "elementwise", "bf16", "vllm-1.0", "one", shape, seconds)


CACHED = cached(Gemm)(compute=0.7, memory=0.8, launch=1.2, resident=0.8, cache=40.0)


def warm():
    """Products as a benchmark measures them whose operands stay in a cache of 40 MB."""
    return dataclasses.replace(planted(form=CACHED, noise=0.02), form=Gemm)


def test_what_a_cache_holds_is_faster_and_the_rest_is_as_without():
    small, large = (
        GemmShape(np.array([16.0]), np.array([n]), np.array([n]), np.array([2.0 * n * n]))
        for n in (3584.0, 32768.0)
    )
    plain = Gemm(**{name: float(getattr(CACHED, name)) for name in Gemm.priors()})
    assert predict(CACHED, small, H100) < 0.75 * predict(plain, small, H100)
    assert predict(CACHED, large, H100) == pytest.approx(predict(plain, large, H100), rel=1e-5)
    for shape in (small, large):
        assert (predict(CACHED, shape, H100) > np.asarray(CACHED.work(shape).bound(H100))).all()


def test_inputs_and_outputs_of_a_product_take_their_share_of_a_cache():
    """(100, 300) x (300, 200) in 2 B: 120 kB of weights, 60 of inputs, 40 of outputs."""
    shape = GemmShape(100.0, 200.0, 300.0, 220e3)
    assert float(cached(Gemm)(inputs=1.0, outputs=1.0).footprint(shape)) == pytest.approx(220e3)
    assert float(cached(Gemm)(inputs=0.5, outputs=0.25).footprint(shape)) == pytest.approx(160e3)
    assert list(cached(Gemm).priors()) == [
        *Gemm.priors(),
        "resident",
        "cache",
        "steepness",
        "inputs",
        "outputs",
    ]
    assert list(cached(Decode).priors()) == [*Decode.priors(), "resident", "cache", "steepness"]


def test_an_estimate_takes_a_form_without_its_cache(tmp_path):
    samples, path = warm(), tmp_path / "fit.toml"
    with jax.enable_x64(True):
        free = np.asarray(CACHED.free)
    known = described(
        dataclasses.replace(samples, form=cached(Gemm)),
        H100,
        free,
        np.diag(np.arange(1.0, len(free) + 1)),
    )
    assert known.mean_error < 0.03
    write_fits(path, "h100_sxm", [known], "a test")
    assert read_fits(path)[1][0].form is cached(Gemm)
    (used,) = (
        each
        for each in fits_of(Origin("h100_sxm", "NVIDIA", str(path)))
        if each.family == "gemm" and each.format == "bf16"
    )
    assert used.form is Gemm
    assert used.values == {
        name: pytest.approx(known.values[name], rel=1e-5) for name in Gemm.priors()
    }
    assert (np.diag(used.covariance) == np.arange(1.0, len(Gemm.priors()) + 1)).all()


def test_forms_keep_their_parameters_and_absent_terms_beside_a_cache():
    for form in (each for each in FORMS.values() if each.hardware is Chip and each != Elementwise):
        adding = CachedProduct if form.Shape is GemmShape else Cached
        assert len(cached(form).priors()) == len(form.priors()) + len(adding.priors())
        assert cached(form).priors() == form.priors() | adding.priors()
    lean = cached(Decode.without("few", "pair"))
    assert (lean.absent, lean.whole(), cached(Decode).without("pair", "few")) == (
        ("pair", "few"),
        cached(Decode),
        lean,
    )


def test_a_parameter_of_one_name_in_two_forms_is_refused():
    """The last-level cache of `Elementwise` is one of its own terms, of the same name."""
    with pytest.raises(TypeError, match="CachedElementwise: cache is a parameter of two"):
        cached(Elementwise)
    with pytest.raises(TypeError, match="Both: "):
        types.new_class("Both", (Gemm, Decode))


def test_prompts_are_measured_in_a_cache_that_memory_fills_slowly():
    """96 MB at 864 GB/s is 111 us, 50 MB at 3.35 TB/s 15 us."""
    one = np.ones(40)
    shape = PrefillShape(
        np.arange(1.0, 41.0), 512 * one, 0 * one, 8 * one, 2 * one, 128 * one, np.inf * one, 2 * one
    )
    rows = Samples(Prefill, "prefill", "bf16", "vllm-1.0", "one", shape, 1e-4 * shape.sequences)
    for bandwidth, cache, form in (
        (864e9, 96e6, cached(Prefill)),
        (3.35e12, 50e6, Prefill),
        (864e9, 0.0, Prefill),
    ):
        chip = H100._replace(bandwidth=np.float64(bandwidth))
        assert cleaned(rows, chip, "table.csv", cache).form is form
