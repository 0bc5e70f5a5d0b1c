"""Flags of SGLang's `launch_server` (docs.sglang.io: server arguments, multi-node deployment)."""

import math

from diffgenz.scenario.engines.engine import Ranks
from diffgenz.studies.launch.command import HEAD, RANK, Command, copies_of
from diffgenz.studies.launch.served import Served

_MOST_PREFILL_TOKENS = 16384
"""Prompt tokens of one iteration, unless it is told otherwise."""

_PORT = 20000


def sglang(ranks: Ranks, served: Served, experts: bool, node: int) -> Command:
    """The command of a plan.

    Its tensor ranks are all those of a stage. It divides the chunk by --dp-size, but not the prompt
    tokens of an iteration, and it mixes no chunks with decodes in a pipeline. Each replica is a
    server of its own.

    Arguments:
        ranks: of the plan, one that SGLang accepts.
        served: what else it is told.
        experts: whether the model has any.
        node: accelerators of a host.
    """
    groups = ranks.attention_data
    nodes = _nodes(ranks.stage, ranks.pipeline, node)
    comments = [*served.comments]
    if ranks.data > 1:
        comments.append(copies_of(ranks.data, nodes))
    flags = [f"--tp-size {ranks.stage}"]
    flags += [f"--pp-size {ranks.pipeline}"] * (ranks.pipeline > 1)
    flags += [f"--ep-size {ranks.expert}"] * (ranks.expert > 1)
    flags += [f"--dp-size {groups}", "--enable-dp-attention"] * (groups > 1)
    flags += ["--moe-dense-tp-size 1"] * ranks.dense_whole
    flags += _own(ranks, served)
    if nodes == 1:
        return Command(_start(served), tuple(flags), comments=tuple(comments))
    flags += [f"--nnodes {nodes}", f"--dist-init-addr {HEAD}:{_PORT}"]
    own = ("--node-rank 0",), (f"--node-rank {RANK}",)
    return Command(_start(served), tuple(flags), *own, nodes, tuple(comments))


def _start(served: Served) -> str:
    return f"python -m sglang.launch_server --model-path {served.model}"


def _own(ranks: Ranks, served: Served) -> list[str]:
    """Flags that the plan does not ask for."""
    groups = ranks.attention_data
    flags = ["--quantization fp8"] * served.quantize
    flags += [f"--dtype {served.dtype}"] * (served.dtype is not None)
    flags += ["--kv-cache-dtype fp8_e4m3"] * served.fp8_cache
    flags += [
        f"--context-length {served.tokens}",
        f"--max-running-requests {served.sequences * groups}",
        f"--chunked-prefill-size {served.budget * groups if served.chunked else -1}",
    ]
    flags += ["--enable-mixed-chunk"] * (served.chunked and ranks.pipeline == 1)
    if served.budget > _MOST_PREFILL_TOKENS:
        flags.append(f"--max-prefill-tokens {served.budget}")
    return [*flags, f"--mem-fraction-static {_static(served):.2f}"]


def _static(served: Served) -> float:
    """The share of the memory for weights and KV cache: what the rest of the scenario leaves.

    It holds at least those of the scenario, in whole hundredths.
    """
    memory = served.memory
    kept = float(memory.weights) + float(memory.kv_cache)
    rest = (float(memory.total) - kept) / served.capacity
    least = math.ceil(100 * kept / served.capacity - 1e-6) / 100
    return max(least, math.floor(100 * (served.utilization - rest)) / 100)


def _nodes(tensor: int, stages: int, node: int) -> int:
    """The fewest nodes that hold whole stages each, or an equal share of one (`server_args.py`)."""
    for nodes in range(-(-tensor * stages // node), tensor * stages + 1):
        whole = stages % nodes == 0
        share = nodes % stages == 0 and tensor % (nodes // stages) == 0
        if whole or share:
            return nodes
    return tensor * stages  # one rank each, which always is an equal share
