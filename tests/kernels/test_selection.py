"""Which fits time an accelerator: one footing for the same figures under any name."""

import re

import pytest
from support import assert_close

from diffgenz import InputError, Precision, Scenario, Workload, estimate, load_model, load_platform
from diffgenz.core.files import data_folder
from diffgenz.inference.timed_by import timed_by
from diffgenz.inference.uncertainty import deviations
from diffgenz.kernels.fits import read_fits
from diffgenz.kernels.library import Origin
from diffgenz.kernels.selection import fit_path, fits_of, preference, timed_how
from diffgenz.models.checkpoints import load_precision

SHIPPED = (data_folder("hw_specs") / "b200_sxm.toml").read_text()
LIKE = '\n[kernels]\nlike = "b200_sxm"\n'


def written(folder, name="mine", like="", vendor=None, change=None):
    """A copy of the B200's file with another name, and what else is asked for."""
    text = SHIPPED
    if vendor is not None:
        text = re.sub(r'(?m)^vendor = ".*"$', f'vendor = "{vendor}"', text)
    if change is not None:
        text, count = re.subn(r'(capacity\s*=\s*\[")(\d+)', r"\g<1>9\2", text, count=1)
        assert count == 1
    path = folder / f"{name}.toml"
    path.write_text(text + like)
    return path


def throughput(system, fit="vllm"):
    case = Scenario(
        load_model("meta-llama/Llama-3.1-8B"),
        load_platform(system, fit=fit),
        Workload(64, 1024, 128),
        precision=Precision(weights="fp8", activations="fp8"),
    )
    return float(estimate(case).throughput), case


@pytest.mark.parametrize("vendor", ["NVIDIA", "Nvidia", "nvidia ", "Us", "Google"])
@pytest.mark.parametrize("name", ["mine", "b200-sxm", "B200"])
def test_the_same_figures_are_timed_alike_where_like_says_so(name, vendor, tmp_path):
    shipped, _ = throughput("b200_sxm")
    for path, fit in (
        (written(tmp_path, name, LIKE, vendor), "vllm"),
        (written(tmp_path, f"{name}2", "", vendor), "like:b200_sxm"),
    ):
        own, case = throughput(path, fit)
        assert_close(own, shipped, 1e-6)
        assert timed_how(case.platform.accelerator.kernels) == "like b200_sxm"
        assert {source for source in timed_by(case).values() if "as on b200_sxm" in source}


@pytest.mark.parametrize(
    ("vendor", "how"),
    [("Us", "transferred"), ("Nvidia", "transferred"), ("Google", "roofline"), ("AWS", "roofline")],
)
def test_without_like_it_is_said_how_an_own_chip_is_timed(vendor, how, tmp_path):
    _, case = throughput(written(tmp_path, vendor=vendor))
    assert timed_how(case.platform.accelerator.kernels) == how
    assert {source.partition(" ")[0] for source in timed_by(case).values()} == {how}


def test_a_copy_of_a_shipped_file_is_that_accelerator(tmp_path):
    path = written(tmp_path, "b200_sxm")
    assert timed_how(load_platform(path).accelerator.kernels) == "measured"


def test_a_shipped_name_with_other_figures_reuses_fits_and_says_so(tmp_path):
    path = written(tmp_path, "b200_sxm", change=True)
    _, case = throughput(path)
    assert timed_how(case.platform.accelerator.kernels) == "like b200_sxm"
    assert any("as on b200_sxm" in source for source in timed_by(case).values())


def test_fits_of_another_accelerator_are_known_less_well(tmp_path):
    _, own = throughput("b200_sxm")
    _, like = throughput(written(tmp_path, like=LIKE))
    known, guessed = (deviations(case).throughput for case in (own, like))
    assert float(guessed) > 1.5 * float(known)


@pytest.mark.parametrize(
    ("like", "fit", "message"),
    [
        (
            '\n[kernels]\nlike = "b300"\n',
            "vllm",
            "like: 'b300' is not known; did you mean .*b300_sxm",
        ),
        ("", "like:h20", "like: 'h20' is not known"),
        ("\n[kernels]\nlike = 3\n", "vllm", "kernels.like: a text is needed"),
        ('\n[kernels]\nas = "b200_sxm"\n', "vllm", "kernels: key: 'as' is not known"),
        ("", "vlm", "fit: 'vlm' is not known; did you mean vllm"),
    ],
)
def test_what_is_not_known_is_refused(like, fit, message, tmp_path):
    with pytest.raises(InputError, match=message):
        load_platform(written(tmp_path, like=like), fit=fit)


@pytest.mark.parametrize("system", ["h100_sxm", "h200_sxm", "b200_sxm", "gb200"])
def test_kernels_that_an_engine_does_not_run_come_last(system):
    chosen = {(fit.family, fit.format): fit for fit in fits_of(Origin(system, "NVIDIA", "trtllm"))}
    assert not [fit.kernel for fit in chosen.values() if "nongated" in fit.kernel]
    # its own quantise in a launch apart, others' do not; the rest is its own
    assert chosen["gemm", "fp8"].software != "trtllm"
    assert chosen["gemm", "fp8"].values["launch"] < 3
    assert {chosen[name, "bf16"].software for name in ("gemm", "experts", "decode")} == {"trtllm"}


def test_of_several_kernels_an_engine_runs_its_default():
    fits = [fit for fit in read_fits(fit_path("b200_sxm"))[1] if fit.software == "trtllm"]
    experts = [fit for fit in fits if (fit.family, fit.format) == ("experts", "nvfp4")]
    most = max(experts, key=lambda fit: fit.rows)
    first = min(experts, key=lambda fit: preference(fit, "trtllm"))
    assert (most.kernel, first.kernel) == ("moe_torch_flow_cutlass", "moe_torch_flow_min_latency")


@pytest.mark.parametrize(
    ("system", "fit", "activations"),
    [
        ("b200_sxm", "trtllm", "mxfp8"),
        ("b200_sxm", "vllm", "bf16"),
        ("h100_sxm", "trtllm", "bf16"),  # it does not multiply mxfp8
        ("b200_sxm", "none", "bf16"),
    ],
)
def test_an_engine_may_quantise_what_the_checkpoint_leaves_open(system, fit, activations):
    platform = load_platform(system, fit=fit)
    found = load_precision("openai/gpt-oss-120b", platform.accelerator)
    assert (found.weights, found.activations) == ("mxfp4", activations)
    wanted = load_precision("openai/gpt-oss-120b", platform.accelerator, activations="bf16")
    assert wanted.activations == "bf16"
