"""Fit files: what is written, refused, shipped."""

import dataclasses

import numpy as np
import pytest
from support import assert_close

from diffgenz import InputError, load_platform
from diffgenz.core.files import data_folder
from diffgenz.hardware.specs import read_spec
from diffgenz.kernels.fits import KernelFit, read_fits, write_fits
from diffgenz.kernels.library import Origin
from diffgenz.kernels.selection import fits_of
from diffgenz.ui.cli.main import main


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
    kind = read_spec("h100_sxm").kind
    told = Origin("h100_sxm", "NVIDIA", str(path), kind=kind)
    assert platform.accelerator.kernels.origin == told
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("version = 1", "version = 0"), "version: 0 is not 1"),
        (('form = "Gemm"', 'form = "Gem"'), 'form: "Gem"'),
        (
            ("values = { compute", "values = { computes"),
            "lack compute and have, unknown here, computes: .*anew with diffgenz calibrate",
        ),
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
    assert (
        main(["estimate", "meta-llama/Llama-3.1-8B", "--system", "a100_sxm", "--fit", str(path)])
        == 2
    )
    assert f"fit: {path} is of h100_sxm, not of a100_sxm" in capsys.readouterr().err
    with pytest.raises(InputError, match="fit: .*'vlm'"):
        load_platform("h100_sxm", fit="vlm")
    assert load_platform("h100_sxm", fit="none").accelerator.kernels is None


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
    found = {
        (fit.family, fit.format): fit.software
        for fit in fits_of(Origin("h100_sxm", "NVIDIA", "vllm"))
    }
    assert found["gemm", "bf16"] == "vllm"
    assert found["latent_decode", "bf16"] == "trtllm"
