"""Readers of serving benchmarks, each on a file as its tool writes it."""

import json

import pytest
from serving_cases import AIPERF, CSV, GENAI_PERF, INFERENCEX, SGLANG, VLLM, write

from diffgenz import InputError, read_benchmarks
from diffgenz.calibrating.readers.serving.benchmark import Benchmark
from diffgenz.calibrating.readers.serving.registry import holds_benchmarks


def one(folder, *runs, name="bench.json"):
    (benchmark,) = read_benchmarks(write(folder, name, *runs))
    return benchmark


def said(latency):
    """Mean and percentiles of a distribution, for comparison with figures to 1e-9."""
    mean = pytest.approx(latency.mean, rel=1e-9)
    return mean, {key: pytest.approx(value, rel=1e-9) for key, value in latency.percentiles.items()}


def test_vllm(tmp_path):
    found = one(tmp_path, VLLM)
    assert (found.tool, found.place) == ("vllm bench serve", "bench.json")
    assert (found.model, found.system, found.engine) == ("meta-llama/Llama-3.1-70B", "", "")
    assert (found.input_tokens, found.output_tokens) == (2048, 256)
    assert (found.concurrency, found.rate, found.batch) == (8, None, 8)
    assert (found.completed, found.failed, found.throughput) == (80, 0, 512)
    assert said(found.ttft) == (0.7, {50.0: 0.65, 99.0: 1.4})
    assert said(found.tpot) == (0.0125, {50.0: 0.012, 99.0: 0.015, 99.9: 0.016})
    assert found.itl.mean == pytest.approx(0.0126)
    assert found.ranks == {}


def test_vllm_says_more_in_its_metadata_and_details(tmp_path):
    details = {"input_lens": [2048], "ttfts": [0.7], "itls": [[0.01]], "errors": [""]}
    said = {"tp": "8", "system": "h100_sxm", "precision": "fp8"}
    found = one(tmp_path, {**said, **VLLM, **details, "backend": "vllm"})
    assert (found.ranks, found.system, found.precision) == ({"tp": 8}, "h100_sxm", "fp8")
    assert found.engine == "vllm"


def test_metadata_of_vllm_in_other_words(tmp_path):
    said = {
        "Tensor-Parallel-Size": "4",
        "enable_expert_parallel": "true",
        "GPU_name": "NVIDIA H200",
    }
    found = one(tmp_path, {**said, **VLLM, "max_num_seqs": "64", "max_num_batched_tokens": 4096})
    assert (found.ranks, found.system) == ({"tp": 4, "ep": 4}, "NVIDIA H200")
    assert (found.slots, found.budget) == (64, 4096)
    nothing = {**VLLM, "max_concurrency": "None", "request_rate": 2.0, "mean_ttft_ms": "null"}
    assert one(tmp_path, nothing).concurrency is None


def test_bursts_of_vllm_and_aiperf(tmp_path):
    rated = {**VLLM, "request_rate": 2.0, "max_concurrency": None}
    assert one(tmp_path, rated).burstiness == 1
    assert one(tmp_path, {**rated, "burstiness": 0.25}).burstiness == 4  # a shape, not a variance
    for said, bursts in (
        ({"loadgen": {"request_rate": 2.0}}, 1),
        ({"loadgen": {"request_rate": 2.0, "request_rate_mode": "constant"}}, 0),
        (
            {
                "loadgen": {
                    "request_rate": 2.0,
                    "arrival_pattern": "gamma",
                    "arrival_smoothness": 0.5,
                }
            },
            2,
        ),
        ({"request_rate": 2.0}, 0),  # genai-perf
    ):
        assert one(tmp_path, AIPERF | {"input_config": said}).burstiness == bursts


def test_all_requests_at_once_are_a_log(tmp_path):
    at_once = {**VLLM, "request_rate": "inf", "max_concurrency": None, "completed": 3}
    at_once |= {"num_prompts": 3, "total_input_tokens": 90, "total_output_tokens": 30}
    log = one(tmp_path, at_once).log
    assert [each.tolist() for each in log] == [[0, 0, 0], [30, 30, 30], [10, 10, 10]]
    details = {"input_lens": [20, 30, 40], "output_lens": [5, 10, 15], "start_times": [7.0, 7.5, 9]}
    log = one(tmp_path, at_once | details).log
    assert [each.tolist() for each in log] == [[0, 0.5, 2], [20, 30, 40], [5, 10, 15]]
    assert one(tmp_path, VLLM).log is None
    endless = {**SGLANG, "request_rate": float("inf"), "max_concurrency": None}
    assert len(one(tmp_path, endless).log.arrivals) == SGLANG["completed"]


