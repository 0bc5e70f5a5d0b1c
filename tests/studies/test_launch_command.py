"""Launch commands of scenarios, for the engines that are known."""

import pytest

import diffgenz as dgz
from diffgenz.studies.launch.launch_command import ENGINES, launch_command
from diffgenz.studies.launch.nodes import Spread, node_size, spread_of
from diffgenz.ui.cli.export import _ENGINES

MIXTRAL = "mistralai/Mixtral-8x7B-v0.1"
LLAMA = "meta-llama/Llama-3.1-70B"
FP8 = dgz.Precision("bf16", "fp8", "fp8", "fp8")


def case(model=LLAMA, gpus=16, batch=64, isl=600, osl=100, precision=None, serving=None, **plan):
    return dgz.Scenario(
        dgz.load_model(model),
        dgz.load_platform("h200_sxm", gpus, fit="none"),
        dgz.Workload(batch, isl, osl),
        dgz.Parallelism(**plan),
        precision,
        serving,
    )


def flags(engine, scenario):
    return launch_command(engine, scenario)


def test_a_dense_plan():
    scenario = case(tensor=4, pipeline=2, data=1, gpus=8)
    assert flags("vllm", scenario) == (
        f"vllm serve {LLAMA} \\\n    --tensor-parallel-size 4 \\\n"
        "    --pipeline-parallel-size 2 \\\n    --max-model-len 700 \\\n"
        "    --max-num-seqs 64 \\\n    --max-num-batched-tokens 8224 \\\n"
        "    --gpu-memory-utilization 0.90"
    )
    assert flags("sglang", scenario).startswith(
        f"python -m sglang.launch_server --model-path {LLAMA} \\\n    --tp-size 4 \\\n"
        "    --pp-size 2 \\\n    --context-length 700 \\\n    --max-running-requests 64 \\\n"
        "    --chunked-prefill-size 8192 \\\n    --mem-fraction-static 0."
    )


def test_an_expert_plan_on_two_nodes():
    """A server for each of two replicas, which have a node each."""
    scenario = case(MIXTRAL, precision=FP8, tensor=2, attention_data=4, data=2, expert=8)
    vllm, sglang = (flags(engine, scenario) for engine in ENGINES)
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
        "--dp-size 4",
        "--enable-dp-attention",
        "--max-running-requests 32",
        "--kv-cache-dtype fp8_e4m3",
        "run 2",
    ):
        assert flag in sglang
    assert "node" not in vllm + sglang


def test_ranks_of_one_group_on_two_nodes():
    scenario = case(tensor=8, pipeline=2)
    first, second = flags("vllm", scenario).split("# on node 1\n")
    for part in (first, second):
        assert "--nnodes 2" in part
        assert "--master-addr $HEAD_ADDRESS" in part
    assert "--node-rank 0" in first
    assert "--headless" not in first
    assert "--node-rank 1" in second
    assert "--headless" in second
    first, second = flags("sglang", scenario).split("# on node 1\n")
    for part in (first, second):
        assert "--nnodes 2" in part
        assert "--dist-init-addr $HEAD_ADDRESS:20000" in part
    assert "--node-rank 0" in first
    assert "--node-rank 1" in second


def test_attention_groups_on_four_nodes():
    scenario = case(
        "deepseek-ai/DeepSeek-V3",
        gpus=32,
        precision=dgz.load_precision("deepseek-ai/DeepSeek-V3"),
        attention_data=32,
        expert=32,
    )
    first, others = flags("vllm", scenario).split("# on each of nodes 1 to 3, as NODE_RANK\n")
    for part in (first, others):
        assert "--data-parallel-size 32" in part
        assert "--data-parallel-size-local 8" in part
        assert "--data-parallel-address $HEAD_ADDRESS" in part
        assert "--quantization" not in part
    assert "start-rank" not in first
    assert "--headless" in others
    assert "--data-parallel-start-rank $((8 * $NODE_RANK))" in others


def test_replicas_larger_than_a_node_are_servers_of_their_own():
    scenario = case(gpus=32, tensor=8, pipeline=2, data=2)
    text = flags("vllm", scenario)
    assert text.startswith(
        "# run 2 of these, each on 2 nodes of its own, behind a load balancer\n# on"
    )
    assert "--data-parallel-size" not in text
    assert "--nnodes 2" in text


@pytest.mark.parametrize(
    ("groups", "size", "node", "spread"),
    [
        (1, 8, 8, Spread(1, 1, 1)),
        (4, 2, 8, Spread(4, 4, 1)),
        (16, 1, 8, Spread(16, 8, 1)),
        (6, 2, 8, Spread(6, 3, 1)),  # 3 and 3, not 4 and 2
        (2, 16, 8, Spread(2, 1, 2)),
        (1, 12, 8, Spread(1, 1, 2)),
        (1, 20, 8, Spread(1, 1, 4)),  # 3 nodes would not have as many ranks each
    ],
)
def test_groups_on_nodes(groups, size, node, spread):
    assert spread_of(groups, size, node) == spread
    assert spread.all_nodes == groups // spread.local * spread.nodes


@pytest.mark.parametrize(
    ("system", "size"), [("h200_sxm", 8), ("gb200", 4), ("gh200", 1), ("l40s", 8)]
)
def test_nodes_are_hosts(system, size):
    assert node_size(dgz.load_platform(system, 1, fit="none")) == size


