"""One layer of each family, as GenZ composes it; kernels carry GenZ's own names.

Attention is sharded by tensor x expert ranks, the FFN by tensor ranks, experts by expert ranks.
Quirk: softmax, norms, RoPE, activations, residuals, top-k and sampling are free.
"""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, NamedTuple, Self

from genz.graph import (
    ACTIVATIONS_ON_CHIP,
    OFF_CHIP,
    RESIDENCY,
    Entry,
    Heads,
    Holds,
    Kernel,
    Message,
    OnChip,
    Pattern,
    attend,
    contract,
    conv1d_law,
    matmul,
)


class Shape(NamedTuple):
    """A model's dimensions, as a golden row states them.

    Arguments:
        hidden: size of the hidden states.
        vocabulary: tokens.
        layers, heads, kv_heads: numbers of them.
        head_dim: size of each head.
        intermediate: width of the FFN.
        branches: projections before the activation: 2 where the FFN is gated, else 1.
        experts: routed experts; 1 in a dense model.
        top_k: experts of a token.
        moe_intermediate: width of one expert.
        shared_experts: number of them.
        shared_intermediate: width of one of them.
        deepseek: whether the FFN is DeepSeek's.
        mamba: whether the layers are Mamba's.
        state, conv, expand, dt_rank: Mamba's sizes.
    """

    hidden: int
    vocabulary: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    branches: int
    experts: int
    top_k: int
    moe_intermediate: int
    shared_experts: int
    shared_intermediate: int
    deepseek: bool
    mamba: bool
    state: int
    conv: int
    expand: int
    dt_rank: int

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The `model` of a row."""
        return cls(
            hidden=row["hidden_size"],
            vocabulary=row["vocab_size"],
            layers=row["num_decoder_layers"],
            heads=row["num_attention_heads"],
            kv_heads=row["num_key_value_heads"],
            head_dim=row["head_dim"],
            intermediate=row["intermediate_size"],
            branches=row["num_ffi"],
            experts=row["num_experts"],
            top_k=row["expert_top_k"],
            moe_intermediate=row["moe_intermediate_size"],
            shared_experts=row["n_shared_experts"],
            shared_intermediate=row["shared_expert_intermediate_size"],
            deepseek=row["ffn_implementation"] == "deepseek",
            mamba=row["layer_type"] == "Mamba",
            state=row["mamba_d_state"],
            conv=row["mamba_d_conv"],
            expand=row["mamba_expand"],
            dt_rank=row["mamba_dt_rank"],
        )

    @property
    def family(self) -> str:
        """The model's family: dense, MoE or Mamba."""
        return "Mamba" if self.mamba else "MoE" if self.experts > 1 else "dense"


