"""Readers of other projects' layouts and of plain CSVs: shapes, seconds and formats worked by hand, bad input, and the real files where they are."""

from pathlib import Path

import numpy as np
import pytest

from diffgenz.calibrating.hardware import hardware_of
from diffgenz.calibrating.readers.registry import samples_of
from diffgenz.core.errors import InputError
from diffgenz.hardware.specs import read_spec
from diffgenz.kernels.families import FAMILIES
from diffgenz.kernels.hardware import Chip
from diffgenz.ui.cli.main import main

SHARED = Path(__file__).resolve().parents[2] / "shared" / "measurements" / "ops"


def write(folder, name, header, *rows):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*([header] if header else []), *rows]) + "\n")
    return path


def read(path):
    return [samples for _, samples in samples_of([path])]


def columns(samples):
    """Its rows: the shape's numbers by name, lists."""
    return {name: np.asarray(column).tolist() for name, column in samples.shape._asdict().items()}


def said(samples):
    return samples.family, samples.format, samples.source, samples.kernel


VIDUR = ["attn_pre_proj", "attn_post_proj", "mlp_up_proj", "mlp_down_proj"]
VIDUR_HEADER = ",".join(
    [
        *(f"time_stats.{name}.median" for name in [*VIDUR, "mlp_act", "add"]),
        "n_head,n_kv_head,n_embd,n_expanded_embd,vocab_size,use_gated_mlp,num_tokens,num_tensor_parallel_workers",
    ]
)


def test_vidur(tmp_path):
    path = write(tmp_path, "mlp.csv", VIDUR_HEADER, "1,2,3,4,5,6,64,8,8192,28672,32768,True,100,4")
    linear, act, add = read(path)
    assert said(linear) == ("gemm", "fp16", "vidur", "linear")
    shape = columns(linear)
    assert shape["m"] == [100] * 4
    assert shape["n"] == [(8192 + 2 * 1024) / 4, 8192, 2 * 28672 / 4, 8192]
    assert shape["k"] == [8192, 8192 / 4, 8192, 28672 / 4]
    assert shape["moved"][1] == 2 * (100 * 2048 + 2048 * 8192 + 100 * 8192)
    assert linear.seconds == pytest.approx([1e-3, 2e-3, 3e-3, 4e-3])
    assert said(act) == ("elementwise", "fp16", "vidur", "mlp_act")
    assert (columns(act)["moved"], act.seconds.tolist()) == (
        [2 * 3 * 100 * 28672 / 4],
        pytest.approx([5e-3]),
    )
    assert (add.kernel, columns(add)["moved"]) == ("add", [2 * 3 * 100 * 8192])
    header = ",time_stats.all_reduce.median,rank,num_workers,size,collective,devices_per_node,max_devices_per_node"
    (reduce,) = read(
        write(
            tmp_path,
            "net.csv",
            header,
            "0,0.5,0,8,2048,all_reduce,8,8",
            "1,0.25,0,16,4096,all_reduce,8,8",
        )
    )
    assert said(reduce) == ("all_reduce", "fp16", "vidur", "nccl")
    assert columns(reduce) == {"ranks": [8], "volume": [2048]}
    assert (reduce.seconds.tolist(), reduce.dropped) == ([5e-4], {"between nodes": 1})
    with pytest.raises(InputError, match="it holds no measurements of a kernel family"):
        read(
            write(
                tmp_path,
                "send.csv",
                header.replace("all_reduce", "send_recv"),
                "0,0.5,0,2,2048,send_recv,1,8",
            )
        )


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
        "window": [80],
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
        "window": [101],
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
    ) == ("prefill", [16], [5], [5])


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
        [100],
    )
    assert decode.seconds.tolist() == pytest.approx([2e-3])


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


APEX = "gpu,num_nodes,num_gpus_per_node,dtype,size(kb),time(us)"


