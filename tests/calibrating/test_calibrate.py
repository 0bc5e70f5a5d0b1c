"""Calibration from files to fits, by command and from Python."""

import json

import numpy as np
import pytest
from fit_cases import PLANTED, planted, values_of

from diffgenz import InputError
from diffgenz.calibrating.calibrate import calibrate, launches_of_a_host
from diffgenz.kernels.fits import read_fits
from diffgenz.kernels.selection import fit_path, fitted_systems
from diffgenz.ui.cli.main import main


def table(path, **columns):
    import pandas as pd

    pd.DataFrame(
        {"framework": "VLLM", "version": "1.0", "kernel_source": "one", "gemm_dtype": "bfloat16"}
        | columns
    ).to_csv(path, index=False)
    return path


def test_the_command_fits_a_file_and_estimates_with_it(tmp_path, capsys):
    samples = planted(300)
    m, n, k, _ = samples.shape
    measured = table(tmp_path / "gemm_perf.csv", m=m, n=n, k=k, latency=samples.seconds * 1e3)
    out = tmp_path / "fit.toml"
    arguments = [
        "calibrate",
        str(measured),
        "--system",
        "h100_sxm",
        "--starts",
        "16",
        "--out",
        str(out),
    ]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "gemm    bf16    vllm-1.0" in text
    assert f"saved: {out}" in text
    assert (
        main(
            [
                "estimate",
                "meta-llama/Llama-3.1-8B",
                "--system",
                "h100_sxm",
                "--fit",
                str(out),
                "--json",
            ]
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out)["kernels"]["gemm bf16"] == "vllm-1.0"
    plain, again = tmp_path / "mine.csv", tmp_path / "again.toml"
    rows = [
        f"gemm,bf16,mine-1.0,{m},{n},{k},{1e6 * t!r}"
        for m, n, k, t in zip(m, n, k, samples.seconds.tolist(), strict=True)
    ]
    plain.write_text("\n".join(["family,format,source,m,n,k,latency_us", *rows]))
    assert (
        main(
            ["calibrate", str(plain), "--system", "h100_sxm", "--starts", "16", "--out", str(again)]
        )
        == 0
    )
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
    mixed = table(
        tmp_path / "gemm_perf.csv",
        **numbers,
        kernel_source=kernels,
        latency=np.tile(samples.seconds, 2) * np.repeat([1e3, 1.0], 300),
    )
    told = []
    (found,) = calibrate([mixed], "h100_sxm", starts=16, skipped=told.append)
    assert found.kernel == "good"
    (words,) = told
    assert "rows are faster than the accelerator's peaks allow" in words
    wrong = table(tmp_path / "gemm_perf__wrong-1.csv", m=m, n=n, k=k, latency=samples.seconds)
    with pytest.raises(
        InputError, match=r"gemm_perf__wrong-1.csv.*faster than the accelerator's peaks allow"
    ):
        calibrate([wrong], "h100_sxm")


def test_a_kernel_that_starts_after_many_launches_is_left_out(tmp_path):
    """Rows that differ, and so are not bound by a floor, but for a start of many launches."""
    samples = planted(300, form=PLANTED.replace(prologue=300.0))
    m, n, k, _ = samples.shape
    slow = table(tmp_path / "gemm_perf.csv", m=m, n=n, k=k, latency=samples.seconds * 1e3)
    with pytest.raises(InputError, match=r"one takes \d+ launch latencies before it starts"):
        calibrate([slow], "h100_sxm", starts=16)


def test_no_shipped_fit_has_the_times_of_a_host():
    for system in fitted_systems():
        for fit in read_fits(fit_path(system))[1]:
            assert launches_of_a_host(fit) is None