def test_answers_of_one_token_have_no_time_between_tokens(tmp_path):
    one_token = {**VLLM, "total_output_tokens": 80, "mean_tpot_ms": 0.0, "mean_itl_ms": 0.0}
    found = one(tmp_path, one_token)
    assert (found.tpot.typical, found.itl.typical) == (None, None)


def test_what_no_estimate_describes_is_said(tmp_path):
    assert one(tmp_path, {**VLLM, "ramp_up_strategy": "linear"}).unmodelled.startswith(
        "a rate that"
    )
    pooled = {**VLLM, "input_sequence_throughput": 3.0}
    assert "embeddings" in one(tmp_path, pooled).unmodelled
    routed = {**SGLANG, "server_info": {"prefill": [{}], "decode": [{}]}}
    assert "pools" in one(tmp_path, routed).unmodelled


def test_servers_of_sglang_are_known_by_name(tmp_path):
    info = {
        **SGLANG["server_info"],
        "model_path": "/models/x",
        "served_model_name": "Qwen/Qwen3-8B",
    }
    found = one(tmp_path, {**SGLANG, "server_info": {**info, "max_running_requests": 48}})
    assert (found.model, found.slots) == ("Qwen/Qwen3-8B", 48)


def test_folders_are_searched_for_runs(tmp_path):
    folder = tmp_path / "bench"
    folder.mkdir()
    write(folder, "b.json", VLLM)
    write(folder, "a.jsonl", SGLANG, SGLANG)
    (folder / "notes.json").write_text('{"hello": 1}')
    (folder / "broken.json").write_text("{")
    assert [each.place for each in read_benchmarks(folder)] == [
        "a.jsonl: row 1",
        "a.jsonl: row 2",
        "b.json",
    ]
    assert holds_benchmarks([folder])
    empty = tmp_path / "kernels"
    empty.mkdir()
    (empty / "config.json").write_text('{"model_type": "llama"}')
    assert not holds_benchmarks([empty])
    with pytest.raises(InputError, match="kernels holds no file of a benchmark"):
        read_benchmarks(empty)


def test_requests_in_flight_at_a_rate_are_those_of_littles_law(tmp_path):
    slow = {**VLLM, "request_rate": 2.0, "max_concurrency": None}
    seconds = 0.7 + 255 * 0.0125
    assert one(tmp_path, slow).batch == pytest.approx(2.0 * seconds)
    known = {**slow, "mean_e2el_ms": 4000.0}
    assert one(tmp_path, known).batch == pytest.approx(8.0)


def test_sglang(tmp_path):
    first, second = read_benchmarks(write(tmp_path, "runs.jsonl", SGLANG, SGLANG))
    assert (first.place, second.place) == ("runs.jsonl: row 1", "runs.jsonl: row 2")
    assert (first.model, first.engine) == ("Qwen/Qwen3-30B-A3B", "sglang")
    assert first.ranks == {"pp": 1, "ep": 4, "tp": 2, "attention-dp": 2}
    assert (first.precision, first.kv_cache) == ("fp8", "fp8")
    assert (first.input_tokens, first.output_tokens, first.batch) == (1024, 512, 16)
    assert said(first.end_to_end) == (5.0, {50.0: 4.9, 99.0: 5.5})
    assert (first.speculative, first.unmodelled) == ("", "")
    rated = {**SGLANG, "request_rate": 3.2}
    assert one(tmp_path, rated).batch == pytest.approx(15.6)
    plain = {**SGLANG, "server_info": {**SGLANG["server_info"], "enable_dp_attention": False}}
    assert one(tmp_path, plain).ranks == {"pp": 1, "ep": 4, "tp": 4, "dp": 2}
    older = {name: value for name, value in SGLANG.items() if name != "server_info"}
    assert (one(tmp_path, older).model, one(tmp_path, older).ranks) == ("", {})


@pytest.mark.parametrize("run", [AIPERF, GENAI_PERF], ids=["aiperf", "genai-perf"])
def test_aiperf_and_genai_perf(run, tmp_path):
    found = one(tmp_path, run)
    assert (found.model, found.batch) == ("openai/gpt-oss-20b", 10)
    assert (found.input_tokens, found.output_tokens, found.throughput) == (512, 128, 512)
    assert said(found.ttft) == (0.15, {50.0: 0.14, 99.0: 0.3})
    assert said(found.tpot) == (0.0177, {50.0: 0.0175, 90.0: 0.019})
    assert (found.completed, found.failed) == (100, 0)


def test_units_of_aiperf_are_read(tmp_path):
    micro = {"time_to_first_token": {"unit": "us", "avg": 150000.0}}
    assert one(tmp_path, AIPERF | micro).ttft.mean == pytest.approx(0.15)


