"""Files of serving benchmarks as their tools write them, with figures made up for tests."""

import json

VLLM = {
    "date": "20250901-101500",
    "endpoint_type": "openai",
    "backend": "openai",
    "label": None,
    "model_id": "meta-llama/Llama-3.1-70B",
    "tokenizer_id": "meta-llama/Llama-3.1-70B",
    "num_prompts": 80,
    "request_rate": "inf",
    "burstiness": 1.0,
    "max_concurrency": 8,
    "duration": 40.0,
    "completed": 80,
    "failed": 0,
    "total_input_tokens": 163840,
    "total_output_tokens": 20480,
    "request_throughput": 2.0,
    "request_goodput": None,
    "output_throughput": 512.0,
    "total_token_throughput": 4608.0,
    "mean_ttft_ms": 700.0,
    "median_ttft_ms": 650.0,
    "std_ttft_ms": 80.0,
    "p99_ttft_ms": 1400.0,
    "mean_tpot_ms": 12.5,
    "median_tpot_ms": 12.0,
    "std_tpot_ms": 1.0,
    "p99_tpot_ms": 15.0,
    "p99.9_tpot_ms": 16.0,
    "mean_itl_ms": 12.6,
    "median_itl_ms": 11.0,
    "std_itl_ms": 9.0,
    "p99_itl_ms": 60.0,
}
"""`vllm bench serve --save-result`: 2,048 tokens in, 256 out, 8 requests in flight."""

SGLANG = {
    "tag": None,
    "backend": "sglang",
    "dataset_name": "random",
    "request_rate": "inf",
    "max_concurrency": 16,
    "sharegpt_output_len": None,
    "random_input_len": 1024,
    "random_output_len": 512,
    "random_range_ratio": 1.0,
    "server_info": {
        "model_path": "Qwen/Qwen3-30B-A3B",
        "tp_size": 4,
        "dp_size": 2,
        "ep_size": 4,
        "pp_size": 1,
        "enable_dp_attention": True,
        "quantization": "fp8",
        "kv_cache_dtype": "fp8_e4m3",
        "speculative_algorithm": None,
        "disaggregation_mode": "null",
    },
    "duration": 20.0,
    "completed": 64,
    "total_input_tokens": 65536,
    "total_output_tokens": 32768,
    "total_output_tokens_retokenized": 32700,
    "request_throughput": 3.2,
    "input_throughput": 3276.8,
    "output_throughput": 1638.4,
    "mean_e2e_latency_ms": 5000.0,
    "median_e2e_latency_ms": 4900.0,
    "std_e2e_latency_ms": 100.0,
    "p99_e2e_latency_ms": 5500.0,
    "mean_ttft_ms": 200.0,
    "median_ttft_ms": 180.0,
    "std_ttft_ms": 20.0,
    "p99_ttft_ms": 400.0,
    "mean_tpot_ms": 9.4,
    "median_tpot_ms": 9.3,
    "std_tpot_ms": 0.4,
    "p99_tpot_ms": 11.0,
    "mean_itl_ms": 9.4,
    "median_itl_ms": 9.0,
    "std_itl_ms": 3.0,
    "p95_itl_ms": 14.0,
    "p99_itl_ms": 30.0,
    "concurrency": 15.6,
    "accept_length": None,
}
"""SGLang's bench_serving with DP attention of two groups on four accelerators."""

AIPERF = {
    "request_throughput": {"unit": "requests/sec", "avg": 4.0},
    "request_latency": {"unit": "ms", "avg": 2400.0, "p50": 2300.0, "p99": 3000.0, "std": 90.0},
    "time_to_first_token": {"unit": "ms", "avg": 150.0, "p50": 140.0, "p99": 300.0, "min": 90.0},
    "inter_token_latency": {"unit": "ms", "avg": 17.7, "p50": 17.5, "p90": 19.0, "p99": None},
    "input_sequence_length": {"unit": "tokens", "avg": 512.0},
    "output_sequence_length": {"unit": "tokens", "avg": 128.0},
    "output_token_throughput": {"unit": "tokens/sec", "avg": 512.0},
    "request_count": {"unit": "requests", "avg": 100.0},
    "error_request_count": None,
    "was_cancelled": False,
    "error_summary": [],
    "input_config": {
        "endpoint": {"model_names": ["openai/gpt-oss-20b"], "type": "chat", "streaming": True},
        "loadgen": {"concurrency": 10, "request_count": 100},
    },
}
"""profile_export_aiperf.json."""

GENAI_PERF = {
    **{name: AIPERF[name] for name in AIPERF if name not in ("input_config", "was_cancelled")},
    "input_config": {
        "model_names": ["openai/gpt-oss-20b"],
        "perf_analyzer": {"stimulus": {"concurrency": 10}},
    },
}
"""profile_export_genai_perf.json."""

INFERENCEX = {
    "hw": "h200-nv",
    "conc": 4,
    "image": "vllm/vllm-openai:v0.11.0",
    "model": "meta-llama/Llama-3.3-70B-Instruct",
    "infmax_model_prefix": "70b",
    "framework": "vllm",
    "precision": "fp8",
    "spec_decoding": "none",
    "disagg": False,
    "isl": 1024,
    "osl": 1024,
    "is_multinode": False,
    "tp": 8,
    "ep": 1,
    "dp_attention": "false",
    "tput_per_gpu": 120.0,
    "output_tput_per_gpu": 60.0,
    "mean_ttft": 0.1,
    "median_ttft": 0.09,
    "p99_ttft": 0.3,
    "mean_tpot": 0.008,
    "median_tpot": 0.0079,
    "median_intvty": 126.6,
}
"""One row of InferenceX."""

CSV = (
    "Model,ISL,OSL,Hardware,Hardware Key,Framework,Precision,TP,Concurrency,Date,"
    "Throughput/Chip (tok/s),Output Throughput/Chip (tok/s),Mean TTFT (s),Median TTFT (s),"
    "Mean TPOT (s),Disaggregated,Spec Decoding,EP,DP Attention,Is Multinode\n"
    "Llama 3.3 70B Instruct,1024,1024,h200,h200_vllm,vllm,fp8,8,4,2025-11-01,120,60,0.1,0.09,"
    "0.008,false,none,1,false,false\n"
)
"""The same row as the site exports it."""


def write(folder, name, *runs):
    """A file of runs: one object, or JSON lines."""
    path = folder / name
    path.write_text("\n".join(run if isinstance(run, str) else json.dumps(run) for run in runs))
    return path
