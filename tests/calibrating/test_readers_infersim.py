"""Readers of InferSim's measurements."""

import pytest
from reader_cases import columns, read, said, write

from diffgenz.core.errors import InputError


def test_infersim(tmp_path):
    (gemm,) = read(
        write(tmp_path, "gemm/h800/data.csv", "m,k,n,latency_us,mfu", "16,7168,1536,20,0.01")
    )
    assert said(gemm) == ("gemm", "fp8_block", "infersim", "deepgemm")
    assert columns(gemm) == {
        "m": [16],
        "n": [1536],
        "k": [7168],
        "moved": [
            pytest.approx(
                1536 * 7168 * (1 + 4 / 128**2) + 16 * 7168 * (1 + 4 / 128**2) + 2 * 16 * 1536
            )
        ],
    }
    header = "num_experts,num_gpus,num_local_experts,topk,hidden_size,intermediate_size,{},tokens_per_expert,up_proj_us,up_mfu,down_proj_us,down_mfu"
    rows = ("256,4,64,8,7168,2048,16,2,600,0,300,0", "256,1,256,8,7168,2048,32,1,9,0,9,0")
    (masked,) = read(write(tmp_path, "grouped.csv", header.format("batch_size_per_gpu"), *rows))
    shape = columns(masked)
    assert (shape["tokens"], shape["groups"], shape["up"], shape["width"], shape["variation"]) == (
        [64],
        [4],
        [4096],
        [2048],
        pytest.approx([0.03]),
    )
    assert (masked.seconds.tolist(), masked.dropped) == (
        pytest.approx([9e-4]),
        {"one row per expert, or none": 1},
    )
    (contiguous,) = read(write(tmp_path, "grouped.csv", header.format("seq_len_per_gpu"), *rows))
    assert (len(contiguous), columns(contiguous)["variation"]) == (2, [0, 0])
    header = "dtype,kv_dtype,batch_size,kv_len,latency_us,mfu"
    (decode,) = read(
        write(tmp_path, "mha_decode_h800_32-8-128.csv", header, "bf16,fp8,4,1024,30,0")
    )
    assert said(decode) == ("decode", "bf16", "infersim", "flashinfer")
    shape = columns(decode)
    assert [
        shape[name]
        for name in ("sequences", "length", "heads", "kv_heads", "head_dim", "cache_size")
    ] == [[4], [1024], [32], [8], [128], [1]]
    (latent,) = read(
        write(tmp_path, "mla/decode/h800/128-512-64.csv", header, "bf16,bf16,4,1024,30,0")
    )
    assert (
        latent.family,
        columns(latent)["latent"],
        columns(latent)["rope_dim"],
        columns(latent)["cache_size"],
    ) == (
        "latent_decode",
        [512],
        [64],
        [2],
    )
    (latent,) = read(
        write(
            tmp_path,
            "mla/prefill/h800/128-128-64.csv",
            "dtype,seq_len,latency_us,mfu",
            "bf16,2048,30,0",
        )
    )
    assert (
        columns(latent)["queries"],
        columns(latent)["query_dim"],
        columns(latent)["value_dim"],
    ) == ([2048], [192], [128])
    (prefill,) = read(
        write(
            tmp_path,
            "mha/prefill/h800/32-8-128.csv",
            "dtype,seq_len,latency_us,mfu",
            "bf16,2048,30,0",
        )
    )
    assert (prefill.family, columns(prefill)["kv_heads"], prefill.seconds.tolist()) == (
        "prefill",
        [8],
        pytest.approx([3e-5]),
    )
    with pytest.raises(InputError, match="its columns state no heads; its path must"):
        read(write(tmp_path, "h800.csv", header, "bf16,fp8,4,1024,30,0"))
    with pytest.raises(InputError, match="it holds no measurements of a kernel family"):
        read(write(tmp_path, "dsa_decode_128-576-2048.csv", header, "bf16,fp8,4,1024,30,0"))