def test_apex(tmp_path):
    half, single = read(
        write(
            tmp_path,
            "H100_alltoall.csv",
            APEX,
            "H100,1,8,half,4,10",
            "H100,1,8,half,0,9",
            "H100,2,8,half,4,30",
            "H100,1,4,float,2,8",
        )
    )
    assert said(half) == ("all_to_all", "fp16", "apex", "nccl")
    assert (columns(half), half.seconds.tolist()) == (
        {"ranks": [8], "volume": [4096]},
        pytest.approx([1e-5]),
    )
    assert half.dropped == {"between nodes": 1, "less than 1 kB, rounded to nothing": 1}
    assert (single.format, columns(single)) == ("fp32", {"ranks": [4], "volume": [2048]})
    with pytest.raises(InputError, match="it holds no measurements of a kernel family"):
        read(write(tmp_path, "H100_sendrecv.csv", APEX, "H100,1,2,half,1,6"))
    with pytest.raises(
        InputError, match="column 'dtype': 'double' is not known; it is one of half, float"
    ):
        read(write(tmp_path, "H100_alltoall.csv", APEX, "H100,1,8,double,4,10"))
    with pytest.raises(
        InputError, match="it does not say which collective it holds; name the file after it"
    ):
        read(write(tmp_path, "H100.csv", APEX, "H100,1,8,half,4,10"))


NCCL = """# nccl-tests version 2.17.6 nccl-headers=22806 nccl-library=22806
# Collective test starting: ./build/{test}
# nThread 1 nGpus 2 minBytes 8 maxBytes 1024 step: 2(factor) warmup iters: 1 iters: 20 agg iters: 1 validation: 1 graph: 0
#
# Using devices
#  Rank  0 Group  0 Pid   4242 on      alpha device  0 [0000:04:00] NVIDIA H100 80GB HBM3
#  Rank  1 Group  0 Pid   4242 on      {host} device  1 [0000:05:00] NVIDIA H100 80GB HBM3
#
#                                                              out-of-place                       in-place
#       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw #wrong
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)            (us)  (GB/s)  (GB/s)
           0             0  {type}     sum      -1     5.00    0.00    0.00      0     5.00    0.00    0.00      0
alpha:4242:4250 [0] NCCL INFO a line of the library's own
         512           256  {type}     sum      -1    12.50    0.04    0.04      0    11.00    0.05    0.05    N/A
        1024           512  {type}     sum      -1    14.50    0.07    0.07      3    13.00    0.08    0.08      0
# Out of bounds values : 0 OK
# Avg bus bandwidth    : 0.06
"""


def nccl(folder, test="all_reduce_perf", host="alpha", type="bfloat16", old="", new=""):
    path = folder / "run.txt"
    path.write_text(NCCL.format(test=test, host=host, type=type).replace(old, new))
    return path


def test_nccl_tests(tmp_path):
    out, within = read(nccl(tmp_path))
    assert said(out) == ("all_reduce", "bf16", "nccl-2.28.6", "out-of-place")
    assert (columns(out), out.seconds.tolist(), out.dropped) == (
        {"ranks": [2], "volume": [512]},
        pytest.approx([12.5e-6]),
        {"wrong results": 1, "no bytes": 1},
    )
    assert (within.kernel, columns(within)["volume"], within.seconds.tolist()) == (
        "in-place",
        [512, 1024],
        pytest.approx([11e-6, 13e-6]),
    )
    assert {samples.family for samples in read(nccl(tmp_path, "reduce_scatter_perf_mpi"))} == {
        "reduce_scatter"
    }
    assert {samples.family for samples in read(nccl(tmp_path, "alltoall_perf"))} == {"all_to_all"}
    (tmp_path / "all_gather.log").write_text(
        nccl(tmp_path, old="# Collective test starting: ./build/all_reduce_perf\n").read_text()
    )
    assert {samples.family for samples in read(tmp_path / "all_gather.log")} == {"all_gather"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": "alltoallv_perf"}, "it holds no measurements of a kernel family"),
        ({"host": "beta"}, "its ranks are on 2 hosts; fits are of one node"),
        ({"type": "complex"}, "type: 'complex' is not known; it is one of half, float"),
        ({"old": "#  Rank", "new": "# rank"}, "it has no lines '#  Rank  0 ...'"),
        ({"old": "  time ", "new": "cputime"}, "run the test without -C"),
        (
            {"old": "#       size", "new": "#       size count type busbw\n#       size"},
            "it has 2 table headers; give each run a file of its own",
        ),
        ({"old": "12.50", "new": "-nan?"}, "has no out-of-place time; is the file complete"),
        (
            {"old": "  bfloat16 ", "new": "  1 "},
            "its table has no rows; did the test run to its end",
        ),
    ],
)
def test_a_log_of_nccl_tests_that_cannot_be_used_is_refused(change, message, tmp_path):
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        read(nccl(tmp_path, **change))


