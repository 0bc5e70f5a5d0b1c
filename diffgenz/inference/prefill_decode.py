"""Serving options -> iterations: chunks of prompts, verifications, beams, and both phases in one iteration.

| option | prefill | decode |
|---|---|---|
| prefix hit h | max((1 - h) input, 1) new tokens over a context of the rest | |
| chunk c | max(T / c, 1) iterations for the T new tokens of a micro-batch | |
| speculation, d drafts | | d + 1 new tokens per sequence, logits for all of them |
| b beams | | b sequences per request; the prompt's keys and values are stored and read once per request |
"""

import dataclasses

import equinox as eqx
import jax.numpy as jnp

from diffgenz.core.smooth import Scalar
from diffgenz.inference.iteration import QUADRATURE, Iteration, prefill_step
from diffgenz.models.model import Model
from diffgenz.operators.operator import Kind, Operator
from diffgenz.operators.precision import Precision
from diffgenz.operators.step import Step
from diffgenz.scenario.parallelism import Parallelism, Workload
from diffgenz.scenario.serving_options import Serving


def prompt_step(
    workload: Workload,
    plan: Parallelism,
    precision: Precision,
    sequences: Scalar,
    serving: Serving | None,
) -> Step:
    """The prompts of `sequences` requests at once, but for what is in the KV cache already."""
    whole = prefill_step(workload, plan, precision, sequences)
    if serving is None:
        return whole
    new = jnp.maximum((1 - serving.prefix_hit) * workload.input_tokens, 1.0)
    return whole.replace(queries=plan.share(new), context=workload.input_tokens - new)


def chunk_count(prompt: Step, serving: Serving | None) -> Scalar | None:
    """Iterations that `prompt` takes: its tokens / chunk, at least 1, not rounded; None where prompts are not chunked."""
    return (
        None
        if serving is None or serving.chunk is None
        else jnp.maximum(prompt.sequences * prompt.all_queries / serving.chunk, 1.0)
    )


def prefill_iteration(model: Model, prompt: Step, chunks: Scalar | None) -> Iteration:
    """The mean of the iterations that prefill `prompt`.

    Prompts are taken one after the other: a chunk is several whole prompts, or a piece of one. The pieces of a prompt, s of them, each read the
    keys and values before them: the mean context is that of the prompt, plus (1 - 1 / s) / 2 of its new tokens. FLOP of attention are exactly
    those of the whole prompt, also under a window. Each chunk reads all weights, and samples a token for each of its prompts (as vLLM does).
    """
    whole = Iteration.of(model, prompt)
    if chunks is None:
        return whole
    queries = prompt.queries / jnp.maximum(chunks / prompt.sequences, 1.0)
    piece = prompt.replace(sequences=jnp.maximum(prompt.sequences / chunks, 1.0), queries=queries)
    context = prompt.context + 0.5 * (prompt.all_queries - piece.all_queries)
    chunk = Iteration.of(model, piece.replace(context=context))
    return chunk._replace(
        layers=tuple(
            _with_keys_of(full, op) for full, op in zip(whole.layers, chunk.layers, strict=True)
        )
    )


def _with_keys_of(whole: Operator, op: Operator) -> Operator:
    return eqx.tree_at(lambda o: o.n, op, whole.n) if op.kind is Kind.ATTENTION else op


def decode_step(prompt: Step, context: Scalar, serving: Serving | None) -> Step:
    """The new tokens of the requests of `prompt` in one iteration, at `context` tokens each: one of each, or all beams and drafts."""
    if prompt.shared is not None:
        prompt = prompt.replace(shared=prompt.shared.replace(distinct=1.0))
    if serving is None:
        return prompt.replace(queries=1.0, context=context)
    sequences = prompt.sequences if serving.beams is None else prompt.sequences * serving.beams
    queries = 1.0 if serving.speculation is None else 1 + serving.speculation.drafts
    return prompt.replace(sequences=sequences, queries=queries, context=context)


def decode_layers(
    model: Model, step: Step, workload: Workload, serving: Serving | None
) -> tuple[Operator, ...]:
    """The kernels of all layers in decode. Of b beams, keys and values of the prompt are stored and read once, those generated b times:

        all (one sequence) + (b - 1) generated (one sequence)

    which also holds where a window has left the prompt behind.
    """
    operators = model.layer_operators(step)
    if serving is None or serving.beams is None:
        return operators
    one = step.replace(sequences=step.sequences / serving.beams)
    further = step.replace(
        sequences=step.sequences - one.sequences, context=step.context - workload.input_tokens
    )
    parts = zip(operators, model.layer_operators(one), model.layer_operators(further), strict=True)
    return tuple(
        _with_cache_of(a, b, op) if op.kind is Kind.ATTENTION else op for op, a, b in parts
    )


def _with_cache_of(first: Operator, second: Operator, op: Operator) -> Operator:
    shared = dataclasses.replace(
        op, kernel="", shape=None
    )  # measured kernels read every sequence apart
    return eqx.tree_at(
        lambda o: (o.kv_cache, o.cached),
        shared,
        (first.kv_cache + second.kv_cache, first.cached + second.cached),
    )


def decode_iteration(
    model: Model, prompt: Step, workload: Workload, serving: Serving | None
) -> Iteration:
    """One decode iteration of the requests of `prompt`, averaged over the generation: attention at every node of the quadrature, with its weight."""
    nodes = [
        (
            decode_step(
                prompt.replace(decoding=True),
                workload.input_tokens + workload.output_tokens * node,
                serving,
            ),
            weight,
        )
        for node, weight in QUADRATURE
    ]
    first = verification(model, nodes[0][0], serving)
    fixed = tuple(op for op in first.layers if op.kind is not Kind.ATTENTION)
    varying = tuple(
        op.times(weight)
        for step, weight in nodes
        for op in decode_layers(model, step, workload, serving)
        if op.kind is Kind.ATTENTION
    )
    return first._replace(layers=fixed + varying)


def verification(model: Model, step: Step, serving: Serving | None) -> Iteration:
    """The iteration of a decode step, with logits for all its new tokens where they are drafts."""
    speculating = serving is not None and serving.speculation is not None
    return Iteration.of(model, step, logits=step.tokens if speculating else None)


def mixed_iteration(model: Model, prompt: Step, prefill: Iteration, decode: Iteration) -> Iteration:
    """A chunk of prompts and the running decodes in one iteration (continuous batching).

    What both have in common runs once, over the tokens of both, and reads its weights once; attention, and what latent attention does in
    one of them only, runs for each.
    """
    size = prompt.precision.dtype_size
    volume = prefill.hidden_volume + decode.hidden_volume
    tokens = volume / (model.hidden * prompt.precision.message_size)
    logits = (prefill.logits_volume + decode.logits_volume) / (model.vocabulary * size)
    if prompt.shared is not None:
        distinct = (prefill.hidden_volume * prompt.shared.ranks + decode.hidden_volume) / volume
        prompt = prompt.replace(shared=prompt.shared.replace(distinct=distinct))
    both = Iteration.of(model, prompt.replace(sequences=tokens, queries=1.0), logits=logits)
    shared = {op.name for op in prefill.layers} & {op.name for op in decode.layers}

    def own(op: Operator) -> bool:
        return op.kind is Kind.ATTENTION or op.name not in shared

    once = tuple(op for op in both.layers if not own(op))
    return both._replace(
        layers=once + tuple(op for op in prefill.layers + decode.layers if own(op))
    )
