"""Whole models, as GenZ composes them: embedding, stages of layers, classifier.

Quirks of every phase:

- the embedding is a dense product with the vocabulary
  (input_embedding_counted_as_dense_gemm_vocab); decode has neither it nor its weights;
- the classifier sees all tokens;
- a pipeline's latency is one micro-batch's way through it.
"""

from collections.abc import Sequence
from math import ceil

from genz.graph import Entry, Message, Pattern, matmul, repeated
from genz.layers import (
    Decode,
    Prompt,
    Shape,
    Split,
    chunked_attention,
    chunked_ffn,
    decode_attention,
    decode_ffn,
    decode_tokens,
    mamba_mixer,
    prefill_attention,
    prefill_ffn,
)


def micro_batch(batch: int, split: Split) -> int:
    """The requests that move through the pipeline together."""
    return max(1, batch // split.pipeline)


def prefill(shape: Shape, split: Split, batch: int, tokens: int) -> tuple[Entry, ...]:
    """The prefill of the prompts of one micro-batch. Quirk: mamba_layer_also_has_dense_ffn."""
    mix = mamba_mixer if shape.mamba else prefill_attention
    mixer = mix(shape, split, batch, tokens)
    layer = (*mixer, *prefill_ffn(shape, split, batch, tokens))
    return (
        *_embedding(shape, split, batch, tokens),
        *_stages(layer, shape, split, batch * tokens),
        *_classifier(shape, split, batch, tokens),
    )


def decode(
    shape: Shape, split: Split, requests: int, beams: int, context: int, generated: int
) -> tuple[Entry, ...]:
    """The decoding of one token for every beam of one micro-batch."""
    batch = requests * beams
    attention = decode_attention(shape, split, requests, beams, context, generated)
    mixer = mamba_mixer(shape, split, batch, 1) if shape.mamba else attention
    layer = (*mixer, *decode_ffn(shape, split, batch))
    return *_stages(layer, shape, split, batch), *_classifier(shape, split, batch, 1)


def chunked(
    shape: Shape, split: Split, batch: int, prompts: Sequence[Prompt], decodes: Sequence[Decode]
) -> tuple[Entry, ...]:
    """One iteration that mixes new prompt tokens with decoding requests.

    Quirk: all layers are attention here, those of Mamba models as well.
    """
    new = sum(prompt[1] for prompt in prompts)
    tokens = new + sum(decode_tokens(entry) for entry in decodes)
    layer = (
        *chunked_attention(shape, split, batch, prompts, decodes, tokens),
        *chunked_ffn(shape, split, batch, tokens),
    )
    return (
        *_embedding(shape, split, batch, new),
        *_stages(layer, shape, split, batch * tokens),
        *_classifier(shape, split, batch, tokens),
    )


def expected_tokens(drafts: int, acceptance: float) -> float:
    """The tokens of each verification of `drafts`.

    Quirk: they are `drafts` at most, although the verifier's own token would be one more.
    """
    partial = sum(i * acceptance**i * (1 - acceptance) for i in range(1, drafts))
    return min(drafts, 1 + partial + drafts * acceptance**drafts)


def _stages(
    layer: tuple[Entry, ...], shape: Shape, split: Split, tokens: float
) -> tuple[Entry, ...]:
    """All stages in turn, of which the last has the layers that the others leave.

    Quirk pp_leaves_zero_layers_in_last_stage_crash: at times they leave none.
    """
    if split.pipeline == 1:
        return repeated(layer, shape.layers)
    per_stage, full_stages = ceil(shape.layers / split.pipeline), split.pipeline - 1
    hop = Message("Message Pass", Pattern.PASS, 2, tokens * shape.hidden, repeats=full_stages)
    return (
        *repeated(layer, per_stage * full_stages),
        hop,
        *repeated(layer, shape.layers - per_stage * full_stages),
    )


def _embedding(shape: Shape, split: Split, batch: float, tokens: float) -> tuple[Entry, ...]:
    return (
        matmul("embeddings", tokens, shape.hidden, shape.vocabulary // split.attention, batch),
        Message("Emb_AR", Pattern.ALL_REDUCE, split.attention, batch * tokens * shape.hidden),
    )


def _classifier(shape: Shape, split: Split, batch: float, tokens: float) -> tuple[Entry, ...]:
    logits = batch * tokens * shape.vocabulary
    return (
        matmul("classifier", tokens, shape.vocabulary // split.attention, shape.hidden, batch),
        Message("classifier_AG", Pattern.ALL_GATHER, split.attention, logits),
    )
