"""Commands of random deployments keep to the engines' documented rules, restated here on their own.

The rules are checked on the text of the command and on the fields of config.json, and on nothing
that the package makes of either.
"""

import json
import math
import random
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import diffgenz as dgz
from diffgenz.inference.memory import Memory
from diffgenz.studies.launch import served
from diffgenz.studies.launch.launch_command import launch_command
from diffgenz.studies.search.acceptance import accepted_by_engines
from diffgenz.studies.search.deployment import RANKS
from diffgenz.studies.search.formats import formats_of
from diffgenz.studies.search.plans import plans

CONFIGS = Path(dgz.__file__).parent / "models" / "configs"

MODELS = (
    "Qwen/Qwen2.5-0.5B",  # 14 heads, 2 KV heads
    "Qwen/Qwen2.5-7B",  # 28 heads, 4 KV heads
    "microsoft/Phi-3-medium-4k-instruct",  # 10 KV heads
    "01-ai/Yi-34B",  # 56 heads
    "EleutherAI/gpt-neo-2.7B",  # 20 heads, no gate
    "meta-llama/Llama-3.1-8B",
    "Qwen/Qwen3-32B",
    "Qwen/Qwen3-30B-A3B",  # experts of 768 features
    "Qwen/Qwen3-235B-A22B",  # of 1536
    "MiniMaxAI/MiniMax-M2",  # of 1536, in fp8 blocks
    "mistralai/Mixtral-8x7B-v0.1",
    "deepseek-ai/DeepSeek-V3",
    "deepseek-ai/DeepSeek-V2-Lite",
    "openai/gpt-oss-20b",
    "openai/gpt-oss-120b",
    "nvidia/Nemotron-H-8B-Base-8K",
    "ibm-granite/granite-4.0-h-tiny",
    "ai21labs/AI21-Jamba-1.5-Mini",
)
COUNTS = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32)
HOSTS = (("h200_sxm", 8), ("b200_sxm", 8), ("a100_sxm", 8), ("gb200", 4))
"""Systems, and accelerators of a host of each."""


def number(config, *keys, default=0):
    return next((config[key] for key in keys if config.get(key) is not None), default)


