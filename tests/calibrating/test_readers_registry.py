"""Which reader knows a file, and the real files where they are."""

import numpy as np
import pytest
from reader_cases import APEX, SHARED, VIDUR_HEADER, nccl, read, write

from diffgenz.calibrating.binding import hardware_of
from diffgenz.calibrating.readers.registry import samples_of
from diffgenz.core.errors import InputError
from diffgenz.hardware.specs import read_spec
from diffgenz.kernels.hardware import Chip


def test_files_are_known_by_how_they_begin(tmp_path):
    strange = write(tmp_path, "vidur/mlp.csv", "tokens,us", "1,2")
    with pytest.raises(
        InputError,
        match=r"no reader knows this file; known are .*gemm_perf.* vidur \(mlp\).* such as\nfamily,format,source,m,n,k,latency_us\ngemm",
    ):
        read(strange)
    with pytest.raises(InputError, match="no file in this folder is known to any reader"):
        read(strange.parent)
    with pytest.raises(InputError, match="there is no such file"):
        read(tmp_path / "nothing")
    (tmp_path / "model.bin").write_bytes(bytes(range(256)) * 9)
    write(tmp_path, "deep/any.name", APEX.replace("gpu,", '"gpu",'), "H100,1,8,half,4,10").rename(
        tmp_path / "all_gather.data"
    )
    nccl(tmp_path)
    assert [(path.name, samples.family) for path, samples in samples_of([tmp_path])] == [
        ("all_gather.data", "all_gather"),
        ("run.txt", "all_reduce"),
        ("run.txt", "all_reduce"),
    ]
    with pytest.raises(
        InputError, match=r"column 'time_stats\.mlp_act\.median', row 1: 'nan' is no number"
    ):
        read(
            write(tmp_path, "mlp.csv", VIDUR_HEADER, "1,2,3,4,,6,64,8,8192,28672,32768,True,100,4")
        )
    with pytest.raises(InputError, match="it has no rows that can be used"):
        read(write(tmp_path, "mlp.csv", VIDUR_HEADER))


def test_a_file_of_a_folder_that_is_refused_is_left_out_and_named(tmp_path):
    nccl(tmp_path)
    damaged = write(tmp_path, "mlp.csv", VIDUR_HEADER)
    why = []
    assert {samples.family for _, samples in samples_of([tmp_path], why.append)} == {"all_reduce"}
    assert len(why) == 1
    assert str(damaged) in why[0]
    with pytest.raises(InputError, match="it has no rows"):
        samples_of([tmp_path])
    with pytest.raises(InputError, match="it has no rows"):
        samples_of([damaged], why.append)


H800 = "h100_sxm"  # the same chip, with half the links


RTX4090 = Chip(
    *(np.float64(x) for x in (165.2e12, 1.008e12, 2.4e-6, 128))
)  # NVIDIA Ada GPU architecture whitepaper

REAL = [
    ("vidur/compute_h100_meta-llama_Llama-2-70b-hf_mlp.csv", "h100_sxm", 9000),
    ("vidur/network_h100_dgx_all_reduce.csv", "h100_sxm", 2900),
    ("llmservingsim/RTX4090_meta-llama_Llama-3.1-8B_bf16_tp1_dense.csv", None, 1000),
    ("llmservingsim/RTX4090_meta-llama_Llama-3.1-8B_bf16_tp1_attention.csv", None, 190),
    ("llmservingsim/RTX4090_meta-llama_Llama-3.1-8B_bf16_tp1_per_sequence.csv", None, 40),
    ("llmservingsim_v0/H100_mistralai_Mixtral-8x7B-v0.1_tp2_layers.csv", "h100_sxm", 16000),
    ("frontier/compute_h800_llama2_7b_dense_example_linear_op.csv", H800, 190),
    ("frontier/compute_h800_llama2_7b_dense_example_attention.csv", H800, 100),
    ("frontier/compute_h800_Qwen3-30B-A3B-tiny_attention_combined.csv", H800, 100),
    ("frontier/compute_h800_Qwen3-30B-A3B-tiny_moe.csv", H800, 220),
    ("frontier/compute_a800_qwen3-next-80b-a3b-instruct-reduced-l2_moe.csv", "a100_sxm", 34),
    ("infersim/gemm_h800_data.csv", H800, 110),
    ("infersim/grouped_gemm_decode_h800_data.csv", H800, 46),
    ("infersim/grouped_gemm_prefill_h800_data.csv", H800, 24),
    ("infersim/mha_decode_h800_32-8-128.csv", H800, 41),
    ("infersim/mla_decode_h800_128-512-64.csv", H800, 41),
    ("infersim/mla_prefill_h800_128-128-64.csv", H800, 5),
    ("llmcompass/matmul_A100.csv", "a100_sxm", 20),
    ("llmcompass/softmax_A100.csv", "a100_sxm", 22),
    ("llmcompass/gelu_A100.csv", "a100_sxm", 20),
    *(
        (f"apex/H100-SXM-80GB_{name}.csv", "h100_sxm", 110)
        for name in ("all_reduce", "all_gather", "alltoall", "reduce_scatter")
    ),
]


@pytest.mark.parametrize(("name", "system", "rows"), REAL)
def test_a_real_file_is_read_and_possible(name, system, rows):
    if not (SHARED / name).is_file():
        pytest.skip("no shared measurements here")
    found = read(SHARED / name)
    assert rows <= sum(len(samples) for samples in found) <= 1.1 * rows + 1000 * (rows > 5000)
    for samples in found:
        hardware = (
            hardware_of(read_spec(system), samples.form, samples.format) if system else RTX4090
        )
        share = np.asarray(samples.form.work(samples.shape).bound(hardware)) / samples.seconds
        assert (share > 1).mean() < 0.02
        assert share.max() > 1e-4  # no unit is off by a thousand