class Split(NamedTuple):
    """The layout of a model: its tensor, expert and pipeline ranks."""

    tensor: int = 1
    expert: int = 1
    pipeline: int = 1

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The `parallel` of a row. Replicas (dp) change nothing."""
        return cls(row["tp"], row["ep"], row["pp"])

    @property
    def attention(self) -> int:
        """The ranks that share attention and the vocabulary."""
        return self.tensor * self.expert


def share(total: int, ranks: int) -> int:
    """The largest share of `total` that a rank has, at least 1.

    Quirk tp_ceil_heads_not_divisible_by_ceil_kv_heads: GenZ crashes where shares don't match.
    """
    return max(1, ceil(total / ranks))


def shard_heads(shape: Shape, split: Split) -> Heads:
    """The heads of one device."""
    return Heads(
        share(shape.heads, split.attention), share(shape.kv_heads, split.attention), shape.head_dim
    )


def projected(
    shape: Shape, split: Split, batch: float, tokens: float, inner: Sequence[Entry], on_chip: OnChip
) -> tuple[Entry, ...]:
    """The QKV projection, `inner`, the output projection and its all-reduce.

    Arguments:
        shape: of the model.
        split: its layout.
        batch: sequences.
        tokens: of each sequence.
        inner: attention itself.
        on_chip: which tensors of the projections stay on chip.
    """
    heads = shard_heads(shape, split)
    queries, keys = heads.queries * heads.dim, heads.keys * heads.dim
    return (
        matmul("QKV", tokens, queries + 2 * keys, shape.hidden, batch, on_chip),
        *inner,
        matmul("Out Proj", tokens, shape.hidden, queries, batch, on_chip),
        Message("MHA AR", Pattern.ALL_REDUCE, split.attention, batch * tokens * shape.hidden),
    )


def prefill_attention(shape: Shape, split: Split, batch: float, tokens: float) -> tuple[Entry, ...]:
    """The attention of prompts of `tokens`, each of which attends to all of itself."""
    inner = attend("", batch, shard_heads(shape, split), tokens, tokens, decoding=False)
    return projected(shape, split, batch, tokens, inner, OFF_CHIP)


def decode_attention(
    shape: Shape, split: Split, requests: float, beams: float, context: float, generated: float
) -> tuple[Entry, ...]:
    """The attention of one token of each beam to the shared prefix and to its own suffix.

    Quirk beam_merge_divides_prefix_flops_by_beams: the prefix is one request's work, in FLOP and
    queries as in KV.

    Arguments:
        shape: of the model.
        split: its layout.
        requests: that decode.
        beams: of each request.
        context: tokens of the prefix.
        generated: tokens of each suffix.
    """
    heads, batch = shard_heads(shape, split), requests * beams
    prefix = attend(" Pre", requests, heads, 1, context, decoding=True)
    suffix = attend(" Suf", batch, heads, 1, generated, decoding=True)
    inner = (prefix[0], suffix[0], prefix[1], suffix[1])
    return projected(shape, split, batch, 1, inner, ACTIVATIONS_ON_CHIP)


Prompt = tuple[int, int]
"""A prompt in a chunk: its tokens done, and its tokens to do."""

Decode = int | float | Sequence[int]
"""Decoding in a chunk: context, (requests, context) or (prefix beams, beams, prefix, suffix)."""


def decode_tokens(entry: Decode) -> int:
    """The tokens that an entry adds to a chunk."""
    if isinstance(entry, int | float):
        return 1
    return entry[0] if len(entry) == 2 else entry[1]


def chunked_attention(
    shape: Shape,
    split: Split,
    batch: float,
    prompts: Sequence[Prompt],
    decodes: Sequence[Decode],
    tokens: float,
) -> tuple[Entry, ...]:
    """The attention of a chunk, where every prompt and decoding request attends on its own.

    Arguments:
        shape: of the model.
        split: its layout.
        batch: chunks.
        prompts: of a chunk.
        decodes: of a chunk.
        tokens: of a chunk.
    """
    heads = shard_heads(shape, split)
    inner: list[Entry] = []
    for past, new in prompts:
        inner += attend(" Pre", batch, heads, new, past + new, decoding=False)
    for entry in decodes:
        if isinstance(entry, int | float):
            inner += attend(" Dec", batch, heads, 1, entry, decoding=True)
        elif len(entry) == 2:
            requests, context = entry
            inner += attend(
                " Dec", batch, heads.wider(requests, requests), 1, context, decoding=True
            )
        else:
            prefix_beams, beams, prefix, suffix = entry
            inner += attend(" Pre", batch, heads.wider(prefix_beams, 1), 1, prefix, decoding=True)
            # Quirk: the beams' own suffixes are as many heads, but one KV cache.
            inner += attend(" Suf", batch, heads.wider(beams, 1), 1, suffix, decoding=True)
    return projected(shape, split, batch, tokens, inner, ACTIVATIONS_ON_CHIP)


def feed_forward(
    name: str,
    hidden: int,
    width: int,
    branches: int,
    batch: float,
    tokens: float,
    on_chip: OnChip = OFF_CHIP,
) -> tuple[Kernel, Kernel]:
    """The projections up (with the gate) and down, of `width` on this device."""
    return (
        matmul(f"{name}up+gate", tokens, branches * width, hidden, batch, on_chip),
        matmul(f"{name}down", tokens, hidden, width, batch, on_chip),
    )


def prefill_ffn(shape: Shape, split: Split, batch: float, tokens: int) -> tuple[Entry, ...]:
    """The FFN of `tokens` of each sequence."""
    width = share(shape.intermediate, split.tensor)
    if shape.experts == 1:
        inner = feed_forward("", shape.hidden, width, shape.branches, batch, tokens)
        return *inner, _reduce(shape, split, batch * tokens)
    # Quirks: moe_zero_tokens_per_expert_floor, and
    # deepseek_uses_default_ffn_intermediate_size_for_every_expert_no_shared.
    rows = tokens * shape.top_k // shape.experts
    held = shape.experts // split.expert * width
    experts = feed_forward("", shape.hidden, held, shape.branches, batch, rows)
    routed = _routed(shape, split, batch, tokens, shape.experts, experts)
    return *routed, _reduce(shape, split, batch * tokens)


def decode_ffn(shape: Shape, split: Split, batch: float) -> tuple[Entry, ...]:
    """The FFN of one token per request."""
    width = share(shape.intermediate, split.tensor)
    if shape.experts == 1:
        inner = feed_forward("", shape.hidden, width, shape.branches, batch, 1, ACTIVATIONS_ON_CHIP)
        return *inner, _reduce(shape, split, batch)
    # Quirk moe_decode_activated_experts_independent_of_batch: every active expert of a device sees
    # all its tokens, too.
    active = share(shape.top_k, split.expert)
    idle = ceil(shape.experts / split.expert) - active
    sizes = shape.hidden, active * width, shape.branches
    experts = (
        *feed_forward("", *sizes, batch, 1, ACTIVATIONS_ON_CHIP),
        *feed_forward("", shape.hidden, idle * width, shape.branches, batch, 0),
    )
    # Quirk: the all-reduce of the gate carries hidden states, not scores.
    return *_routed(shape, split, batch, 1, shape.hidden, experts), _reduce(shape, split, batch)


def deepseek_ffn(shape: Shape, split: Split, batch: float, tokens: int) -> tuple[Entry, ...]:
    """DeepSeek's FFN with shared experts, which GenZ uses in chunks only."""
    if shape.experts == 1:
        return prefill_ffn(shape, split, batch, tokens)
    width = share(shape.moe_intermediate, split.tensor)
    activated = min(shape.top_k * tokens, shape.experts)
    active = share(activated, split.expert)
    idle = ceil(shape.experts / split.expert) - active
    rows = tokens * shape.top_k // activated if activated else 0
    experts: tuple[Entry, ...] = feed_forward(
        "", shape.hidden, active * width, shape.branches, batch, rows
    )
    if idle:
        experts += feed_forward("", shape.hidden, idle * width, shape.branches, batch, 0)
    routed = _routed(shape, split, batch, tokens, shape.experts, experts)
    if shape.shared_experts > 0:
        shared = shape.shared_experts * share(shape.shared_intermediate, split.tensor)
        routed += feed_forward("shared ", shape.hidden, shared, shape.branches, batch, tokens)
    return *routed, _reduce(shape, split, batch * tokens)


