"""A deployment as the launch command of a serving engine."""

from diffgenz.core.errors import InputError
from diffgenz.studies.search.deployment import Deployment

ENGINES = ("vllm", "sglang")
"""Serving engines that `launch_command` speaks."""


def launch_command(engine: str, model: str, deployment: Deployment, tokens: int) -> str:
    """The shell command that starts one replica group of `deployment`, comments first.

    Arguments:
        engine: one of `ENGINES`. model: its Hugging Face id. tokens: the longest request, input and output.

    Flags are those of vLLM's `vllm serve` and SGLang's `launch_server` as documented in November 2026
    (docs.vllm.ai, engine arguments; docs.sglang.io, server arguments, prefill and decode context parallelism). vLLM's prefill context ranks
    come on top of its tensor ranks; with as many decode context ranks, it is those that share the KV cache.

    Raises:
        InputError: an engine that is not known, or a plan that it cannot run.
    """
    if engine not in ENGINES:
        raise InputError(f"engine: {engine!r} is not known; known are {', '.join(ENGINES)}")
    d = deployment
    if d.kv_cache not in ("fp32", "bf16", "fp16", "fp8"):
        raise InputError(
            f"kv_cache: {engine} keeps no KV cache in {d.kv_cache}; choose a row with dtype or fp8"
        )
    sequences = -(-d.batch // (d.data * d.attention_data))
    comments, flags = _vllm(d, sequences) if engine == "vllm" else _sglang(d, sequences)
    length = f"--max-model-len {tokens}" if engine == "vllm" else f"--context-length {tokens}"
    command = (
        f"vllm serve {model}"
        if engine == "vllm"
        else f"python -m sglang.launch_server --model-path {model}"
    )
    if d.weights not in ("bf16", "fp16", "fp8", "fp8_block"):
        comments.append(
            f"# {model} must be a checkpoint quantized to {d.weights}; the engine reads its format from config.json"
        )
    elif d.weights == "fp8":
        flags.append("--quantization fp8")
    if d.kv_cache == "fp8":
        flags.append(f"--kv-cache-dtype {'fp8' if engine == 'vllm' else 'fp8_e4m3'}")
    return "\n".join([*comments, " \\\n    ".join([command, *flags, length])])


def _copies(count: int) -> list[str]:
    return [f"# run {count} of these behind a load balancer"] if count > 1 else []


def _vllm(d: Deployment, sequences: int) -> tuple[list[str], list[str]]:
    stage = d.tensor * d.context * d.attention_data
    if d.expert not in (1, stage):
        remedy = f"choose a row with ep 1 or {stage}"
        raise InputError(
            f"expert: vLLM spreads experts over all {stage} ranks of a stage or over none, not {d.expert}; {remedy}, or export sglang"
        )
    replicas = (
        d.data if d.attention_data == 1 and d.expert == 1 else 1
    )  # with experts, vLLM's data parallelism is that of attention
    flags = [f"--tensor-parallel-size {d.tensor}"]
    flags += [
        f"--prefill-context-parallel-size {d.context}",
        f"--decode-context-parallel-size {d.context}",
    ] * (d.context > 1)
    flags += [f"--pipeline-parallel-size {d.pipeline}"] * (d.pipeline > 1)
    flags += [f"--data-parallel-size {d.attention_data * replicas}"] * (
        d.attention_data * replicas > 1
    )
    flags += ["--enable-expert-parallel"] * (d.expert > 1)
    if (
        d.chunk is not None
    ):  # vLLM's budget is that of chunk and decodes together, of each attention group, and never below --max-num-seqs
        flags.append(
            f"--max-num-batched-tokens {max(d.chunk + -(-sequences // d.pipeline), sequences)}"
        )
    return _copies(d.data // replicas), [*flags, f"--max-num-seqs {sequences}"]


def _sglang(d: Deployment, sequences: int) -> tuple[list[str], list[str]]:
    if d.context > 1:
        unable = "SGLang's further ranks share prompts (--attn-cp-size), not the KV cache"
        raise InputError(
            f"context: {unable}; choose a row with cp 1, not {d.context}, or export vllm"
        )
    flags = [f"--tp-size {d.tensor * d.attention_data}"]
    flags += [f"--pp-size {d.pipeline}"] * (d.pipeline > 1)
    flags += [f"--ep-size {d.expert}"] * (d.expert > 1)
    flags += [f"--dp-size {d.attention_data} --enable-dp-attention"] * (d.attention_data > 1)
    if (
        d.chunk is not None
    ):  # SGLang divides the chunk by --dp-size, but not the prompt tokens of an iteration, which are 16384 by default
        flags += [f"--chunked-prefill-size {d.chunk * d.attention_data} --enable-mixed-chunk"]
        flags += [f"--max-prefill-tokens {d.chunk}"] * (d.chunk > 16384)
    return _copies(d.data), [*flags, f"--max-running-requests {sequences * d.attention_data}"]
