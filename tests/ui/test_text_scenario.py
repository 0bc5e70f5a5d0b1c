"""What people are told of a scenario, word by word."""

import pytest

import diffgenz as dgz
from diffgenz.ui.text.scenario import (
    kernels_line,
    precision_json,
    ranks_json,
    ranks_line,
    serving_json,
    serving_lines,
    title,
)


@pytest.fixture(scope="module")
def platform():
    return dgz.load_platform("h100_sxm", 8, fit="none")


def test_the_title_of_a_dense_model(llama_8b, platform):
    chat = dgz.Workload(4, 600, 60)
    case = dgz.Scenario(llama_8b, platform, chat, dgz.Parallelism(tensor=2, pipeline=2))
    assert title(case, "; a note", {"gemm bf16": "roofline"}).splitlines() == [
        "meta-llama/Llama-3.1-8B (8.03e9 parameters) on 4 x NVIDIA H100 SXM 80GB (4 more unused)",
        "tp 2, pp 2, dp 1; 600 tokens in, 60 out",
        "serving: chunks of 8,192 tokens; 90 % of memory usable",
        "weights bf16, activations bf16, KV cache bf16, else bf16; a note",
        "uncalibrated: smooth roofline with launch latency, peaks fully reached",
    ]


def test_the_title_of_experts_images_and_options(platform):
    model = dgz.load_model("Qwen/Qwen3-VL-30B-A3B-Instruct")
    chat = dgz.Workload(4, 600, 60, images=2)
    case = dgz.Scenario(model, platform, chat, serving=dgz.Serving(chunk=256))
    lines = title(case, "", {"gemm bf16": "vllm-1"}).splitlines()
    assert lines[0].startswith("Qwen/Qwen3-VL-30B-A3B-Instruct (3")
    assert lines[0].endswith(" active) on 8 x NVIDIA H100 SXM 80GB")
    assert lines[1] == (
        "tp 8, pp 1, dp 1, ep 1, attention dp 1; 600 tokens and 2 x 1024 of images in, 60 out"
    )
    assert lines[2] == "serving: chunks of 256 tokens; 90 % of memory usable"


@pytest.mark.parametrize(
    ("found", "line"),
    [
        ({}, "uncalibrated: smooth roofline with launch latency, peaks fully reached"),
        ({"gemm bf16": "vllm-1"}, "kernels as measured, of vllm-1"),
        (
            {"a bf16": "trt-1", "b bf16": "vllm-1", "c bf16": "vllm-1"},
            "kernels as measured, of vllm-1 (a bf16 of trt-1)",
        ),
        (
            {"a bf16": "transferred", "b bf16": "roofline", "c bf16": "roofline"},
            "kernels transferred from other GPUs (b bf16, c bf16 by the roofline)",
        ),
        ({"a bf16": "by hand"}, "kernels as measured, of by hand"),
    ],
)
def test_what_times_the_kernels(found, line):
    assert kernels_line(found) == line


def test_ranks(llama_8b):
    plan = dgz.Parallelism(tensor=2, context=4, sequence=1)
    assert ranks_line(llama_8b, plan) == "tp 2, cp 4, pp 1, dp 1, sequence parallel"
    assert ranks_json(plan) == {
        "tensor": 2,
        "pipeline": 1,
        "data": 1,
        "expert": 1,
        "attention_data": 1,
        "context": 4,
        "sequence": True,
    }
    plain = ranks_json(dgz.Parallelism())
    assert (plain["context"], plain["sequence"]) == (1, False)


def test_formats():
    precision = dgz.Precision("bf16", "fp8", "fp8", "gear-fp8:0:0.5", "int8")
    assert precision_json(precision) == {
        "dtype": "bf16",
        "weights": "fp8",
        "activations": "fp8",
        "kv_cache": "gear-fp8:0:0.5",
        "messages": "int8",
        "modules": {},
    }


def test_no_serving_option():
    whole = dgz.Serving(chunk=None, memory_utilization=1)
    assert serving_lines(whole) == ["serving: whole prompts; 100 % of memory usable"]
    off = {"prefix_hit": 0.0, "memory_utilization": 1.0}
    keys = ("chunk", "drafts", "acceptance", "tokens_per_verification", "draft_system")
    keys += ("draft_model", "beams", "offload")
    assert serving_json(whole) == dict.fromkeys(keys) | off


def test_all_serving_options(llama_8b):
    speculation = dgz.Speculation(3, 0.5)
    serving = dgz.Serving(256, 0.5, speculation, 2, "kv_cache")
    assert serving_lines(serving) == [
        "serving: chunks of 256 tokens; 90 % of memory usable; 50 % of prompts cached; 3 drafts, "
        "acceptance 0.5: 1.88 tokens per verification; 2 beams; KV cache in slower memory where "
        "the main one is full"
    ]
    assert serving_json(serving) == {
        "chunk": 256,
        "memory_utilization": 0.9,
        "prefix_hit": 0.5,
        "drafts": 3,
        "acceptance": 0.5,
        "tokens_per_verification": 1.875,
        "draft_system": None,
        "draft_model": None,
        "beams": 2,
        "offload": "kv_cache",
    }


def test_drafts_by_a_model_or_a_module(llama_8b):
    def line(draft):
        (found,) = serving_lines(dgz.Serving(speculation=dgz.Speculation(1, 0, draft)))
        return found.replace("chunks of 8,192 tokens; 90 % of memory usable; ", "")

    said = "acceptance 0: 1 tokens per verification"
    assert line(dgz.MTP()) == f"serving: 1 drafts by its own MTP module, {said}"
    assert line(dgz.Draft(llama_8b)) == f"serving: 1 drafts by meta-llama/Llama-3.1-8B, {said}"
    apart = dgz.Draft(llama_8b, platform=dgz.load_platform("l40s", fit="none"))
    assert f"by meta-llama/Llama-3.1-8B on {apart.platform.accelerator.name}, " in line(apart)