def test_inferencex(tmp_path):
    found = one(tmp_path, INFERENCEX)
    assert (found.system, found.engine, found.precision) == ("h200-nv", "vllm", "fp8")
    assert (found.ranks, found.batch) == ({"pp": 1, "ep": 1, "tp": 8}, 4)
    assert found.throughput == 480
    assert said(found.ttft) == (0.1, {50.0: 0.09, 99.0: 0.3})
    groups = {**INFERENCEX, "dp_attention": "true", "ep": 8}
    assert one(tmp_path, groups).ranks == {"pp": 1, "ep": 8, "tp": 1, "attention-dp": 8}
    listed = tmp_path / "agg.json"
    listed.write_text(json.dumps([INFERENCEX, groups]))
    assert len(read_benchmarks(listed)) == 2
    metrics = {name: INFERENCEX[name] for name in ("output_tput_per_gpu", "mean_tpot")}
    rest = {name: value for name, value in INFERENCEX.items() if name not in metrics}
    assert one(tmp_path, {**rest, "metrics": metrics}).tpot.mean == pytest.approx(0.008)


def test_the_csv_of_inferencex_says_the_same_as_its_json(tmp_path):
    (row,), found = read_benchmarks(write(tmp_path, "site.csv", CSV)), one(tmp_path, INFERENCEX)
    assert (row.ranks, row.batch, row.throughput) == (found.ranks, found.batch, found.throughput)
    assert (row.ttft.mean, row.tpot.mean) == (found.ttft.mean, found.tpot.mean)
    assert (row.input_tokens, row.system, row.engine) == (1024, "h200", "vllm")


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([{**VLLM, "completed": 77, "failed": 3}], "failed: 3 of 80 requests failed"),
        ([{k: v for k, v in VLLM.items() if k != "failed"} | {"completed": 79}], "failed: 1 of 80"),
        ([{**VLLM, "completed": 0, "num_prompts": 0}], "completed: 0 requests"),
        ([SGLANG, {**SGLANG, "errors": ["", "timeout"]}], "row 2: failed: 1 of 65 requests failed"),
        ([AIPERF | {"error_request_count": {"avg": 5.0}}], "failed: 5 of 105 requests failed"),
        ([AIPERF | {"error_summary": [{"count": 2}]}], "failed: 2 of 102 requests failed"),
        ([AIPERF | {"was_cancelled": True}], "was_cancelled: true; let the benchmark run"),
        ([AIPERF | {"input_config": {"model_names": ["a", "b"]}}], "a, b are 2 models; measure"),
        ([AIPERF | {"request_latency": {"unit": "min", "avg": 1}}], "its unit 'min' is not one of"),
        ([{**VLLM, "mean_ttft_ms": -3.0}], "ttft mean: -3 is no time"),
        ([{**VLLM, "max_concurrency": 0}], "concurrency: 0 is no load; correct the file"),
        ([{**VLLM, "mean_tpot_ms": "NaN"}], "tpot mean: 'NaN' is no finite number"),
        ([{**VLLM, "max_concurrency": "many"}], "max_concurrency: 'many' is no finite number"),
        ([{"hello": 1}], "no reader knows this benchmark; known are `vllm bench serve"),
        (["3"], "no reader knows this benchmark"),
        (["[]"], "it holds no runs"),
        ([""], "it holds no runs"),
        (["{]"], "it is neither JSON nor JSON lines"),
    ],
)
def test_runs_that_cannot_be_used_are_refused_in_one_line(runs, message, tmp_path):
    with pytest.raises(InputError) as caught:
        read_benchmarks([write(tmp_path, "bench.json", *runs)])
    assert message in str(caught.value)
    assert str(caught.value).startswith("bench.json: ")
    assert "\n" not in str(caught.value)


SILICON = (
    "id,silicon_data_source,backend,model_path,system,precision,mode,isl,osl,gemm_quant_mode,"
    "tp_size,pp_size,attention_dp_size,moe_tp_size,moe_ep_size,silicon_ttft_ms,silicon_tpot_ms\n"
)


@pytest.mark.parametrize(
    ("name", "columns", "expected"),
    [
        ("a_c16_tp8_ep8_1", "64,1,1,8,8", {"tp": 8, "ep": 8}),
        ("a_c16_tp8_0_ep8_0_2", "1,1,64,8,8", {"tp": 1, "attention-dp": 8, "ep": 8}),
        ("a_c16_tp4_epnone_3", "4,1,,2,2", {"tp": 4, "ep": 2}),
        ("a_c16_tp2_epnone_4", "2,1,0,0,0", {"tp": 2, "ep": 1}),
        ("a_c16_cfg5", "64,1,1,8,8", {"tp": 8, "ep": 8}),
        ("a_c16_cfg6", "1,1,16,4,4", {"tp": 1, "attention-dp": 4, "ep": 4}),
        ("a_c16_cfg7", "8,1,1,8,1", {"tp": 8, "ep": 1}),
        ("a_c16_cfg8", "1,1,8,1,8", {"tp": 1, "attention-dp": 8, "ep": 8}),
    ],
)
def test_ranks_of_the_silicon_table_are_those_of_the_gpus_there_were(
    name, columns, expected, tmp_path
):
    row = f"{name},,trtllm,m,b200_sxm,fp8,agg,1024,128,fp8,{columns},493,10.5\n"
    (found,) = read_benchmarks(write(tmp_path, "silicon.csv", SILICON + row))
    assert found.ranks == {"pp": 1, **expected}