def flags_of(text):
    """The flags of each command in a text: a dictionary, with True for switches."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    found = []
    for command in re.split(r"\n(?=vllm|python)", lines.replace(" \\\n", " ")):
        words = command.split("--")[1:]
        if command.startswith("python"):
            words = command.split(" --")[2:]  # after -m and --model-path MODEL
        pairs = (word.strip().partition(" ") for word in words)
        found.append({name: value or True for name, _, value in pairs})
    return found


def model_in(text):
    return re.search(r"(?:vllm serve|--model-path) (\S+)", text)[1]


def blocks_of(config, served, model):
    """Weights that share a scale in fp8 blocks: 128, or None where they are in other formats."""
    if served != model:
        return 128 if served.startswith("Qwen/") and served.endswith("-FP8") else None
    quantisation = config.get("quantization_config") or {}
    return (quantisation.get("weight_block_size") or [None])[0]


def check_widths(config, attention, dense, shared, expert, block):
    """What ranks share, by how many share it.

    Arguments:
        attention: ranks that share heads.
        dense: those that share dense layers.
        shared: those that share the experts that all tokens go to.
        expert: those that share each routed expert.
        block: weights that share a scale, or None.
    """
    heads = number(config, "num_attention_heads", "num_heads", "n_head")
    assert heads % attention == 0
    latent = config.get("kv_lora_rank") is not None
    if not latent:
        kv_heads = number(config, "num_key_value_heads", default=heads)
        assert kv_heads % attention == 0 or attention % kv_heads == 0
    head_dim = number(config, "head_dim", "v_head_dim", "attention_head_dim")
    head_dim = head_dim or config["hidden_size"] // heads
    if block and attention > 1:
        assert heads * head_dim // attention % block == 0
    experts = number(config, "num_local_experts", "num_experts", "n_routed_experts")
    width = number(config, "intermediate_size", default=4 * config["hidden_size"])
    if not experts or config.get("first_k_dense_replace"):
        assert width % dense == 0
        assert not block or dense == 1 or width // dense % block == 0
    if experts:
        own = number(config, "moe_intermediate_size", "intermediate_size")
        assert own % expert == 0
        assert not block or own // expert % block == 0
        common = number(config, "shared_intermediate_size")
        common = common or own * number(config, "n_shared_experts")
        assert common % shared == 0
        assert not block or shared == 1 or common // shared % block == 0
    assert math.ceil(config["vocab_size"] / 64) * 64 % attention == 0
    if config.get("mamba_n_heads") or config.get("mamba_num_heads"):
        assert number(config, "mamba_n_heads", "mamba_num_heads") % attention == 0
        groups = number(config, "mamba_n_groups", "n_groups", default=1)
        assert groups % attention == 0 or groups == 1
    if config["model_type"] == "jamba":
        assert config["mamba_expand"] * config["hidden_size"] % attention == 0


def check_common(config, text, flags, length, case, model):
    reach = config.get("max_position_embeddings")
    workload = case.workload
    assert int(flags[length]) == int(workload.input_tokens + workload.output_tokens)
    assert reach is None or int(flags[length]) <= reach
    served, quantised = model_in(text), "quantization_config" in config
    if "quantization" in flags:
        assert flags["quantization"] == "fp8"
        assert served == model
        assert not quantised
    narrow = case.precision.weights not in ("bf16", "fp16")
    if narrow and not quantised and served == model:
        assert flags.get("quantization") == "fp8"


def check_vllm(config, text, case, model, host):
    commands = flags_of(text)
    flags = commands[0]
    common = {"headless", "node-rank", "data-parallel-start-rank"}
    for other in commands[1:]:
        assert {k: v for k, v in other.items() if k not in common} == {
            k: v for k, v in flags.items() if k not in common
        }
        assert other["headless"] is True
    check_common(config, text, flags, "max-model-len", case, model)
    tensor = int(flags["tensor-parallel-size"])
    stages = int(flags.get("pipeline-parallel-size", 1))
    data = int(flags.get("data-parallel-size", 1))
    context = int(flags.get("prefill-context-parallel-size", 1))
    if context > 1:
        assert config.get("kv_lora_rank")
        assert (data, stages) == (1, 1)
        assert int(flags["decode-context-parallel-size"]) in (context, tensor * context)
    whole = "enable-expert-parallel" in flags
    experts = 1 if whole else tensor * data * context
    if whole:
        total = number(config, "num_local_experts", "num_experts", "n_routed_experts")
        assert total % (tensor * data * context) == 0
    block = blocks_of(config, model_in(text), model)
    check_widths(config, tensor, tensor, tensor, experts, block)
    world = tensor * stages * context
    nodes = 1
    if "nnodes" in flags:
        nodes = int(flags["nnodes"])
        assert world * data % nodes == 0
        assert world * data // nodes <= host
        assert "master-addr" in flags
    elif "data-parallel-size-local" in flags:
        local = int(flags["data-parallel-size-local"])
        assert local * world <= host
        assert data % local == 0
        nodes = data // local
        assert "data-parallel-address" in flags
    else:
        assert world * data <= host
    assert (len(commands) > 1) == (nodes > 1)
    assert 0.9 <= float(flags["gpu-memory-utilization"]) <= 0.98
    assert int(flags["max-num-batched-tokens"]) >= int(flags["max-num-seqs"])
    copies = re.search(r"# run (\d+) of these", text)
    assert world * data * int(copies[1] if copies else 1) == int(case.platform.accelerators)


def check_sglang(config, text, case, model, host):
    commands = flags_of(text)
    flags = commands[0]
    for other in commands[1:]:
        assert {**other, "node-rank": "0"} == flags
    check_common(config, text, flags, "context-length", case, model)
    tensor, stages = int(flags["tp-size"]), int(flags.get("pp-size", 1))
    groups, expert = int(flags.get("dp-size", 1)), int(flags.get("ep-size", 1))
    assert tensor % groups == 0
    assert tensor % expert == 0
    assert (groups > 1) == ("enable-dp-attention" in flags)
    total = number(config, "num_local_experts", "num_experts", "n_routed_experts")
    assert total % expert == 0
    dense = 1 if flags.get("moe-dense-tp-size") == "1" else tensor
    block = blocks_of(config, model_in(text), model)
    check_widths(config, tensor // groups, dense, tensor, tensor // expert, block)
    nodes = int(flags.get("nnodes", 1))
    assert tensor * stages % nodes == 0
    assert stages % nodes == 0 or (nodes % stages == 0 and tensor % (nodes // stages) == 0)
    assert tensor * stages // nodes <= host
    assert (len(commands) > 1) == (nodes > 1) == ("dist-init-addr" in flags)
    assert not (stages > 1 and "enable-mixed-chunk" in flags)
    assert 0 < float(flags["mem-fraction-static"]) <= 0.98


CHECKS = {"vllm": check_vllm, "sglang": check_sglang}


def proposals(name, system, count):
    """The question that some accelerators put, and the plans and formats that a search tries."""
    platform, model = dgz.load_platform(system, count, fit="none"), loaded(name)
    case = dgz.Scenario(model, platform, plan=dgz.Parallelism(1))
    every, precisions = plans(model, platform), formats(name, system)
    accepted = np.argwhere(accepted_by_engines(case, every, precisions))
    ranks = {
        name: [1] * len(every.tensor) if leaf is None else np.asarray(leaf, int).tolist()
        for name, leaf in ((name, getattr(every, name)) for name in RANKS)
    }
    rows = [
        (dgz.Parallelism(**{name: ranks[name][plan] for name in RANKS}), precisions[precision])
        for plan, precision in accepted.tolist()
    ]
    return case, rows


loaded = cache(dgz.load_model)


@cache
def formats(name, system):
    return formats_of(loaded(name), dgz.load_platform(system, fit="none").accelerator)[0]


def drawn(draw, case, rows):
    """A deployment that a search could propose, with a workload and chunks of its own."""
    tokens = min(draw.choice((600, 4000, 30000)), (case.model.context or 2**20) - 100)
    plan, precision = draw.choice(rows)
    return case.replace(
        plan=plan,
        precision=precision,
        workload=dgz.Workload(float(draw.choice((1, 7, 64, 500))), tokens, 100),
        serving=dgz.Serving(chunk=draw.choice((None, 512, 2048))),
    )


def roomy(case):
    """Memory that fits any server: weights, cache, activations, and these with a reserve."""
    capacity = float(case.serving.memory_utilization * case.platform.accelerator.memory_capacity)
    return Memory(*(np.float32(share * capacity) for share in (0.4, 0.3, 0.1, 0.85, 1.0)))


@pytest.mark.parametrize("seed", range(2))
def test_random_deployments_are_exported_as_engines_accept_them(seed, monkeypatch):
    """9 of each model: each is exported for at least one engine, and keeps to its rules.

    All have memory enough: its estimate would take most of the time.
    """
    monkeypatch.setattr(served, "memory_of_scenario", roomy)
    draw, written = random.Random(seed), 0
    for name in MODELS:
        config = json.loads((CONFIGS / f"{name}.json").read_text())
        system, host, count = *draw.choice(HOSTS), draw.choice(COUNTS)
        asked, rows = proposals(name, system, count)
        for _ in range(9):
            case = drawn(draw, asked, rows)
            said = []
            for engine, check in CHECKS.items():
                try:
                    text = launch_command(engine, case)
                except dgz.InputError as error:
                    said.append(str(error))
                    continue
                check(config, text, case, name, host)
                written += 1
            assert len(said) < 2, said
    assert written >= 9 * len(MODELS)
