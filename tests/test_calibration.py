"""From measurements to fits: cleaning, splitting, recovery of planted parameters, fit files, uncertainty, suggestions, the command."""

import dataclasses
import json
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import CHIP, FABRIC, NODE, assert_close

from diffgenz import InputError, Parallelism, Workload, breakdown, estimate, load_platform
from diffgenz.calibrating.cleaning import chip_of, cleaned
from diffgenz.calibrating.fitting import described, fit, predict
from diffgenz.calibrating.posterior import with_posterior
from diffgenz.calibrating.run import calibrate
from diffgenz.calibrating.samples import Samples, shape_hash
from diffgenz.calibrating.suggestion import suggest
from diffgenz.calibrating.transfer import Measured, transferred
from diffgenz.cli import main
from diffgenz.fits import KernelFit, fits_of, read_fits, write_fits
from diffgenz.hardware import Accelerator, Level, Platform
from diffgenz.kernels.cached import cached
from diffgenz.kernels.elementwise import Elementwise
from diffgenz.kernels.families import FAMILIES
from diffgenz.kernels.form import Chip
from diffgenz.kernels.gemm import Gemm
from diffgenz.kernels.library import Library, Origin
from diffgenz.kernels.shapes import ElementwiseShape, GemmShape
from diffgenz.specs import data_folder, read_spec
from diffgenz.uncertainty import by_delta, by_samples

H100 = Chip(*(np.float64(x) for x in (989.4e12, 3.35e12, 2.37e-6, 132)))
PLANTED = Gemm(compute=0.7, memory=0.8, launch=1.2, prologue=0.2, tile=5000.0, merge=3.0, reduction=20.0)


def gemm_shapes(rows, seed=0):
    draws = np.random.default_rng(seed)
    m, n, k = (np.round(2 ** draws.uniform(low, high, rows)) for low, high in ((0, 13), (6, 15), (6, 15)))
    return GemmShape(m, n, k, 2 * (m * k + n * k + m * n))


def planted(rows=620, noise=0.05, chip=H100, form=PLANTED):
    shape = gemm_shapes(rows)
    seconds = predict(form, shape, chip) * np.exp(noise * np.random.default_rng(1).normal(size=rows))
    return Samples(Gemm, "gemm", "bf16", "vllm-1.0", "one", shape, seconds)


@pytest.fixture(scope="module")
def found():
    return fit(planted(), H100, starts=16)


def test_planted_parameters_are_found_within_their_standard_errors(found):
    errors = np.sqrt(np.diag(found.covariance))
    with jax.enable_x64(True):
        away = (np.asarray(Gemm(**found.values).free) - np.asarray(Gemm(**dict.fromkeys(found.values, 1.0) | values_of(PLANTED)).free)) / errors
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


def values_of(form):
    return {name: float(getattr(form, name)) for name in form.priors()}


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
    assert (shape_hash(samples.shape) == shape_hash(GemmShape(*(np.asarray(x, np.float64) for x in samples.shape)))).all()
    other = dataclasses.replace(samples, format="fp8", source="sglang-2", seconds=2 * samples.seconds)
    assert (other.held_out == kept).all()
    assert other.digest != samples.digest == samples.only(order).digest


def small(seconds, moved=None):
    seconds = np.asarray(seconds, float)
    shape = ElementwiseShape(np.full(len(seconds), 1e6) if moved is None else np.asarray(moved, float))
    return Samples(Elementwise, "elementwise", "bf16", "vllm-1.0", "one", shape, seconds)


def test_rows_that_cannot_be_used_are_left_out_and_counted():
    rows = small([1e-5, 3e-5, 2e-5, np.nan, -1.0, 0.0, 5e-5], moved=[1, 1, 1, 2, 3, 4, 5])
    clean = cleaned(rows, H100, "table.csv")
    assert clean.dropped == {"not a positive number": 3, "repeats of a shape (median kept)": 2}
    assert sorted(clean.seconds.tolist()) == [2e-5, 5e-5]
    bound = cleaned(small([*np.linspace(100e-6, 101e-6, 60), 400e-6], moved=np.arange(61)), H100, "table.csv")
    assert len(bound) == 1
    assert [why.split(" (")[0] for why in bound.dropped] == ["bound by the host"]
    with pytest.raises(InputError, match=r"table.csv: elementwise bf16: no row has a positive latency; check the latency column"):
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


