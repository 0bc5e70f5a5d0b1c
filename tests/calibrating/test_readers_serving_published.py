"""Readers of published tables and logs of serving, each on a file in the project's own layout."""

import json

import numpy as np
import pytest
from serving_cases import VLLM, write

from diffgenz import InputError, read_benchmarks
from diffgenz.calibrating.readers.serving.registry import holds_benchmarks

SPLITWISE = (
    "model,hardware,prompt_size,batch_size,token_size,peak_power,average_power,prompt_time,"
    "token_time,e2e_time,tensor_parallel\n"
    "llama2-70b,a100-80gb,512,2,128,1.0,0.7,250.0,55.0,7235.0,4\n"
    "bloom-176b,h100-80gb-pcap,512,1,128,1.0,0.7,250.0,55.0,7235.0,8\n"
)
BENCH = (
    "Hardware,Num of Hardware,Framework,Model,Input Output Length,Batch Size,Latency,Throughput\n"
    "Nvidia H100 GPU,2,vLLM,meta-llama/Llama-2-7b-hf,1024,16,8.0,4096\n"
    "AMD MI300X GPU,1,llama.cpp,meta-llama/Llama-2-7b-hf,128,1,2.0,128\n"
)
FIRST = (
    "Hardware,Num of Hardware,Framework,Model,Input Length,Output Length,Batch Size,TTFT Latency,"
    "end_latency \nNvidia A100 GPU,1,TensorRT-LLM,mistralai/Mistral-7B-v0.1,1024,1,16,0.9,21.36\n"
)
NIM = (
    "Input Tokens,Output Tokens,Concurrency,TTFT (ms),ITL (ms),Throughput (Tokens/s)\n"
    "200,1000,25,180.0,20.0,1230.5\n"
)
IMEC = "\ufeffdevice,model,TP,actual\nA100,Llama 2-13B,4,2.5\nH100,Llama 3-70B,8,3.0\n"
AIPERF = (
    "Metric,avg,min,max,p99,p95,p90,p50,std\n"
    'Inter Token Latency (ms),17.7,17.0,20.0,19.9,19.5,19.0,17.5,0.3\nRequest Latency (ms),"2,400.0"'
    ",1.0,3.0,3000.0,2.0,2.0,2300.0,0.1\nTime to First Token (ms),150.0,90.0,310.0,300.0,2.0,2.0,"
    "140.0,9\nInput Sequence Length (tokens),512.0,512,512,512,512,512,512,0\nOutput Sequence Length "
    "(tokens),128.0,128,128,128,128,128,128,0\n\nMetric,Value\nOutput Token Throughput (tokens/sec),"
    "512.0\nRequest Count,100\nRequest Throughput (requests/sec),4.0\n"
)


def request(**changed):
    """One line of LLMServingSim's log: arrivals on the clock of the wall, the rest on another."""
    times = {"queued_ts": 50.0, "scheduled_ts": 50.1, "first_token_ts": 50.5, "last_token_ts": 51.5}
    tokens = {"request_id": "bench-0", "input_toks": 100, "output_toks": 11}
    return tokens | {"arrival_time": 1.7e9} | times | changed


def read(folder, name, text):
    return read_benchmarks(write(folder, name, text))


def test_splitwise(tmp_path):
    found, capped = read(tmp_path, "perf_model.csv", SPLITWISE)
    assert (found.model, found.system, found.engine) == (
        "meta-llama/Llama-2-70b-hf",
        "a100-80gb",
        "vllm",
    )
    assert (found.ranks, found.batch, found.together) == ({"tp": 4}, 2, True)
    assert (found.concurrency, found.rate) == (None, None)
    seconds = (found.ttft.mean, found.tpot.mean, found.end_to_end.mean)
    assert seconds == pytest.approx((0.25, 0.055, 7.235))
    assert capped.model == "bigscience/bloom"
    assert "power" in capped.unmodelled


def test_llm_inference_bench(tmp_path):
    found, other = read(tmp_path, "All_results.csv", BENCH)
    assert (found.system, found.engine, found.ranks["gpus"]) == ("H100", "vllm", 2)
    assert (found.input_tokens, found.output_tokens, found.batch) == (1024, 1024, 16)
    # of the 4,096 tokens/s half are of prompts
    assert (found.end_to_end.mean, found.throughput) == (8.0, 2048.0)
    assert (other.system, other.unmodelled) == ("MI300X", "the kernels of llama.cpp")
    (first,) = read(tmp_path, "TTFT_ITL.csv", FIRST)
    assert (first.ttft.mean, first.end_to_end.mean) == (0.9, 21.36)
    assert first.tpot.mean == pytest.approx((21.36 - 0.9) / 1023)