def chunked_ffn(shape: Shape, split: Split, batch: float, tokens: int) -> tuple[Entry, ...]:
    """The FFN of a chunk."""
    return (deepseek_ffn if shape.deepseek else prefill_ffn)(shape, split, batch, tokens)


def _reduce(shape: Shape, split: Split, tokens: float) -> Message:
    return Message("FFN AR", Pattern.ALL_REDUCE, split.tensor, tokens * shape.hidden)


def _routed(
    shape: Shape,
    split: Split,
    batch: float,
    tokens: int,
    gate_reduced: int,
    experts: Sequence[Entry],
) -> tuple[Entry, ...]:
    """The gate, the dispatch, `experts`, and the combine.

    Arguments:
        shape: of the model.
        split: its layout.
        batch: sequences.
        tokens: of each sequence.
        gate_reduced: elements per token in the gate's all-reduce.
        experts: what the experts of this device execute.
    """
    moved = batch * tokens * shape.top_k * shape.hidden
    return (
        matmul("Gate", tokens, shape.experts, shape.hidden // split.tensor, batch),
        Message("Gate AR", Pattern.ALL_REDUCE, split.tensor, batch * tokens * gate_reduced),
        Message("Dispatch A2A", Pattern.ALL_TO_ALL, split.expert, moved),
        *experts,
        Message("Collect A2A", Pattern.ALL_TO_ALL, split.expert, moved),
    )


def mamba_mixer(shape: Shape, split: Split, batch: float, tokens: int) -> tuple[Entry, ...]:
    """Mamba-1's mixer, whose scan is seven einsums over all tokens.

    Quirks: mamba_tp_divides_both_matrix_dims (projections), while the scan is not sharded at all.
    """
    hidden = round(shape.hidden / split.attention)
    inner, full = shape.expand * hidden, shape.expand * shape.hidden
    n = {"b": batch, "l": tokens, "f": full, "s": shape.state}
    every, output = RESIDENCY["All_onchip"], RESIDENCY["C_onchip"]
    return (
        matmul("Inproj", tokens, 2 * inner, hidden, batch),
        Kernel(
            "Conv",
            conv1d_law,
            {"B": batch, "OF": inner, "IF": inner, "N": tokens, "C": shape.conv},
            OFF_CHIP,
            Holds.CACHE,
        ),
        matmul("BC proj", tokens, shape.dt_rank + 2 * shape.state, inner, batch),
        matmul("xt proj", tokens, inner, shape.dt_rank, batch),
        contract("deltaA", "bfl,fs->bfls", n, RESIDENCY["BC_onchip"]),
        contract("deltaB", "bfl,bls->bfls", n, output),
        contract("deltaBu", "bfls,bfl->bfls", n, OFF_CHIP),
        contract("x calc", "lbfs,lbfs->lbfs", n, every, holds=Holds.CACHE, held_share=1 / tokens),
        contract("y calc", "lbfs,lbs->lbf", n, every),
        contract("D addition", "blf,blf->blf", n, every),
        contract("out mult z", "blf,blf->blf", n, every),
        matmul("Out proj", tokens, hidden, inner, batch),
        Message("Mamba AR", Pattern.ALL_REDUCE, split.attention, batch * tokens * hidden),
    )
