"""Readers of Frontier's profiles."""

import math

import pytest
from reader_cases import columns, read, said, write

from diffgenz.core.errors import InputError

VIDUR = ["attn_pre_proj", "attn_post_proj", "mlp_up_proj", "mlp_down_proj"]

FRONTIER = "profiling_precision,quant_signature,model_arch,measurement_type"


def test_frontier_linear_and_experts(tmp_path):
    header = ",".join(
        [
            *(f"time_stats.{name}.median" for name in [*VIDUR, "mlp_act", "attn_rope"]),
            "n_head,n_kv_head,n_embd,n_expanded_embd,use_gated_mlp,attn_output_gate,num_tokens,num_tensor_parallel_workers",
            FRONTIER,
        ]
    )
    row = "1,2,3,4,5,6,32,4,2048,6144,True,False,10,2,BF16,{},generic,CUDA_EVENT"
    linear, act, rope = read(
        write(tmp_path, "linear_op.csv", header, row.format("none"), row.format("fp8"))
    )
    assert said(linear) == ("gemm", "bf16", "frontier", "linear (CUDA_EVENT)")
    assert columns(linear)["n"] == [
        128 * (32 + 2 * 4) / 2,
        2048,
        6144,
        2048,
    ]  # Qwen3-30B-A3B's head_dim is 128, not 2048 / 32
    assert columns(linear)["k"] == [2048, 2048, 2048, 3072]
    assert linear.dropped == {"quantised, or of a special architecture": 1}
    assert (columns(act)["moved"], columns(rope)["moved"]) == (
        [2 * 3 * 10 * 3072],
        [2 * 2 * 10 * 128 * 18],
    )
    with pytest.raises(
        InputError,
        match=r"head_dim is not stated, and shipped models of hidden size 2048, 32 heads and 3 KV heads do not include it",
    ):
        read(write(tmp_path, "linear_op.csv", header, row.format("none").replace("32,4", "32,3")))
    with pytest.raises(
        InputError, match=r"column 'profiling_precision': 'INT3' is not known; it is one of BF16"
    ):
        read(write(tmp_path, "linear_op.csv", header, row.format("none").replace("BF16", "INT3")))
    with pytest.raises(InputError, match="column 'use_gated_mlp': 'maybe' is not known"):
        read(write(tmp_path, "linear_op.csv", header, row.format("none").replace("True", "maybe")))
    header = (
        "time_stats.moe_grouped_gemm.median,num_tokens,num_experts,expert_parallel_size,router_topk,hidden_dim,expert_hidden_dim,use_gated,"
        f"num_tensor_parallel_workers,total_routed_tokens,load_imbalance_cv,moe_grouped_gemm_backend,{FRONTIER}"
    )
    rows = [
        f"0.5,64,16,4,8,2048,768,True,2,{routed},0.5,{kind},BF16,none,generic,CUDA_EVENT"
        for routed, kind in ((160, "vllm_fused"), (128, "deepgemm"))
    ]
    plain, fused = read(write(tmp_path, "moe.csv", header, *rows))
    assert (plain.kernel, fused.kernel) == ("deepgemm (CUDA_EVENT)", "vllm_fused (CUDA_EVENT)")
    shape = columns(fused)
    assert (
        shape["tokens"],
        shape["used"],
        shape["experts"],
        shape["groups"],
        shape["width"],
        shape["up"],
    ) == ([64], [8], [16], [4], [384], [768])
    assert (shape["excess"], shape["variation"], fused.seconds.tolist()) == (
        [160 / 128],
        [0.25],
        pytest.approx([5e-4]),
    )


def test_frontier_attention(tmp_path):
    header = (
        "time_stats.attn_prefill.median,time_stats.attn_decode.median,n_embd,n_q_head,n_kv_head,num_tensor_parallel_workers,batch_size,"
        f"prefill_chunk_size,kv_cache_size,is_prefill,attention_backend,mode,{FRONTIER}"
    )
    row = "{},4096,32,32,8,{},FLASHINFER,{},FP16,none,generic,CUDA_EVENT"
    rows = [
        row.format("1,2", "1,64,16,True", "even"),
        row.format("1,2", "4,0,99,False", "even"),
        row.format("1,2", "4,0,99,False", "true_mixed"),
    ]
    prefill, decode = read(write(tmp_path, "attention.csv", header, *rows))
    shape = columns(prefill)
    assert said(prefill) == ("prefill", "fp16", "frontier", "flashinfer")
    assert (
        shape["queries"],
        shape["context"],
        shape["heads"],
        shape["kv_heads"],
        shape["head_dim"],
    ) == ([64], [16], [4], [4], [128])
    assert (prefill.seconds.tolist(), prefill.dropped) == (
        pytest.approx([1e-3]),
        {"batches of several lengths": 1},
    )
    shape = columns(decode)
    assert (shape["sequences"], shape["queries"], shape["length"], shape["window"]) == (
        [4],
        [1],
        [100],
        [math.inf],
    )
    assert decode.seconds.tolist() == pytest.approx([2e-3])