def test_a_plain_file(tmp_path):
    rows = (
        "gemm,bf16,mine-1,,8,16,32,,5",
        "elementwise,fp8,mine-1,quant,,,,1e6,7",
        "gemm,int4/bf16,mine-1,,8,16,32,,6",
    )
    elementwise, gemm, narrow = read(
        write(tmp_path, "a.csv", "family,format,source,kernel,m,n,k,moved,latency_us", *rows)
    )
    assert said(elementwise) == ("elementwise", "fp8", "mine-1", "quant")
    assert (columns(elementwise), elementwise.seconds.tolist()) == (
        {"moved": [1e6]},
        pytest.approx([7e-6]),
    )
    assert said(gemm) == ("gemm", "bf16", "mine-1", "")
    assert columns(gemm) == {
        "m": [8],
        "n": [16],
        "k": [32],
        "moved": [2 * (8 * 32 + 16 * 32 + 8 * 16)],
    }
    assert columns(narrow)["moved"] == [(0.5 + 2 / 128) * 16 * 32 + 2 * (8 * 32 + 8 * 16)]
    (batched,) = read(
        write(
            tmp_path,
            "b.csv",
            "family,format,source,m,n,k,groups,latency_ms",
            "batched,fp16,mine,1,2,3,4,0.5",
        )
    )
    assert (columns(batched)["moved"], batched.seconds.tolist()) == (
        [2 * 4 * 2 * 3],
        pytest.approx([5e-4]),
    )
    header = (
        f"family,format,source,{','.join(FAMILIES['mamba2_decode'].form.Shape._fields[:-1])},latency_s"
    )
    (scan,) = read(
        write(tmp_path, "c.csv", header, "mamba2_decode,bf16,mine,8,1,32,64,128,1,256,1e-5")
    )
    assert (columns(scan)["state_size"], scan.seconds.tolist()) == ([4], [1e-5])


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (
            "family,format,source,m,n,k",
            "gemm,bf16,a,1,2,3",
            "it has no latency; give exactly one of latency_s, latency_ms, latency_us",
        ),
        (
            "family,format,source,m,n,k,latency_s,latency_us",
            "gemm,bf16,a,1,2,3,4,5",
            "it has latency_s and latency_us; give exactly one of",
        ),
        (
            "family,format,m,n,k,latency_s",
            "gemm,bf16,1,2,3,4",
            "column 'source' is missing; a plain CSV has family, format, source",
        ),
        (
            "family,format,source,m,n,k,latency_s",
            "gem,bf16,a,1,2,3,4",
            "column 'family': 'gem' is not known; did you mean gemm",
        ),
        (
            "family,format,source,m,n,k,latency_s",
            "gemm,bf17,a,1,2,3,4",
            "column 'format': 'bf17' is not known; did you mean bf16",
        ),
        (
            "family,format,source,m,n,k,latency_s",
            "gemm,bf16,,1,2,3,4",
            "column 'source', row 1: it is empty; every row must say its source",
        ),
        (
            "family,format,source,m,n,latency_s",
            "gemm,bf16,a,1,2,4",
            "column 'k' is missing or empty; gemm has m, n, k, moved",
        ),
        (
            "family,format,source,ranks,volume,latency_s",
            "all_reduce,bf16,a,8,x,4",
            "column 'volume', row 1: 'x' is no number",
        ),
        (
            "family,format,source,m,n,k,latency_s",
            "gemm,bf16,a,1,2,3,",
            "column 'latency_s', row 1: 'nan' is no number; fill it in, or leave the row out",
        ),
        (
            "family,format,source,m,n,k,latency_s,kernl",
            "gemm,bf16,a,1,2,3,4,x",
            "column: 'kernl' is not known; did you mean kernel",
        ),
        (
            "family,format,source,m,n,k,latency_s",
            "",
            "it has no rows; add measurements below the header",
        ),
    ],
)
def test_a_plain_file_that_cannot_be_used_is_refused(header, row, message, tmp_path):
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        read(write(tmp_path, "mine.csv", header, row))


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


def test_a_file_whose_rows_are_all_bound_by_the_host_is_left_out(tmp_path, capsys):
    rows = [f"elementwise,bf16,mine-1.0,{1000 + row},100" for row in range(50)]
    path = write(tmp_path, "mine.csv", "family,format,source,moved,latency_us", *rows)
    assert main(["calibrate", str(path), "--system", "h100_sxm", "--starts", "8"]) == 2
    assert (
        "mine.csv: elementwise bf16: no row is left to fit to: bound by the host (a floor of 100 us)"
        in capsys.readouterr().err
    )