def test_what_a_cache_holds_is_faster_and_the_rest_is_as_without():
    small, large = (GemmShape(np.array([16.0]), np.array([n]), np.array([n]), np.array([2.0 * n * n])) for n in (3584.0, 32768.0))
    plain = Gemm(**{name: float(getattr(CACHED, name)) for name in Gemm.priors()})
    assert predict(CACHED, small, H100) < 0.75 * predict(plain, small, H100)
    assert predict(CACHED, large, H100) == pytest.approx(predict(plain, large, H100), rel=1e-5)
    for shape in (small, large):
        assert (predict(CACHED, shape, H100) > np.asarray(CACHED.work(shape).bound(H100))).all()


def test_an_estimate_takes_a_form_without_its_cache(tmp_path):
    samples, path = warm(), tmp_path / "fit.toml"
    with jax.enable_x64(True):
        free = np.asarray(CACHED.free)
    known = described(dataclasses.replace(samples, form=cached(Gemm)), H100, free, np.diag(np.arange(1.0, len(free) + 1)))
    assert known.mean_error < 0.03
    write_fits(path, "h100_sxm", [known], "a test")
    assert read_fits(path)[1][0].form is cached(Gemm)
    (used,) = (each for each in fits_of(Origin("h100_sxm", "NVIDIA", str(path))) if each.family == "gemm" and each.format == "bf16")
    assert used.form is Gemm
    assert used.values == {name: pytest.approx(known.values[name], rel=1e-5) for name in Gemm.priors()}
    assert (np.diag(used.covariance) == np.arange(1.0, len(Gemm.priors()) + 1)).all()


def test_another_unit_of_time_is_suspected():
    samples = planted(200)
    wrong = dataclasses.replace(samples, seconds=samples.seconds * 1e-3)
    with pytest.raises(InputError, match=r"19\d of 200 rows are faster than the accelerator's peaks allow \(m \d.*another unit of time"):
        cleaned(wrong, H100, "table.csv")
    with pytest.raises(InputError, match="v100_sxm: peak_flops: it has no fp8, which rows in fp8 need"):
        chip_of(read_spec("v100_sxm"), "fp8")


def test_a_fit_file_says_what_it_was_told(found, tmp_path):
    path = tmp_path / "fit.toml"
    write_fits(path, "h100_sxm", [found], "a test")
    system, (again,) = read_fits(path)
    assert system == "h100_sxm"
    for field in dataclasses.fields(KernelFit):
        was, now = getattr(found, field.name), getattr(again, field.name)
        if field.name == "form":
            assert now is was
        elif field.name == "covariance":
            assert_close(now, was, rtol=1e-4)
        else:
            assert now == pytest.approx(was, rel=1e-5) if not isinstance(was, str) else now == was
    platform = load_platform("h100_sxm", fit=path)
    assert platform.accelerator.kernels.origin == Origin("h100_sxm", "NVIDIA", str(path))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("version = 1", "version = 0"), "version: 0 is not 1"),
        (('form = "Gemm"', 'form = "Gem"'), 'form: "Gem"'),
        (("values = { compute", "values = { computes"), "values: Gemm has compute, memory"),
        (("rows =", "row ="), "table is damaged"),
        (("version = 1", "version = "), "not valid TOML"),
    ],
)
def test_a_damaged_fit_file_is_refused(change, message, found, tmp_path):
    path = tmp_path / "fit.toml"
    write_fits(path, "h100_sxm", [found], "a test")
    path.write_text(path.read_text().replace(*change, 1))
    with pytest.raises(InputError, match=message.replace('"', ".")):
        read_fits(path)


