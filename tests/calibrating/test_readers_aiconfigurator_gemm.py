"""Readers of aiconfigurator's tables of matrix products and of quantisation."""

import pandas as pd
import pytest

from diffgenz.calibrating.readers.aiconfigurator.gemm import gemm
from diffgenz.calibrating.readers.aiconfigurator.quantise import quantise
from diffgenz.core.errors import InputError
from diffgenz.kernels.forms.elementwise import Elementwise
from diffgenz.kernels.forms.gemm import Gemm, QuantisedGemm


def table(tmp_path, name, **columns):
    path = tmp_path / f"{name}.csv"
    pd.DataFrame({"framework": "VLLM", "version": "1.0", "kernel_source": "one"} | columns).to_csv(
        path, index=False
    )
    return path


def test_products_are_read_by_format(tmp_path):
    path = table(
        tmp_path,
        "gemm_perf",
        gemm_dtype=["bfloat16", "int4_wo", "fp8"],
        m=[2, 2, 2],
        n=[4, 4, 4],
        k=[128, 128, 128],
        latency=[1.0, 2.0, 3.0],
    )
    found = {samples.format: samples for samples in gemm(path)}
    assert {format: samples.form for format, samples in found.items()} == {
        "bf16": Gemm,
        "int4/bf16": QuantisedGemm,
        "fp8": QuantisedGemm,
    }
    assert found["bf16"].shape.moved[0] == 2 * (4 * 128 + 2 * 128 + 2 * 4)
    assert found["fp8"].shape.moved[0] == 4 * 128 + 2 * 128 + 2 * 2 * 4
    assert found["int4/bf16"].shape.moved[0] == pytest.approx(
        (0.5 + 2 / 128) * 4 * 128 + 2 * (2 * 128 + 2 * 4)
    )
    assert found["int4/bf16"].seconds[0] == 2e-3
    assert found["fp8"].source == "vllm-1.0"


def test_quantisation_is_read_in_bytes(tmp_path):
    (samples,) = quantise(
        table(
            tmp_path,
            "scale_matrix_perf",
            quant_dtype=["fp8", "fp8"],
            m=[2, 4],
            k=[64, 64],
            latency=[0.5, 0.25],
        )
    )
    assert samples.form is Elementwise
    assert samples.shape.moved.tolist() == [2 * 64 * 3, 4 * 64 * 3]
    assert samples.seconds.tolist() == [5e-4, 2.5e-4]


def test_bad_tables_are_refused_by_name(tmp_path):
    with pytest.raises(InputError, match="'latency' is missing"):
        gemm(table(tmp_path, "a", gemm_dtype=["fp8"], m=[1], n=[1], k=[1]))
    with pytest.raises(InputError, match=r"gemm_dtype: .*fp9"):
        gemm(table(tmp_path, "b", gemm_dtype=["fp9"], m=[1], n=[1], k=[1], latency=[1.0]))
    with pytest.raises(InputError, match=r"quant_dtype: .*fp9"):
        quantise(table(tmp_path, "c", quant_dtype=["fp9"], m=[1], k=[1], latency=[1.0]))
