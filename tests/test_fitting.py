"""Rows to parameters: cleaning, splitting, recovery of planted parameters, caches, transfer."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fit_cases import H100, PLANTED, planted, values_of

from diffgenz import InputError
from diffgenz.calibrating.cleaning import cleaned
from diffgenz.calibrating.fitting import described, finalists, fit, predict
from diffgenz.calibrating.hardware import chip_of
from diffgenz.calibrating.posterior import with_posterior
from diffgenz.calibrating.samples import Samples, shape_hash
from diffgenz.calibrating.transfer import Measured, transferred
from diffgenz.hardware.specs import read_spec
from diffgenz.kernels.fits import fits_of, read_fits, write_fits
from diffgenz.kernels.forms.attention_decode import Decode
from diffgenz.kernels.forms.elementwise import Elementwise
from diffgenz.kernels.forms.gemm import Gemm
from diffgenz.kernels.forms.last_level_cache import cached
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.library import Origin
from diffgenz.kernels.shapes import ElementwiseShape, GemmShape


def test_planted_parameters_are_found_within_their_standard_errors(found):
    errors = np.sqrt(np.diag(found.covariance))
    with jax.enable_x64(True):
        away = (
            np.asarray(Gemm(**found.values).free)
            - np.asarray(Gemm(**dict.fromkeys(found.values, 1.0) | values_of(PLANTED)).free)
        ) / errors
    seen = np.array([share > 0.5 for share in found.learned.values()])
    assert seen.sum() >= 8
    assert np.abs(away[seen]).max() < 4
    assert found.scatter == pytest.approx(0.05, rel=0.15)
    assert 0.7 < found.coverage < 0.9
    assert found.rows + found.held_out == 620


def test_the_posterior_of_planted_parameters_holds_them():
    form, shape = Elementwise(memory=0.7, launch=1.3), ElementwiseShape(np.geomspace(1e4, 1e9, 200))
    seconds = predict(form, shape, H100) * np.exp(0.05 * np.random.default_rng(1).normal(size=200))
    samples = Samples(Elementwise, "elementwise", "bf16", "vllm-1.0", "one", shape, seconds)
    with jax.enable_x64(True):
        before = described(samples, H100, np.asarray(Elementwise().free), np.eye(4))
    sampled = with_posterior(before, samples, H100, draws=200)
    errors = np.sqrt(np.diag(sampled.covariance))
    for name, error in zip(sampled.values, errors, strict=True):
        prior = Elementwise.priors()[name]
        away = prior.free(jnp.asarray(sampled.values[name])) - prior.free(getattr(form, name))
        assert abs(float(away)) < 4 * error
        assert error < 1.2 * prior.spread
    assert errors[0] < 0.1  # 160 rows of 5 % know the bandwidth within a few percent
    assert sampled.scatter == pytest.approx(0.05, rel=0.2)
    assert sampled.mean_error < before.mean_error


def test_what_the_data_do_not_say_stays_at_the_prior_and_is_named():
    samples = planted(400, form=PLANTED)
    large = samples.only(samples.seconds > 3e-4)  # nothing but throughput
    found = fit(large, H100, starts=16)
    assert found.learned["launch"] < 0.2
    assert found.values["launch"] == pytest.approx(1.0, rel=0.3)
    assert any("launch" in direction for direction in found.unseen)
    assert found.learned["compute"] > 0.9


def test_all_software_and_formats_hold_out_the_same_shapes():
    samples = planted(4000)
    kept = samples.held_out
    assert 0.17 < kept.mean() < 0.23
    order = np.random.default_rng(2).permutation(len(samples))
    assert (samples.only(order).held_out == kept[order]).all()
    assert (
        shape_hash(samples.shape)
        == shape_hash(GemmShape(*(np.asarray(x, np.float64) for x in samples.shape)))
    ).all()
    other = dataclasses.replace(
        samples, format="fp8", source="sglang-2", seconds=2 * samples.seconds
    )
    assert (other.held_out == kept).all()
    assert other.digest != samples.digest == samples.only(order).digest


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
    bound = cleaned(
        small([*np.linspace(100e-6, 101e-6, 60), 400e-6], moved=np.arange(61)), H100, "table.csv"
    )
    assert len(bound) == 1
    assert [why.split(" (")[0] for why in bound.dropped] == ["bound by the host"]
    with pytest.raises(
        InputError,
        match=r"table.csv: elementwise bf16: no row has a positive latency; check the latency column",
    ):
        cleaned(small([-1.0, np.nan]), H100, "table.csv")


def test_finalists_are_of_several_minima():
    """A dozen points near one minimum, one near another, one nowhere: the best of each, then the rest by their losses."""
    points = (
        np.concatenate([np.full((12, 3), 0.1), np.full((1, 3), 4.0), np.full((1, 3), -4.0)])
        + 0.01 * np.arange(14)[:, None]
    )
    losses = np.array([*np.linspace(1.0, 1.1, 12), 2.0, np.nan])
    assert finalists(points, losses) == [0, 12, 1, 2, 3, 4, 5, 6]
    assert finalists(points[:12], losses[:12]) == list(range(8))


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
    """By hand: (100, 300) x (300, 200) in 2 B, 120 kB of weights, 60 kB of inputs, 40 kB of outputs."""
    shape = GemmShape(100.0, 200.0, 300.0, 220e3)
    assert float(cached(Gemm)(inputs=1.0, outputs=1.0).footprint(shape)) == pytest.approx(220e3)
    assert float(cached(Gemm)(inputs=0.5, outputs=0.25).footprint(shape)) == pytest.approx(160e3)
    assert list(cached(Gemm).priors()) == [
        *Gemm.priors(),
        "resident",
        "cache",
        "edge",
        "inputs",
        "outputs",
    ]
    assert list(cached(Decode).priors()) == [*Decode.priors(), "resident", "cache", "edge"]


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


def test_another_unit_of_time_is_suspected():
    samples = planted(200)
    wrong = dataclasses.replace(samples, seconds=samples.seconds * 1e-3)
    with pytest.raises(
        InputError,
        match=r"19\d of 200 rows are faster than the accelerator's peaks allow \(m \d.*another unit of time",
    ):
        cleaned(wrong, H100, "table.csv")
    with pytest.raises(
        InputError, match="v100_sxm: peak_flops: it has no fp8, which rows in fp8 need"
    ):
        chip_of(read_spec("v100_sxm"), "fp8")


def test_transferred_parameters_are_wider_than_any_own_fit():
    group = []
    for index, bandwidth in enumerate((1e12, 2e12, 3e12)):
        chip, form = (
            H100._replace(bandwidth=np.float64(bandwidth)),
            Elementwise(memory=0.6 + 0.1 * index),
        )
        columns = Chip(
            *(np.full(120, x) for x in chip)
        )  # as pooled fits have them, which compile once with these
        shape = ElementwiseShape(np.geomspace(1e4, 1e9, 120))
        seconds = predict(form, shape, chip) * np.exp(
            0.02 * np.random.default_rng(index).normal(size=120)
        )
        samples = Samples(Elementwise, "elementwise", "bf16", "vllm-1.0", "one", shape, seconds)
        group.append(Measured(f"system {index}", samples, chip, fit(samples, columns, starts=16)))
    (common,) = transferred(group)
    assert common.covariance[0, 0] > 10 * max(each.fit.covariance[0, 0] for each in group)
    assert common.source == "transferred"
    assert 0.6 < common.values["memory"] < 0.8
    assert common.mean_error > max(each.fit.mean_error for each in group)