def test_a_fit_of_another_accelerator_is_refused(found, tmp_path, capsys):
    path = tmp_path / "fit.toml"
    write_fits(path, "h100_sxm", [found], "a test")
    assert main(["estimate", "meta-llama/Llama-3.1-8B", "--system", "a100_sxm", "--fit", str(path)]) == 2
    assert f"fit: {path} is of h100_sxm, not of a100_sxm" in capsys.readouterr().err
    with pytest.raises(InputError, match="fit: .*'vlm'"):
        load_platform("h100_sxm", fit="vlm")
    assert load_platform("h100_sxm", fit="none").accelerator.kernels is None


LIBRARY = Library({family: {"bf16": form()} for family, form in FAMILIES.items()})


def fitted_cluster(library=LIBRARY):
    return Platform(Accelerator(**CHIP, compute_units=100.0, kernels=library), (Level(**NODE), Level(**FABRIC)), 64)


CHAT = Workload(batch=12, input_tokens=700, output_tokens=90)


@pytest.mark.parametrize("model", ["llama_8b", "deepseek_v2_lite"])
def test_a_breakdown_of_fitted_kernels_adds_up(model, request, llama_8b):
    from diffgenz import load_model

    model = llama_8b if model == "llama_8b" else load_model("deepseek-ai/DeepSeek-V2-Lite")
    platform, plan = fitted_cluster(), Parallelism(4)
    result, rows = estimate(model, platform, CHAT, plan), breakdown(model, platform, CHAT, plan)
    assert float(rows.ttft.sum()) == pytest.approx(float(result.ttft), rel=1e-5)
    assert float(rows.tpot.sum()) == pytest.approx(float(result.tpot), rel=1e-5)
    bound = estimate(model, fitted_cluster(None), CHAT, plan)
    assert result.ttft > bound.ttft  # kernels are slower than the peaks
    assert result.tpot > bound.tpot


def test_gradients_of_fitted_kernels_agree_with_differences(llama_8b, double):
    platform = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), fitted_cluster())
    model = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), llama_8b)

    @jax.jit
    def logarithm(log_scale):
        accelerator = platform.accelerator
        numbers = {name: getattr(accelerator, name) * jnp.exp(x) for name, x in log_scale.items()}
        moved = platform.replace(accelerator=dataclasses.replace(accelerator, **numbers))
        return jnp.log(estimate(model, moved, CHAT, Parallelism(4)).end_to_end)

    names = ("memory_bandwidth", "launch_latency", "compute_units")
    zero = dict.fromkeys(names, jnp.zeros(()))
    slopes = jax.jit(jax.grad(logarithm))(zero)
    for name in names:
        ahead, behind = (float(logarithm(zero | {name: jnp.asarray(step)})) for step in (1e-5, -1e-5))
        assert float(slopes[name]) == pytest.approx((ahead - behind) / 2e-5, rel=1e-5, abs=1e-9)


def fits_for(library):
    def one(family, form):
        size = len(form.priors())
        return KernelFit(family, "bf16", "vllm-1.0", "one", type(form), values_of(form), 0.01 * np.eye(size), {}, 0.1, 100, {}, "", 0.1, 0.1, 25, 0.8)

    return [one(family, forms["bf16"]) for family, forms in library.forms.items()]


def test_deviations_to_first_order_are_those_of_samples(llama_8b):
    library = Library({"gemm": {"bf16": Gemm()}, "decode": {"bf16": FAMILIES["decode"]()}})

    def times(kernels):
        result = estimate(llama_8b, fitted_cluster(kernels), CHAT, Parallelism(4))
        return {"ttft": jnp.log(result.ttft), "tpot": jnp.log(result.tpot)}

    fits = fits_for(library)
    delta, sampled = by_delta(times, library, fits), by_samples(times, library, fits, 600)
    for name in delta:
        assert float(delta[name]) == pytest.approx(float(sampled[name]), rel=0.12)
        assert 0.02 < float(delta[name]) < 0.3
    wider = [dataclasses.replace(each, scatter=0.3) for each in fits]
    assert float(by_delta(times, library, wider)["tpot"]) > float(delta["tpot"])


