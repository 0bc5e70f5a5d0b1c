"""What benchmarks call models, accelerators and formats, as machines and tools spell them."""

import pytest

from diffgenz import InputError, list_systems
from diffgenz.calibrating.formats_named import formats_named
from diffgenz.calibrating.named import model_named, of_one_model, system_named
from diffgenz.calibrating.readers.serving.benchmark import Benchmark


@pytest.mark.parametrize(
    ("said", "system"),
    [
        ("NVIDIA H100 80GB HBM3", "h100_sxm"),  # of nvidia-smi
        ("NVIDIA A100-SXM4-80GB", "a100_sxm"),
        ("NVIDIA A100-SXM4-40GB", "a100_sxm_40gb"),
        ("NVIDIA A100 80GB PCIe", "a100_pcie"),
        ("NVIDIA GeForce RTX 4090", "rtx_4090"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx_6000_ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx_pro_6000"),
        ("AMD Instinct MI300X", "mi300x"),
        ("NVIDIA L40S", "l40s"),
        ("h200-trt", "h200_sxm"),  # of InferenceX
        ("mi355x-amd", "mi355x"),
        ("gb200-nv", "gb200"),
        ("H100_SXM5", "h100_sxm"),
    ],
)
def test_accelerators(said, system):
    assert system_named(Benchmark("row", "tool", system=said)) == system


@pytest.mark.parametrize(
    "said", ["", "NVIDIA H100 NVL", "A100-PCIE-40GB", "H100 40GB", "NVIDIA", "80GB", "RTX 4090 Ti"]
)
def test_accelerators_that_are_not_known(said):
    with pytest.raises(InputError, match="row: system: .*; give --system"):
        system_named(Benchmark("row", "tool", system=said))


def test_every_system_is_named_by_its_id():
    for system in list_systems():
        assert system_named(Benchmark("row", "tool", system=system.upper())) == system
        assert system_named(Benchmark("row", "tool", system=system.replace("_", " "))) == system


@pytest.mark.parametrize(
    ("said", "model"),
    [
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("/data/models/Qwen3-8B/", "Qwen3-8B"),
        ("C:\\models\\Qwen3-8B", "Qwen3-8B"),
        ("/root/.cache/huggingface/hub/models--Qwen--Qwen3-8B/snapshots/b968826d", "Qwen/Qwen3-8B"),
        ("/mnt/Qwen/Qwen3-8B-AWQ", "Qwen/Qwen3-8B-AWQ"),
        ("gpt-oss 120B", "gpt-oss-120B"),
    ],
)
def test_models(said, model):
    assert model_named(Benchmark("row", "tool", model=said)) == model


@pytest.mark.parametrize("said", ["", "/data/models/my-finetune", "acme/Frobnicator-9B"])
def test_models_that_are_not_known(said):
    with pytest.raises(InputError, match="row: model: .* give .*--model"):
        model_named(Benchmark("row", "tool", model=said))


def test_one_of_several_models_is_named_by_its_sizes_too():
    runs = [
        Benchmark("a", "tool", model=each) for each in ("LLaMA-2-7B", "Qwen3-8B", "Qwen3-8B-AWQ")
    ]
    assert of_one_model(runs, "meta-llama/Llama-2-7b-hf") == runs[:1]
    assert of_one_model(runs, "Qwen/Qwen3-8B") == runs[1:2]  # and not the other checkpoint
    for named in (None, "Qwen/Qwen3-4B"):
        with pytest.raises(InputError, match="are 3 models; name one of them"):
            of_one_model(runs, named)


FP8, BLOCK, FP4 = ({"weights": x, "activations": x} for x in ("fp8", "fp8_block", "nvfp4"))
OWN = {"weights": "checkpoint"}


@pytest.mark.parametrize(
    ("model", "precision", "words"),
    [
        ("Qwen/Qwen3-8B", "", {}),
        ("Qwen/Qwen3-8B", "fp8", FP8),
        ("Qwen/Qwen3-8B", "fp8_block", BLOCK),
        ("RedHatAI/Qwen3-8B-FP8-dynamic", "", FP8),
        ("RedHatAI/Qwen3-8B-FP8-dynamic", "compressed-tensors", FP8),
        ("Qwen/Qwen3-8B-FP8", "", BLOCK),  # as its publisher is known to store it
        ("Qwen/Qwen3-8B-AWQ", "", {"weights": "int4"}),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16", "", {"weights": "int4"}),
        ("nvidia/Llama-3.3-70B-Instruct-FP8", "bf16", {}),  # what the file says counts
        ("deepseek-ai/DeepSeek-R1", "fp8", OWN),
        ("deepseek-ai/DeepSeek-R1-0528", "fp8", OWN | {"model": "deepseek-ai/DeepSeek-R1"}),
        ("unsloth/gpt-oss-120b", "", OWN | {"model": "openai/gpt-oss-120b"}),
        ("nvidia/DeepSeek-R1-0528-FP4-V2", "fp4", FP4),
    ],
)
def test_formats(model, precision, words):
    assert formats_named(model, "b200_sxm", precision) == words


@pytest.mark.parametrize("precision", ["fp7", "compressed-tensors"])
def test_formats_that_nothing_says(precision):
    with pytest.raises(InputError, match=f"precision: '{precision}' .*give --weights"):
        formats_named("Qwen/Qwen3-8B", "h100_sxm", precision)
