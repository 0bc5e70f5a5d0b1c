"""Flags of vLLM's `vllm serve` (docs.vllm.ai: engine arguments, parallelism and scaling)."""

from diffgenz.scenario.engines.engine import Ranks
from diffgenz.studies.launch.command import HEAD, RANK, Command, copies_of
from diffgenz.studies.launch.nodes import Spread, spread_of
from diffgenz.studies.launch.served import Served


def vllm(ranks: Ranks, served: Served, experts: bool, node: int) -> Command:
    """The command of a plan.

    Its prefill context ranks come on top of its tensor ranks; with as many decode context ranks, it
    is those that share the KV cache. With experts, its data parallelism is that of attention; else
    it serves all replicas. Its budget of tokens is that of a chunk and the decodes beside it, of
    each attention group, and never below --max-num-seqs. Where vLLM spreads experts over one stage,
    each replica is a server of its own.

    Arguments:
        ranks: of the plan, one that vLLM accepts.
        served: what else it is told.
        experts: whether the model has any.
        node: accelerators of a host.
    """
    together = 1 if experts else ranks.data
    groups = ranks.attention_data * together
    spread = spread_of(groups, ranks.tensor * ranks.context * ranks.pipeline, node)
    if spread.nodes > 1 and not experts:  # replicas that have nodes of their own are servers
        together, spread = 1, spread._replace(groups=1)
    copies = ranks.data // together
    comments = [*served.comments]
    if copies > 1:
        comments.append(copies_of(copies, spread.all_nodes))
    flags = [f"--tensor-parallel-size {ranks.tensor}"]
    if ranks.context > 1:
        flags.append(f"--prefill-context-parallel-size {ranks.context}")
        flags.append(f"--decode-context-parallel-size {ranks.context}")
    flags += [f"--pipeline-parallel-size {ranks.pipeline}"] * (ranks.pipeline > 1)
    flags += [f"--data-parallel-size {spread.groups}"] * (spread.groups > 1)
    flags += ["--enable-expert-parallel"] * (ranks.expert > 1)
    flags += _own(served, ranks.pipeline)
    across, head, others = _over_nodes(spread)
    return Command(
        f"vllm serve {served.model}",
        (*flags, *across),
        head,
        others,
        spread.all_nodes,
        tuple(comments),
    )


def _own(served: Served, stages: int) -> list[str]:
    """Flags that the plan does not ask for."""
    decodes = -(-served.sequences // stages)
    budget = max(served.budget + decodes, served.sequences)
    flags = ["--quantization fp8"] * served.quantize
    flags += [f"--dtype {served.dtype}"] * (served.dtype is not None)
    flags += ["--kv-cache-dtype fp8"] * served.fp8_cache
    return [
        *flags,
        f"--max-model-len {served.tokens}",
        f"--max-num-seqs {served.sequences}",
        f"--max-num-batched-tokens {budget}",
        f"--gpu-memory-utilization {served.utilization:.2f}",
    ]


def _over_nodes(spread: Spread) -> tuple[list[str], tuple[str, ...], tuple[str, ...]]:
    """Flags of all nodes, of the first one and of each other one; none for a single node.

    Groups that lie on one node each are ranks of data parallelism, which start where
    --data-parallel-start-rank says. A group on several nodes is one process on each of them
    (--nnodes, with the executor "mp").
    """
    if spread.all_nodes == 1:
        return [], (), ()
    shared, head, others = [], [], ["--headless"]
    if spread.groups > 1:
        shared += [f"--data-parallel-size-local {spread.local}", f"--data-parallel-address {HEAD}"]
    if spread.nodes == 1:
        start = f"$(({spread.local} * {RANK}))" if spread.all_nodes > 2 else f"{spread.local}"
        others.append(f"--data-parallel-start-rank {start}")
    else:
        shared += [f"--nnodes {spread.all_nodes}", f"--master-addr {HEAD}"]
        head.append("--node-rank 0")
        others.append(f"--node-rank {RANK}")
    return shared, tuple(head), tuple(others)