def test_an_estimate_says_how_sure_it_is(found, tmp_path, llama_8b):
    path = tmp_path / "fit.toml"
    write_fits(path, "h100_sxm", [found], "a test")
    platform = load_platform("h100_sxm", fit=path)
    result = estimate(llama_8b, platform, CHAT, uncertainty=True)
    assert result.ttft == estimate(llama_8b, platform, CHAT).ttft
    assert 0.02 < float(result.deviation.tpot / result.tpot) < 0.2
    assert float(result.deviation.memory.total) == 0
    with pytest.raises(InputError, match="uncertainty: the kernels of .* are not fitted"):
        estimate(llama_8b, load_platform("h100_sxm", fit="none"), CHAT, uncertainty=True)


def test_the_first_suggestion_narrows_most_and_none_widens(found, tmp_path, llama_8b):
    path = tmp_path / "fit.toml"
    write_fits(path, "h100_sxm", [found], "a test")
    platform = load_platform("h100_sxm", fit=path)
    steps = suggest(llama_8b, platform, Workload(16, 1000, 100), metric="tpot", count=3)
    assert {step.family for step in steps} <= set(platform.accelerator.kernels.forms)
    assert len(steps) == 3
    assert all(step.after < step.before for step in steps)
    assert all(later.before == pytest.approx(step.after) for step, later in pairwise(steps))
    assert steps[0].before - steps[0].after >= steps[1].before - steps[1].after
    with pytest.raises(InputError, match="suggest: the kernels of .* are not fitted"):
        suggest(llama_8b, load_platform("h100_sxm", fit="none"), CHAT)


def test_transferred_parameters_are_wider_than_any_own_fit():
    group = []
    for index, bandwidth in enumerate((1e12, 2e12, 3e12)):
        chip, form = H100._replace(bandwidth=np.float64(bandwidth)), Elementwise(memory=0.6 + 0.1 * index)
        columns = Chip(*(np.full(120, x) for x in chip))  # as pooled fits have them, which compile once with these
        shape = ElementwiseShape(np.geomspace(1e4, 1e9, 120))
        seconds = predict(form, shape, chip) * np.exp(0.02 * np.random.default_rng(index).normal(size=120))
        samples = Samples(Elementwise, "elementwise", "bf16", "vllm-1.0", "one", shape, seconds)
        group.append(Measured(f"system {index}", samples, chip, fit(samples, columns, starts=16)))
    (common,) = transferred(group)
    assert common.covariance[0, 0] > 10 * max(each.fit.covariance[0, 0] for each in group)
    assert common.source == "transferred"
    assert 0.6 < common.values["memory"] < 0.8
    assert common.mean_error > max(each.fit.mean_error for each in group)


def table(path, **columns):
    import pandas as pd

    pd.DataFrame({"framework": "VLLM", "version": "1.0", "kernel_source": "one", "gemm_dtype": "bfloat16"} | columns).to_csv(path, index=False)
    return path


