"""Launch commands of deployments, for the engines that are known."""

import dataclasses

import pytest

import diffgenz as dgz
from diffgenz.studies.launch.launch_command import ENGINES, launch_command

MIXTRAL = "mistralai/Mixtral-8x7B-v0.1"
DENSE = {
    "tensor": 4,
    "context": 1,
    "attention_data": 1,
    "pipeline": 2,
    "data": 2,
    "expert": 1,
    "batch": 64,
    "weights": "bf16",
    "kv_cache": "bf16",
    "chunk": None,
}
EXPERTS = DENSE | {
    "tensor": 2,
    "attention_data": 4,
    "pipeline": 1,
    "expert": 8,
    "weights": "fp8",
    "kv_cache": "fp8",
}


def flags(engine, row, tokens=700):
    return launch_command(engine, MIXTRAL, row, tokens)


def test_a_dense_plan():
    assert flags("vllm", DENSE) == (
        f"vllm serve {MIXTRAL} \\\n    --tensor-parallel-size 4 \\\n"
        "    --pipeline-parallel-size 2 \\\n    --data-parallel-size 2 \\\n"
        "    --max-num-seqs 32 \\\n    --max-model-len 700"
    )
    assert flags("sglang", DENSE) == (
        "# run 2 of these behind a load balancer\n"
        f"python -m sglang.launch_server --model-path {MIXTRAL} \\\n    --tp-size 4 \\\n"
        "    --pp-size 2 \\\n    --max-running-requests 32 \\\n    --context-length 700"
    )


def test_an_expert_plan():
    vllm, sglang = (flags(engine, EXPERTS) for engine in ENGINES)
    for flag in (
        "--tensor-parallel-size 2",
        "--data-parallel-size 4",
        "--enable-expert-parallel",
        "--max-num-seqs 8",
        "--quantization fp8",
        "--kv-cache-dtype fp8",
        "run 2",
    ):
        assert flag in vllm
    for flag in (
        "--tp-size 8",
        "--ep-size 8",
        "--dp-size 4 --enable-dp-attention",
        "--max-running-requests 32",
        "--kv-cache-dtype fp8_e4m3",
        "run 2",
    ):
        assert flag in sglang


def test_context_ranks():
    row = EXPERTS | {"context": 2, "attention_data": 2}
    vllm = flags("vllm", row)
    for flag in (
        "--tensor-parallel-size 2",
        "--prefill-context-parallel-size 2",
        "--decode-context-parallel-size 2",
        "--data-parallel-size 2",
    ):
        assert flag in vllm
    with pytest.raises(dgz.InputError, match="context: SGLang's further ranks share prompts"):
        flags("sglang", row)


def test_chunks():
    row = EXPERTS | {"chunk": 1024, "expert": 1, "attention_data": 1, "data": 1, "batch": 100}
    assert "--max-num-batched-tokens 1124 " in flags("vllm", row)
    wide = row | {"chunk": 100, "batch": 4500, "pipeline": 4}
    assert "--max-num-batched-tokens 4500 " in flags("vllm", wide)
    assert "--chunked-prefill-size 1024 --enable-mixed-chunk" in flags("sglang", row)
    assert "--max-prefill-tokens" not in flags("sglang", row)
    groups = row | {"chunk": 20000, "attention_data": 2}
    assert "--chunked-prefill-size 40000 " in flags("sglang", groups)
    assert "--max-prefill-tokens 20000" in flags("sglang", groups)
    assert "batched" not in flags("vllm", row | {"chunk": None})


def test_what_an_engine_cannot_run_is_refused():
    with pytest.raises(dgz.InputError, match="over all 8 ranks of a stage or over none, not 4"):
        flags("vllm", EXPERTS | {"expert": 4})
    with pytest.raises(dgz.InputError, match="kv_cache: vllm keeps no KV cache in gear-int4"):
        flags("vllm", DENSE | {"kv_cache": "gear-int4"})
    with pytest.raises(dgz.InputError, match="engine: 'tgi' is not known"):
        flags("tgi", DENSE)


def test_a_quantised_checkpoint_is_asked_for():
    comment = flags("vllm", DENSE | {"weights": "int4"}).splitlines()[0]
    assert comment.startswith(f"# {MIXTRAL} must be a checkpoint quantized to int4")


def test_a_deployment_is_its_row(llama_8b):
    case = dgz.Scenario(llama_8b, dgz.load_platform("h100_sxm", 8))
    plan = {name: DENSE[name] for name in dataclasses.asdict(case.plan) if name in DENSE}
    metrics = dict.fromkeys(dgz.METRICS)
    deployment = dgz.Deployment(plan, 64, dgz.Precision(), None, metrics, case)
    assert flags("vllm", deployment) == flags("vllm", DENSE)