def test_published_figures(tmp_path):
    (found,) = read(tmp_path, "nim.csv", NIM)
    assert (found.model, found.ranks, found.concurrency) == ("", {}, 25)
    assert (found.ttft.mean, found.tpot.mean, found.throughput) == (0.18, 0.02, 1230.5)
    two, three = read(tmp_path, "imec.csv", IMEC)
    assert (two.model, two.ranks, two.system) == ("meta-llama/Llama-2-13b-hf", {"tp": 4}, "A100")
    assert (two.input_tokens, two.output_tokens, two.batch) == (200, 200, 1)
    assert (two.end_to_end.mean, three.model) == (2.5, "meta-llama/Llama-3-70b-hf")


def test_the_csv_of_aiperf_says_what_its_json_does(tmp_path):
    (found,) = read(tmp_path, "profile_export_aiperf.csv", AIPERF)
    assert (found.tool, found.input_tokens, found.output_tokens) == ("aiperf", 512, 128)
    assert found.ttft.mean == pytest.approx(0.15)
    assert found.ttft.percentiles[99.0] == pytest.approx(0.3)
    assert found.end_to_end.mean == pytest.approx(2.4)
    assert (found.throughput, found.completed, found.failed) == (512, 100, 0)
    assert found.batch == pytest.approx(4.0 * 2.4)


def test_a_log_of_llmservingsim(tmp_path):
    later = request(queued_ts=51.0, first_token_ts=51.8, last_token_ts=52.8, output_toks=1)
    log = write(tmp_path, "requests.jsonl", request(), later)
    kwargs = {"tensor_parallel_size": 2, "max_num_seqs": 64, "max_num_batched_tokens": 2048}
    write(tmp_path, "meta.json", {"schema_version": 1, "model": "a/b", "engine_kwargs": kwargs})
    (found,) = read_benchmarks(log)
    assert (found.model, found.engine, found.ranks) == ("a/b", "vllm", {"tp": 2})
    assert (found.slots, found.budget, found.completed) == (64, 2048, 2)
    assert found.log is not None
    np.testing.assert_allclose(found.log, [[0.0, 1.0], [100, 100], [11, 1]])
    assert found.ttft.mean == pytest.approx((0.5 + 0.8) / 2)
    assert found.tpot.mean == pytest.approx(0.1)  # of the first alone
    assert found.throughput == pytest.approx(12 / 2.8)
    same = [{**row, "arrival_time": row["queued_ts"] - 0.25} for row in (request(), later)]
    (found,) = read_benchmarks(write(tmp_path, "same.jsonl", *same))
    assert found.ttft.mean == pytest.approx((0.75 + 1.05) / 2)


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("a.jsonl", [request(), request(first_token_ts=None)], "row 2: first_token_ts: null: the"),
        ("a.jsonl", [request(first_token_ts=49.0)], "row 1: first_token_ts: 49 is not between"),
        ("a.jsonl", [request(output_toks="many")], "row 1: output_toks: 'many' is no finite"),
        ("a.csv", [SPLITWISE.replace("250.0", "fast")], "row 1: prompt_time: 'fast' is no finite"),
        ("a.csv", [BENCH.replace("8.0", "0")], "row 1: Latency: 0 s is none; leave the row out"),
        ("a.csv", ["Metric,avg\nRequest Latency (ms),1\n"], "Request Throughput: there is no such"),
        ("a.json", [VLLM | {"gpus": 4, "tp": 8}], "gpus: 4 is not a multiple of tp 8; correct"),
        ("a.json", [VLLM | {"gpus": 6, "tp": 2, "dp": 2}], "gpus: 6 is not a multiple of tp 2 x"),
    ],
)
def test_bad_input_is_one_line(name, rows, message, tmp_path):
    with pytest.raises(InputError) as caught:
        read_benchmarks(write(tmp_path, name, *rows))
    assert message in str(caught.value)
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)


def test_benchmarks_are_told_from_kernels_by_what_they_hold(tmp_path):
    kernels = write(tmp_path, "gemm.csv", "family,format,source,m,n,k,latency_us\n")
    renamed = write(tmp_path, "run.log", json.dumps(VLLM))
    table = write(tmp_path, "x.csv", SPLITWISE)
    assert holds_benchmarks([renamed, table])
    assert holds_benchmarks([write(tmp_path, "y.csv", AIPERF)])
    tables = tmp_path / "tables"
    tables.mkdir()
    write(tables, "gemm.csv", "family,format,source,m,n,k,latency_us\n")
    assert not holds_benchmarks([kernels, tables])
    assert holds_benchmarks([tmp_path])
    with pytest.raises(InputError, match="gemm.csv is not; calibrate kernels and servers apart"):
        holds_benchmarks([table, kernels])