def test_the_command_fits_a_file_and_estimates_with_it(tmp_path, capsys):
    samples = planted(300)
    m, n, k, _ = samples.shape
    measured = table(tmp_path / "gemm_perf.csv", m=m, n=n, k=k, latency=samples.seconds * 1e3)
    out = tmp_path / "fit.toml"
    arguments = ["calibrate", str(measured), "--system", "h100_sxm", "--starts", "16", "--out", str(out)]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "gemm    bf16    vllm-1.0" in text
    assert f"saved: {out}" in text
    assert main(["estimate", "meta-llama/Llama-3.1-8B", "--system", "h100_sxm", "--fit", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kernels"]["gemm bf16"] == "vllm-1.0"
    plain, again = tmp_path / "mine.csv", tmp_path / "again.toml"
    rows = [f"gemm,bf16,mine-1.0,{m},{n},{k},{1e6 * t!r}" for m, n, k, t in zip(m, n, k, samples.seconds.tolist(), strict=True)]
    plain.write_text("\n".join(["family,format,source,m,n,k,latency_us", *rows]))
    assert main(["calibrate", str(plain), "--system", "h100_sxm", "--starts", "16", "--out", str(again)]) == 0
    capsys.readouterr()
    (first,), (second,) = read_fits(out)[1], read_fits(again)[1]
    assert second.source == "mine-1.0"
    assert second.values == pytest.approx(first.values, rel=1e-3)
    for name in ("compute", "memory"):
        assert second.values[name] == pytest.approx(values_of(PLANTED)[name], rel=0.1)
    assert main([*arguments, "--fit", "network"]) == 2
    assert "fit: nothing to fit: the files hold no network measurements" in capsys.readouterr().err
    assert main([*arguments, "--fit", "gem"]) == 2
    assert "fit: 'gem' is no kind of kernel" in capsys.readouterr().err
    assert main(["calibrate", "--system", "h100_sxm"]) == 2
    assert "FILE: no measurements are given" in capsys.readouterr().err
    assert main(["calibrate", str(tmp_path), "--system", "h100_sxm", "--suggest", "2"]) == 2
    assert "--model: it is missing" in capsys.readouterr().err


def test_kernels_that_cannot_be_believed_are_left_out_and_named(tmp_path):
    samples = planted(300)
    m, n, k, _ = samples.shape
    numbers = {"m": np.tile(m, 2), "n": np.tile(n, 2), "k": np.tile(k, 2)}
    kernels = np.repeat(["good", "in s"], 300)
    mixed = table(tmp_path / "gemm_perf.csv", **numbers, kernel_source=kernels, latency=np.tile(samples.seconds, 2) * np.repeat([1e3, 1.0], 300))
    told = []
    (found,) = calibrate([mixed], "h100_sxm", starts=16, skipped=told.append)
    assert found.kernel == "good"
    (words,) = told
    assert "rows are faster than the accelerator's peaks allow" in words
    wrong = table(tmp_path / "gemm_perf__wrong-1.csv", m=m, n=n, k=k, latency=samples.seconds)
    with pytest.raises(InputError, match=r"gemm_perf__wrong-1.csv.*faster than the accelerator's peaks allow"):
        calibrate([wrong], "h100_sxm")


def test_the_recipe_takes_each_kernel_of_the_newest_version_that_has_it(tmp_path):
    import pandas as pd
    from refit import kernels_of

    rows = {"framework": "VLLM", "gemm_dtype": "bfloat16", "m": [1], "n": [2], "k": [3], "latency": [1.0]}
    for version, kernels in (("0.9.0", ("old", "both")), ("0.10.0", ("both", "new"))):
        folder = tmp_path / "h100_sxm" / "gemm" / "vllm" / version
        folder.mkdir(parents=True)
        tables = [pd.DataFrame(rows | {"version": version, "kernel_source": kernel}) for kernel in kernels]
        pd.concat(tables).to_parquet(folder / "gemm_perf.parquet")
    found = {samples.kernel: samples.source for _, samples in kernels_of("h100_sxm", tmp_path)}
    assert found == {"both": "vllm-0.10.0", "new": "vllm-0.10.0", "old": "vllm-0.9.0"}


SHIPPED = sorted(path.stem for path in (data_folder("calibration") / "fits").glob("*.toml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_fit_is_sane(name):
    system, fits = read_fits(data_folder("calibration") / "fits" / f"{name}.toml")
    assert system == name
    for each in fits:
        assert each.rows > 0
        assert np.linalg.eigvalsh(each.covariance).min() > -1e-6
        assert 0 < each.scatter < 1.5
        assert each.mean_error < 1.5
        for parameter, prior in each.form.priors().items():
            assert 0 < each.values[parameter] < prior.maximum


def test_fits_take_other_software_where_their_own_is_missing():
    if "h100_sxm" not in SHIPPED:
        pytest.skip("no fits are shipped")
    found = {(fit.family, fit.format): fit.software for fit in fits_of(Origin("h100_sxm", "NVIDIA", "vllm"))}
    assert found["gemm", "bf16"] == "vllm"
    assert found["latent_decode", "bf16"] == "trtllm"
