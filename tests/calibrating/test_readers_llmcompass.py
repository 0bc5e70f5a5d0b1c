"""The reader of LLMCompass's measurements."""

import pytest
from reader_cases import columns, read, said, write

from diffgenz.core.errors import InputError


def test_llmcompass(tmp_path):
    (matmul,) = read(
        write(
            tmp_path,
            "matmul_A100.csv",
            "",
            "64, 1024, 2048, 0.25ms, 1.07Tflops",
            "128, 1024, 2048, 0.5ms, 1.07Tflops",
        )
    )
    shape = columns(matmul)
    assert said(matmul) == ("gemm", "fp16", "llmcompass", "pytorch")
    assert (shape["m"], shape["n"], shape["k"], matmul.seconds.tolist()) == (
        [64, 128],
        [1024] * 2,
        [2048] * 2,
        pytest.approx([2.5e-4, 5e-4]),
    )
    (softmax,) = read(
        write(tmp_path, "softmax_A100.csv", "", "4096, 1000, 40.96", "4096, 2000, 40.96")
    )
    assert said(softmax) == ("elementwise", "fp16", "llmcompass", "softmax")
    assert (columns(softmax)["moved"], softmax.seconds.tolist()) == (
        [4 * 4096e3, 8 * 4096e3],
        pytest.approx([1e-4, 2e-4]),
    )
    (gelu,) = read(write(tmp_path, "gelu_A100.csv", "", "1000, 0.02"))
    assert (columns(gelu)["moved"], gelu.seconds.tolist()) == ([4000], pytest.approx([5e-5]))
    with pytest.raises(InputError, match=r"column 'rate', row 2: it must be positive"):
        read(write(tmp_path, "gelu_A100.csv", "", "1000, 0.02", "1000, 0"))
