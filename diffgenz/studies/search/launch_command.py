"""`launch_command`: a deployment as the launch command of a serving engine.

Flags are those of vLLM's `vllm serve` and SGLang's `launch_server` as documented in November 2026
(docs.vllm.ai, engine arguments; docs.sglang.io, server arguments, prefill and decode context
parallelism). Nothing here imports JAX.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from diffgenz.core.errors import InputError, unknown

_CACHES = ("fp32", "bf16", "fp16", "fp8")
_MOST_PREFILL_TOKENS = 16384
"""Prompt tokens of one iteration of SGLang, unless it is told otherwise."""


@runtime_checkable
class HasRow(Protocol):
    """What can say itself as a flat row: a `Deployment`."""

    def as_dict(self) -> dict[str, Any]:
        """The row."""
        ...


class _Plan(NamedTuple):
    """What engines are told of a deployment.

    Arguments:
        tensor, context, attention_data, pipeline, data, expert: ranks, as in `Parallelism`.
        chunk: prompt tokens of an iteration; None for whole prompts.
        sequences: requests of each attention group.
    """

    tensor: int
    context: int
    attention_data: int
    pipeline: int
    data: int
    expert: int
    chunk: int | None
    sequences: int


def launch_command(
    engine: str, model: str, deployment: HasRow | Mapping[str, Any], tokens: int
) -> str:
    """The shell command that starts one replica group of a deployment, after lines of comments.

    Arguments:
        engine: one of `ENGINES`.
        model: its Hugging Face id.
        deployment: a `Deployment` of a search, or its row as saved by `diffgenz search --out`.
        tokens: of the longest request, input and output.

    Raises:
        InputError: an engine that is not known, or a plan or cache format that it cannot run.
    """
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    if not isinstance(model, str):
        raise InputError(f"model: a {type(model).__name__} is no id; write Model.name")
    if not isinstance(deployment, Mapping) and not hasattr(deployment, "as_dict"):
        raise InputError(
            f"deployment: {deployment!r} is no Deployment; write search(case)[0], or a row that "
            "was saved"
        )
    d = deployment if isinstance(deployment, Mapping) else deployment.as_dict()
    weights, cache = d["weights"], d["kv_cache"]
    if cache not in _CACHES:
        raise InputError(
            f"kv_cache: {engine} keeps no KV cache in {cache}; choose a row with dtype or fp8"
        )
    given = {name: d[name] for name in _Plan._fields if name != "sequences"}
    plan = _Plan(**given, sequences=-(-d["batch"] // (d["data"] * d["attention_data"])))
    speaks = ENGINES[engine]
    comments, flags = speaks.flags(plan)
    if weights not in ("bf16", "fp16", "fp8", "fp8_block"):
        comments.append(
            f"# {model} must be a checkpoint quantized to {weights}; the engine reads its format "
            "from config.json"
        )
    elif weights == "fp8":
        flags.append("--quantization fp8")
    if cache == "fp8":
        flags.append(f"--kv-cache-dtype {speaks.fp8_cache}")
    words = [f"{speaks.command} {model}", *flags, f"{speaks.length} {tokens}"]
    return "\n".join([*comments, " \\\n    ".join(words)])


def _copies(count: int) -> list[str]:
    return [f"# run {count} of these behind a load balancer"] if count > 1 else []


def _vllm(plan: _Plan) -> tuple[list[str], list[str]]:
    """Comments and flags of vLLM.

    Its prefill context ranks come on top of its tensor ranks; with as many decode context ranks,
    it is those that share the KV cache. With experts, its data parallelism is that of attention.
    Its budget of tokens is that of a chunk and the decodes beside it, of each attention group, and
    never below --max-num-seqs.
    """
    stage = plan.tensor * plan.context * plan.attention_data
    if plan.expert not in (1, stage):
        raise InputError(
            f"expert: vLLM spreads experts over all {stage} ranks of a stage or over none, not "
            f"{plan.expert}; choose a row with ep 1 or {stage}, or export sglang"
        )
    alone = plan.attention_data == 1 and plan.expert == 1
    replicas = plan.data if alone else 1
    groups = plan.attention_data * replicas
    flags = [f"--tensor-parallel-size {plan.tensor}"]
    if plan.context > 1:
        flags.append(f"--prefill-context-parallel-size {plan.context}")
        flags.append(f"--decode-context-parallel-size {plan.context}")
    flags += [f"--pipeline-parallel-size {plan.pipeline}"] * (plan.pipeline > 1)
    flags += [f"--data-parallel-size {groups}"] * (groups > 1)
    flags += ["--enable-expert-parallel"] * (plan.expert > 1)
    if plan.chunk is not None:
        decodes = -(-plan.sequences // plan.pipeline)
        flags.append(f"--max-num-batched-tokens {max(plan.chunk + decodes, plan.sequences)}")
    return _copies(plan.data // replicas), [*flags, f"--max-num-seqs {plan.sequences}"]


def _sglang(plan: _Plan) -> tuple[list[str], list[str]]:
    """Comments and flags of SGLang.

    It divides the chunk by --dp-size, but not the prompt tokens of an iteration.
    """
    if plan.context > 1:
        raise InputError(
            "context: SGLang's further ranks share prompts (--attn-cp-size), not the KV cache; "
            f"choose a row with cp 1, not {plan.context}, or export vllm"
        )
    groups = plan.attention_data
    flags = [f"--tp-size {plan.tensor * groups}"]
    flags += [f"--pp-size {plan.pipeline}"] * (plan.pipeline > 1)
    flags += [f"--ep-size {plan.expert}"] * (plan.expert > 1)
    flags += [f"--dp-size {groups} --enable-dp-attention"] * (groups > 1)
    if plan.chunk is not None:
        flags += [f"--chunked-prefill-size {plan.chunk * groups} --enable-mixed-chunk"]
        if plan.chunk > _MOST_PREFILL_TOKENS:
            flags.append(f"--max-prefill-tokens {plan.chunk}")
    return _copies(plan.data), [*flags, f"--max-running-requests {plan.sequences * groups}"]


class Engine(NamedTuple):
    """How a serving engine is launched.

    Arguments:
        command: what starts it, before the model.
        length: its flag for the tokens of the longest request.
        fp8_cache: what it calls an fp8 KV cache.
        flags: comments and flags for a plan.
    """

    command: str
    length: str
    fp8_cache: str
    flags: Callable[[_Plan], tuple[list[str], list[str]]]


ENGINES = {
    "vllm": Engine("vllm serve", "--max-model-len", "fp8", _vllm),
    "sglang": Engine(
        "python -m sglang.launch_server --model-path", "--context-length", "fp8_e4m3", _sglang
    ),
}
"""Serving engines that `launch_command` speaks, by name. A new one is a row and its flags."""
