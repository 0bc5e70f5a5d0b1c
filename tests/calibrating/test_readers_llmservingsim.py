"""Readers of LLMServingSim's profiles, the first ones among them."""

import math

import pytest
from reader_cases import columns, read, said, write

from diffgenz.core.errors import InputError


def test_llmservingsim(tmp_path):
    folder = "RTX/meta-llama/Llama-3.1-8B/bf16/tp2"
    rows = ("gate_up_proj,10,7", "qkv_proj,10,5", "layernorm,10,3", "act_fn,10,2", "embedding,10,9")
    linear, act, norm = read(write(tmp_path, f"{folder}/dense.csv", "layer,tokens,time_us", *rows))
    assert said(linear) == ("gemm", "bf16", "llmservingsim", "linear")
    shape = columns(linear)
    assert (shape["m"], shape["n"], shape["k"]) == (
        [10, 10],
        [2 * 14336 / 2, (4096 + 2 * 1024) / 2],
        [4096, 4096],
    )
    assert linear.seconds == pytest.approx([7e-6, 5e-6])
    assert (act.kernel, columns(act)["moved"]) == ("act_fn", [2 * 3 * 10 * 14336 / 2])
    assert (norm.kernel, columns(norm)["moved"]) == ("layernorm", [2 * 4 * 10 * 4096])
    (head,) = read(
        write(
            tmp_path,
            f"{folder}/per_sequence.csv",
            "layer,sequences,time_us",
            "lm_head,3,11",
            "sampler,3,4",
        )
    )
    assert (columns(head)["m"], columns(head)["n"], columns(head)["k"], head.seconds.tolist()) == (
        [3],
        [64128],
        [4096],
        pytest.approx([11e-6]),
    )
    header, flat = (
        "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us",
        "RTX_meta-llama_Llama-3.1-8B_bf16_tp1_attention.csv",
    )
    prefill, decode = read(
        write(tmp_path, flat, header, "64,16,0,0,5", "0,0,8,100,6", "64,0,8,100,7")
    )
    assert columns(prefill) == {
        "sequences": [1],
        "queries": [64],
        "context": [16],
        "heads": [32],
        "kv_heads": [8],
        "head_dim": [128],
        "window": [math.inf],
        "cache_size": [2],
    }
    assert (prefill.dropped, prefill.seconds.tolist()) == (
        {"batches of prompts and decodes": 1},
        pytest.approx([5e-6]),
    )
    assert {
        name: columns(decode)[name] for name in ("sequences", "queries", "length", "window")
    } == {
        "sequences": [8],
        "queries": [1],
        "length": [101],
        "window": [math.inf],
    }
    with pytest.raises(
        InputError, match="its path must say format and tensor parallelism, as .*bf16/tp1"
    ):
        read(
            write(
                tmp_path, "meta-llama/Llama-3.1-8B/fp3/tp1/dense.csv", "layer,tokens,time_us", *rows
            )
        )
    with pytest.raises(
        InputError,
        match=r"its path names no shipped model; put the model's config\.json beside the file",
    ):
        read(write(tmp_path, "acme/unknown/bf16/tp1/dense.csv", "layer,tokens,time_us", *rows))
    write(
        tmp_path,
        "acme/unknown/bf16/tp1/config.json",
        '{"hidden_size": 512, "num_attention_heads": 8, "intermediate_size": 1024}',
    )
    (linear, *_) = read(tmp_path / "acme/unknown/bf16/tp1/dense.csv")
    assert columns(linear)["n"] == [2048, 3 * 512]


def test_llmservingsim_v0(tmp_path):
    rows = (
        "q_proj,5,0,2,1000",
        "k_proj,5,0,2,2000",
        "expert.w2,5,0,2,3000",
        "lm_head,5,0,2,4000",
        "attn,5,0,2,5000",
        "rope,5,0,2,9",
        "gate,5,0,2,9",
    )
    path = write(
        tmp_path,
        "H100/mistralai/Mixtral-8x7B-v0.1/tp2/layers.csv",
        "layer_name,input,kv_cache,tp_size,latency(ns)",
        *rows,
    )
    linear, attention = read(path)
    shape = columns(linear)
    assert said(linear) == ("gemm", "fp16", "llmservingsim_v0", "linear")
    assert sorted(zip(shape["n"], shape["k"], linear.seconds.tolist(), strict=True)) == [
        (512, 4096, pytest.approx(2e-6)),
        (2048, 4096, pytest.approx(1e-6)),
        (4096, 14336, pytest.approx(3e-6)),
        (16000, 4096, pytest.approx(4e-6)),
    ]
    assert (
        attention.family,
        columns(attention)["heads"],
        columns(attention)["queries"],
        columns(attention)["window"],
    ) == ("prefill", [16], [5], [math.inf])