def test_context_ranks():
    deepseek = "deepseek-ai/DeepSeek-V3"
    scenario = case(
        deepseek, precision=dgz.load_precision(deepseek), tensor=4, context=4, expert=16
    )
    text = flags("vllm", scenario)
    for flag in (
        "--tensor-parallel-size 4",
        "--prefill-context-parallel-size 4",
        "--decode-context-parallel-size 4",
    ):
        assert flag in text
    with pytest.raises(dgz.InputError, match="SGLang refuses cp 4: its context ranks share"):
        flags("sglang", scenario)


def test_chunks():
    scenario = case(MIXTRAL, 8, 100, tensor=8, serving=dgz.Serving(chunk=1024))
    assert "--max-num-batched-tokens 1124 " in flags("vllm", scenario)
    assert "--chunked-prefill-size 1024 \\\n    --enable-mixed-chunk" in flags("sglang", scenario)
    assert "--max-prefill-tokens" not in flags("sglang", scenario)
    wide = case(MIXTRAL, 8, 4500, tensor=2, pipeline=4, isl=60, osl=10)
    wide = wide.replace(serving=dgz.Serving(chunk=100))
    assert "--max-num-batched-tokens 4500 " in flags("vllm", wide)
    assert "--enable-mixed-chunk" not in flags("sglang", wide)  # not in a pipeline
    groups = case(MIXTRAL, 8, 10, isl=30000, tensor=4, attention_data=2, expert=8)
    groups = groups.replace(serving=dgz.Serving(chunk=20000))
    assert "--chunked-prefill-size 40000 " in flags("sglang", groups)
    assert "--max-prefill-tokens 20000" in flags("sglang", groups)


def test_what_an_engine_cannot_run_is_refused():
    with pytest.raises(dgz.InputError, match="vLLM refuses ep 4: it spreads experts over all 8"):
        flags("vllm", case(MIXTRAL, 8, tensor=8, expert=4))
    assert "--ep-size 4" in flags("sglang", case(MIXTRAL, 8, tensor=8, expert=4))
    gear = dgz.Precision(kv_cache="gear-int4")
    with pytest.raises(dgz.InputError, match="kv_cache: vLLM keeps no KV cache in gear-int4"):
        flags("vllm", case(precision=gear, tensor=8, gpus=8))
    with pytest.raises(dgz.InputError, match="engine: 'tgi' is not known"):
        flags("tgi", case(tensor=8, gpus=8))
    with pytest.raises(dgz.InputError, match=r"vLLM refuses tp 6: .*64 attention heads"):
        flags("vllm", case(tensor=6, gpus=8))
    with pytest.raises(dgz.InputError, match=r"SGLang refuses 131,073 tokens.*131,072 positions"):
        flags("sglang", case(tensor=8, gpus=8, isl=131072, osl=1))
    narrow = dgz.Precision("bf16", "mxfp4", "bf16")
    with pytest.raises(dgz.InputError, match="vLLM refuses weights mxfp4: no known checkpoint"):
        flags("vllm", case(tensor=8, gpus=8, precision=narrow))


def test_the_memory_of_the_scenario_is_what_the_engine_may_use():
    """What takes 93 % needs more than the usual 90 %, and what does not fit is refused."""
    llama = "meta-llama/Llama-3.1-8B"
    alone = case(llama, 1, 1, 1000, 1000, serving=dgz.Serving(chunk=512))
    total = float(dgz.estimate(alone).memory.total)
    capacity = float(alone.platform.accelerator.memory_capacity)
    per_request = float(dgz.estimate(alone).memory.kv_cache)

    def holding(share):
        more = int((share * capacity - total) / per_request)
        return alone.replace(workload=alone.workload.replace(batch=1 + more))

    fuller = holding(0.93)
    with pytest.raises(dgz.InputError, match=r"memory: .* GB exceed .* GB, 0.9 of NVIDIA"):
        flags("vllm", fuller)
    more = fuller.replace(serving=fuller.serving.replace(memory_utilization=0.94))
    assert "--gpu-memory-utilization 0.94" in flags("vllm", more)


def test_a_variant_is_served_where_the_checkpoint_is_in_another_format():
    int4 = dgz.Precision("bf16", "int4", "bf16")
    text = flags("vllm", case("Qwen/Qwen3-32B", 8, precision=int4, tensor=8))
    assert text.startswith("# Qwen/Qwen3-32B-AWQ has the sizes of Qwen/Qwen3-32B, in int4\n")
    assert "vllm serve Qwen/Qwen3-32B-AWQ " in text
    assert "--quantization" not in text


def test_what_has_options_of_the_engines_own_is_said():
    drafting = dgz.Serving(speculation=dgz.Speculation(3, 0.5))
    text = flags("vllm", case(gpus=8, tensor=8, serving=drafting))
    assert text.startswith("# modelled with 3 drafts, acceptance 0.5: set the engine's own options")


def test_a_model_of_a_folder_is_served_from_there(tmp_path):
    import json
    from pathlib import Path

    configs = Path(dgz.__file__).parent / "models" / "configs"
    folder = tmp_path / "my model"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps(json.loads((configs / "Qwen/Qwen3-0.6B.json").read_text()))
    )
    text = flags("vllm", case(folder / "config.json", 8, tensor=8))
    assert f"vllm serve '{folder}' " in text


def test_the_command_line_knows_the_engines():
    assert tuple(ENGINES) == _ENGINES