@pytest.mark.parametrize("gpus", [36, 28, 6])
def test_gpus_that_no_engine_of_the_silicon_table_shares_are_said(gpus, tmp_path):
    row = (
        f"a_c16_tp{gpus}_ep1,,trtllm,m,gb200,fp4,agg,1024,128,nvfp4,{gpus},1,1,{gpus},1,493,10.5\n"
    )
    (found,) = read_benchmarks(write(tmp_path, "silicon.csv", SILICON + row))
    assert found.unmodelled == f"{gpus} tensor ranks, which are no single engine's"


def test_the_silicon_table(tmp_path):
    rows = (
        "a_c16_tp4_ep1_1,f.csv; silicon_concurrency=32; wip=False,vllm,m,h100_sxm,,agg,1024,128,"
        "fp8,4,1,1,4,1,493,10.5\n"
        "a_c16_tp4_ep1_2,,vllm,m,h100_sxm,fp4,disagg,1024,128,nvfp4,,,,,,1,1\n"
    )
    first, second = read_benchmarks(write(tmp_path, "silicon.csv", SILICON + rows))
    assert (first.model, first.system, first.engine) == ("m", "h100_sxm", "vllm")
    assert (first.precision, second.precision) == ("fp8", "fp4")
    assert (first.input_tokens, first.output_tokens) == (1024, 128)
    assert (first.concurrency, second.concurrency) == (32, 16)
    assert said(first.ttft) == (0.493, {})
    assert said(first.tpot) == (0.0105, {})
    assert (first.unmodelled, second.unmodelled) == ("", "prefill and decode on pools of their own")


@pytest.mark.parametrize(
    ("start", "rest", "expected"),
    [
        ("a_c8_x,db-dump/2026-04-27; config_id=1,sglang,m,b200_sxm,fp8", "1024,128", (0.8, 4.5)),
        ("a_c16_x,source_file=2026-03-25.csv; x,sglang,m,b200_sxm,fp8", "1024,128", (0.8, 14.5)),
        ("a_c16_x,source_file=2026-03-25.csv; x,sglang,m,h200_sxm,fp8", "1024,128", (0.8, None)),
        (
            "a_c4,source_file=2026-04-06.csv,trtllm,Llama-3.1-70B,b200_sxm,fp4",
            "1024,1024",
            (0.8, 20),
        ),
        (
            "a_c4,source_file=2026-04-06.csv,trtllm,Llama-3.1-70B,b200_sxm,fp4",
            "1024,8192",
            (0.8, None),
        ),
        ("a_c64_x,db-dump/1,trtllm,deepseek-ai/DeepSeek-V3,b200_sxm,fp8", "1024,1024", (0.8, 40)),
        ("a_c32_x,db-dump/1,trtllm,deepseek-ai/DeepSeek-V3,b200_sxm,fp8", "1024,1024", (0.8, None)),
        ("a_c16_x,source_file=h100_sxm/sglang/1/m.csv,sglang,m,h100_sxm,", "1024,128", (1.0, None)),
        ("a_c16_x,,sglang,m,h100_sxm,", "1024,128", (None, None)),
    ],
)
def test_what_is_known_of_the_servers_of_the_silicon_table(start, rest, expected, tmp_path):
    row = f"{start},agg,{rest},fp8,4,1,1,4,1,493,10.5\n"
    (found,) = read_benchmarks(write(tmp_path, "silicon.csv", SILICON + row))
    assert (found.range_ratio, found.request_iterations) == expected
    assert found.input_tokens == 1024
    share = 1 if found.range_ratio is None else (1 + found.range_ratio) / 2
    assert found.mean_of(found.input_tokens) == pytest.approx(share * 1024)


def test_files_that_are_none(tmp_path):
    with pytest.raises(InputError, match="FILE: .*none.json cannot be read"):
        read_benchmarks(tmp_path / "none.json")
    with pytest.raises(InputError, match="its columns are those of no benchmark"):
        read_benchmarks(write(tmp_path, "mine.csv", "a,b\n1,2\n"))


def test_without_times_or_throughput_the_requests_in_flight_are_not_known():
    assert Benchmark("here", "a tool").batch is None
    assert Benchmark("here", "a tool", rate=2.0, in_flight=0.2).batch == 1
