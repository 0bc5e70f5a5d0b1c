"""The dense estimate in plain, vectorised numpy: the same formulas, written without the library.

It is the baseline of `throughput.py`, since a careful user would write this for a sweep, and in
float64 it is an independent check of the library. It covers Llama-like models whose operators run
one after the other, under the textbook p-norm, on nodes of switched links with a fabric of NICs
between them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[Any]


def p_norm(a: Numbers, b: Numbers, p: int = 8) -> Numbers:
    """The p-norm (a**p + b**p)**(1/p), computed after dividing by the larger of both."""
    largest = np.maximum(np.maximum(a, b), 1e-30)
    return largest * ((a / largest) ** p + (b / largest) ** p) ** (1 / p)


def p_minimum(a: Numbers, b: Numbers, p: int = 8) -> Numbers:
    """The smooth minimum (a**-p + b**-p)**(-1/p)."""
    return a * b / np.maximum(p_norm(a, b, p), 1e-30)


def estimate(c: Mapping[str, Numbers]) -> dict[str, Numbers]:
    """All metrics of dense models, by name.

    Arguments:
        c: one array per number, with an element for each configuration. The names are those of
            `throughput.COLUMNS`, and `mlps`, the number of MLPs.
    """
    requests = np.ceil(c["batch"] / c["dp"])
    micro_batch = np.ceil(requests / c["pp"])
    micro_batches = np.ceil(requests / micro_batch)
    flop, byte, launch = (
        1 / (c["peak"] * c["compute_efficiency"]),
        1 / (c["bandwidth"] * c["memory_efficiency"]),
        c["launch"],
    )
    heads, kv_heads = np.ceil(c["heads"] / c["tp"]), np.ceil(c["kv_heads"] / c["tp"])
    width, vocabulary = np.ceil(c["intermediate"] / c["tp"]), np.ceil(c["vocabulary"] / c["tp"])
    hidden, layers, mlps, d = c["hidden"], c["layers"], c["mlps"], c["head_dim"]
    dtype, weight, activation, cache = (
        c["dtype_size"],
        c["weight_size"],
        c["activation_size"],
        c["kv_cache_size"],
    )
    several = np.where(c["tp"] > 1, 1.0, 0.0)
    inside = np.minimum(np.ceil(c["tp"]), c["node"])
    outside = np.maximum(np.ceil(c["tp"] / c["node"]), 1)
    link_byte = [1 / (c["link"] * c["link_efficiency"]), 1 / (c["nic"] * c["nic_efficiency"])]
    link_latency = [c["link_latency"], c["nic_latency"]]

    def linear(rows, outputs, inputs, size=weight, read=activation):
        return (
            p_norm(
                2 * rows * outputs * inputs * flop,
                (outputs * inputs * size + rows * inputs * read + rows * outputs * dtype) * byte,
            )
            + launch
        )

    def moved(volume):
        return volume * byte + launch

    def all_reduce(volume):
        share = volume * link_byte[0]
        hop = np.where(inside > 1, link_latency[0], 0)
        two_shots = 2 * hop + 2 * (1 - 1 / inside) * share
        one_shot = hop + (inside - 1) * share
        node = np.where(inside == 2, one_shot, p_minimum(two_shots, one_shot))
        shard = volume / inside * link_byte[1]
        ring = 2 * (outside - 1) * link_latency[1] + 2 * (1 - 1 / outside) * shard
        tree = 2 * np.log2(outside) * link_latency[1] + 2 * np.where(outside > 1, shard, 0)
        fabric = np.where(outside == 2, ring, p_minimum(ring, tree))
        return node + fabric + several * launch

    def all_gather(volume):
        node = np.where(inside > 1, link_latency[0], 0) + (1 - 1 / inside) * volume * link_byte[0]
        fabric = (
            np.log2(outside) * link_latency[1] + (1 - 1 / outside) * volume / inside * link_byte[1]
        )
        return node + fabric + several * launch

    crossing = np.minimum(c["pp"] - 1, np.ceil(c["tp"] * c["pp"] / c["node"]) - 1)
    boundaries = [c["pp"] - 1 - crossing, crossing]

    def hops(volume):
        return sum(
            count * (latency + volume * byte)
            for count, latency, byte in zip(boundaries, link_latency, link_byte, strict=True)
        )

    def attention(sequences, queries, contexts):
        total = 0.0
        for context, share in contexts:
            keys = context + (queries + 1) / 2
            flops = 4 * sequences * queries * keys * heads * d
            total += share * (
                p_norm(flops * flop, attention_bytes(sequences, queries, context) * byte) + launch
            )
        return total

    def attention_bytes(sequences, queries, context):
        return (
            2 * sequences * queries * heads * d * dtype
            + 2 * sequences * (context + queries) * kv_heads * d * cache
        )

    head = (
        moved(4 * micro_batch * hidden * dtype)
        + linear(micro_batch, vocabulary, hidden, dtype, dtype)
        + moved(micro_batch * (c["vocabulary"] * dtype + 4))
        + all_gather(micro_batch * c["vocabulary"] * dtype)
    )

    def phase(queries, contexts):
        tokens = micro_batch * queries
        rotary = tokens * ((2 * heads * d + 3 * kv_heads * d) * dtype + 2 * kv_heads * d * cache)
        residual = moved(4 * tokens * hidden * dtype)
        attend = (
            residual
            + linear(tokens, (heads + 2 * kv_heads) * d, hidden)
            + moved(rotary)
            + attention(micro_batch, queries, contexts)
            + linear(tokens, hidden, heads * d)
        )
        feed = (
            residual
            + linear(tokens, 2 * width, hidden)
            + moved(3 * tokens * width * dtype)
            + linear(tokens, hidden, width)
        )
        computing = layers * attend + mlps * feed
        reduction = all_reduce(tokens * hidden * dtype)
        communication = (layers + mlps) * reduction
        exposed = communication - c["overlap"] * p_minimum(communication, computing)
        rest = moved(2 * tokens * hidden * dtype) + reduction + hops(tokens * hidden * dtype)
        linears = (
            (heads + 2 * kv_heads) * d * hidden * layers
            + heads * d * hidden * layers
            + 3 * width * hidden * mlps
        )
        flops = 2 * tokens * linears + 2 * micro_batch * vocabulary * hidden
        flops += sum(
            share * layers * 4 * tokens * (context + (queries + 1) / 2) * heads * d
            for context, share in contexts
        )
        traffic = (
            linears * weight
            + vocabulary * hidden * dtype
            + micro_batch * (hidden * dtype + vocabulary * dtype)
        )
        traffic += (
            tokens
            * layers
            * (
                hidden * activation
                + (heads + 2 * kv_heads) * d * dtype
                + heads * d * activation
                + hidden * dtype
            )
        )
        traffic += (
            tokens
            * mlps
            * (
                hidden * activation
                + 2 * width * dtype
                + width * activation
                + hidden * dtype
                + 3 * width * dtype
            )
        )
        traffic += (
            4 * tokens * hidden * dtype * (layers + mlps)
            + layers * rotary
            + 2 * tokens * hidden * dtype
        )
        traffic += 4 * micro_batch * hidden * dtype + micro_batch * (c["vocabulary"] * dtype + 4)
        traffic += sum(
            share * layers * attention_bytes(micro_batch, queries, context)
            for context, share in contexts
        )
        summed = (layers + mlps + 1) * tokens * hidden * dtype
        logits = micro_batch * c["vocabulary"] * dtype
        arriving = [1.0, 1 / inside]
        sent = [
            (2 * summed + logits) * (1 - 1 / ranks_there) * share + count * tokens * hidden * dtype
            for ranks_there, share, count in zip(
                (inside, outside), arriving, boundaries, strict=True
            )
        ]
        joules = (
            flops * c["compute_power"] / c["peak"]
            + traffic * c["memory_power"] / c["bandwidth"]
            + sent[0] * c["link_power"] / c["link"]
            + sent[1] * c["nic_power"] / c["nic"]
        )
        return computing + exposed, rest, joules

    widest, narrowest = np.ceil(layers / c["pp"]) / layers, np.floor(layers / c["pp"]) / layers

    def slowest(whole):
        return np.maximum(whole * widest, whole * narrowest + head)

    root = np.sqrt(3 / 5) / 2
    nodes = [(0.5 - root, 5 / 18), (0.5, 8 / 18), (0.5 + root, 5 / 18)]
    prompt, prompt_rest, prompt_joules = phase(c["input_tokens"], [(0.0, 1.0)])
    token, token_rest, token_joules = phase(
        1.0, [(c["input_tokens"] + c["output_tokens"] * node, share) for node, share in nodes]
    )
    ttft = prompt + head + prompt_rest + (micro_batches - 1) * slowest(prompt)
    tpot = np.maximum(token + head + token_rest, micro_batches * slowest(token))
    further = c["output_tokens"] - 1
    end_to_end = ttft + further * tpot
    produced = c["batch"] * c["output_tokens"]
    ranks = c["tp"] * c["pp"] * c["dp"]
    joules = ranks * c["idle_power"] * end_to_end + c["tp"] * c["batch"] / micro_batch * (
        prompt_joules + further * token_joules
    )

    table = vocabulary * hidden * dtype
    norms = (layers + mlps) * hidden * dtype
    linears = (
        (heads + 2 * kv_heads) * d * hidden + heads * d * hidden
    ) * layers * weight + 3 * width * hidden * mlps * weight
    weights = (linears + norms) * widest + np.where(
        c["pp"] > 1, np.maximum(table, table + hidden * dtype), 2 * table + hidden * dtype
    )
    kv_cache = (
        2
        * requests
        * (c["input_tokens"] + c["output_tokens"])
        * kv_heads
        * d
        * cache
        * layers
        * widest
    )
    tokens = micro_batch * c["input_tokens"]
    buffers = [
        4 * tokens * hidden * dtype,
        tokens * (hidden * activation + (heads + 2 * kv_heads) * d * dtype),
        tokens * ((2 * heads * d + 3 * kv_heads * d) * dtype + 2 * kv_heads * d * cache),
        tokens * (heads * d * activation + hidden * dtype),
        tokens * (hidden * activation + 2 * width * dtype),
        tokens * 3 * width * dtype,
        tokens * (width * activation + hidden * dtype),
        micro_batch * (hidden + vocabulary) * dtype,
        micro_batch * (c["vocabulary"] * dtype + 4),
    ]
    activations = tokens * hidden * dtype + np.maximum.reduce(buffers)
    return {
        "ttft": ttft,
        "tpot": tpot,
        "end_to_end": end_to_end,
        "throughput": produced / end_to_end,
        "tokens_per_second_per_user": 1 / tpot,
        "tokens_per_second_per_accelerator": produced / end_to_end / ranks,
        "weights": weights,
        "kv_cache": kv_cache,
        "activations": activations,
        "total": weights + kv_cache + activations + c["reserve"],
        "energy_per_output_token": joules / produced,
        "cost_per_million_output_tokens": 1e6 * c["price"] * ranks * end_to_end / produced,
    }
