"""Iterations under serving options: chunks of prompts, verifications, beams, and mixed phases.

| option | prefill | decode |
|---|---|---|
| prefix hit h | max((1 - h) input, 1) new tokens over a context of the rest | |
| chunk c | max(T / c, 1) iterations for the T new tokens of a micro-batch | |
| speculation, d drafts | | d + 1 new tokens per sequence, logits for all of them |
| b beams | | b sequences per request; the prompt's KV is stored and read once |

All functions take a scenario whose images are part of the prompt (`scenario.prompted`).
"""

import dataclasses

from diffgenz.core import xp
from diffgenz.core.smooth import HARD, Scalar, share_of, smooth_max
from diffgenz.core.tree import Tree
from diffgenz.inference.iteration import Iteration
from diffgenz.models.model import Model
from diffgenz.operators.operator import Kind, Operator
from diffgenz.operators.routing import Routing
from diffgenz.operators.step import Alone, Shared, Step
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.scenario import Scenario

QUADRATURE = (
    (0.11270166537925831, 5 / 18),
    (0.5, 8 / 18),
    (0.8872983346207417, 5 / 18),
)
"""Gauss-Legendre nodes on [0, 1] and their weights, exact for polynomials up to degree 5."""


def prompt_step(case: Scenario, sequences: Scalar) -> Step:
    """The prompts of some requests at once, without what is in the KV cache already.

    Arguments:
        case: the scenario.
        sequences: requests of all attention groups that share them.
    """
    workload, plan, hit = case.workload, case.plan, case.serving.prefix_hit
    mine = share_of(sequences, 1 / plan.attention_data, case.smooth_batch)
    if hit is None:
        return _step(case, mine, plan.share(workload.input_tokens), xp.zeros(()))
    new = xp.maximum((1 - hit) * workload.input_tokens, 1.0)
    return _step(case, mine, plan.share(new), workload.input_tokens - new)


def _step(case: Scenario, sequences: Scalar, queries: Scalar, context: Scalar) -> Step:
    plan: Parallelism = case.plan
    return Step(
        sequences=sequences,
        queries=queries,
        context=context,
        shard=1 / plan.tensor,
        precision=case.precision,
        expert_shard=1 / plan.expert,
        attention_data=plan.attention_data,
        shared=Alone() if plan.context is None else Shared(plan.context),
        sequence=plan.sequence,
        smooth=case.smooth_batch,
        routing=case.routing.in_prefill(),
    )


def chunk_count(case: Scenario, prompt: Step) -> Scalar | None:
    """Iterations that the prompts take: tokens / chunk, at least 1, not rounded.

    Where batches are smooth (`Scenario.smooth_batch`) the maximum is as smooth as the roofline: an
    optimizer would else stop at the batch that fills one chunk, where slopes jump.

    Arguments:
        case: the scenario.
        prompt: the prompts.

    Returns:
        The number of iterations; None where prompts are not chunked.
    """
    chunk = case.serving.chunk
    if chunk is None:
        return None
    filled = prompt.sequences * prompt.all_queries / chunk
    return smooth_max(filled, xp.ones_like(filled), case.sharpness if case.smooth_batch else HARD)


def prefill(case: Scenario, prompt: Step) -> Iteration:
    """The mean of the iterations that prefill some prompts.

    Prompts are taken one after the other: a chunk is several whole prompts, or a piece of one. Each
    of the s pieces of a prompt reads the keys and values before it, so that the mean context is
    that of the prompt plus (1 - 1 / s) / 2 of its new tokens. FLOP of attention are exactly those
    of the whole prompt, also under a window. Each chunk reads all weights, and samples a token for
    each of its prompts (as vLLM does).

    Arguments:
        case: the scenario.
        prompt: the prompts.
    """
    chunks = chunk_count(case, prompt)
    if chunks is None:
        return Iteration.of(case.model, prompt)
    queries = prompt.queries / xp.maximum(chunks / prompt.sequences, 1.0)
    piece = prompt.replace(sequences=xp.maximum(prompt.sequences / chunks, 1.0), queries=queries)
    context = prompt.context + 0.5 * (prompt.all_queries - piece.all_queries)
    chunk = Iteration.of(case.model, piece.replace(context=context))
    whole = iter(case.model.cores(prompt))
    layers = tuple(
        dataclasses.replace(op, n=next(whole).n) if op.kind is Kind.ATTENTION else op
        for op in chunk.layers
    )
    return dataclasses.replace(chunk, layers=layers)


def decode_step(case: Scenario, prompt: Step, context: Scalar) -> Step:
    """The new tokens of one decode iteration: one of each request, or those of beams and drafts.

    Arguments:
        case: the scenario.
        prompt: the prompts of the requests.
        context: tokens of each sequence before the new ones.
    """
    serving = case.serving
    sequences = prompt.sequences if serving.beams is None else prompt.sequences * serving.beams
    queries = 1.0 if serving.speculation is None else 1 + serving.speculation.drafts
    return prompt.replace(
        sequences=sequences,
        queries=queries,
        context=context,
        decoding=True,
        shared=prompt.shared.in_common(),
        routing=case.routing.in_decode(),
    )


def decode_cores(case: Scenario, step: Step) -> tuple[Operator, ...]:
    """The operators of one decode step that depend on the context: attention of all layers.

    With b beams, attention keeps and reads the prompt's keys and values once per request, and
    those generated since once per beam:

        bytes = cache(whole context) + (b - 1) cache(generated tokens)

    Under a sliding window each term is what the window still holds.

    Arguments:
        case: the scenario.
        step: the decode step.
    """
    operators, beams = case.model.cores(step), case.serving.beams
    if beams is None:
        return operators
    one = step.replace(sequences=step.sequences / beams)
    further = step.replace(
        sequences=step.sequences - one.sequences,
        context=step.context - case.workload.input_tokens,
    )
    parts = zip(operators, case.model.cores(one), case.model.cores(further), strict=True)
    return tuple(
        dataclasses.replace(
            op,
            kernel="",  # measured kernels read every sequence for itself
            shape=None,
            kv_cache=whole.kv_cache + generated.kv_cache,
            cached=whole.cached + generated.cached,
        )
        for op, whole, generated in parts
    )


def decode(case: Scenario, prompt: Step) -> Iteration:
    """One decode iteration of some requests, averaged over the generation.

    The mean is taken by Gauss-Legendre quadrature in the context length. Only attention depends on
    it, so only attention is evaluated at every node, with the node's weight.

    Arguments:
        case: the scenario.
        prompt: the prompts of the requests.
    """
    workload = case.workload
    steps = [
        decode_step(case, prompt, workload.input_tokens + workload.output_tokens * node)
        for node, _ in QUADRATURE
    ]
    first = verification(case, steps[0])
    varying = tuple(
        op.times(weight)
        for step, (_, weight) in zip(steps, QUADRATURE, strict=True)
        for op in decode_cores(case, step)
    )
    return dataclasses.replace(first, layers=_without_cores(first.layers) + varying)


def verification(case: Scenario, step: Step) -> Iteration:
    """The iteration of a decode step, with logits for all its new tokens where they are drafts.

    Arguments:
        case: the scenario.
        step: the decode step.
    """
    drafted = case.serving.speculation is not None
    return Iteration.of(case.model, step, sampled=step.tokens if drafted else None)


def _without_cores(operators: tuple[Operator, ...]) -> tuple[Operator, ...]:
    return tuple(op for op in operators if op.kind is not Kind.ATTENTION)


def mixed(
    model: Model, prompt: Step, prefill: Iteration, decode: Iteration, routing: Routing
) -> Iteration:
    """Prompt tokens and running decodes in one iteration (continuous batching).

    Operators that both have in common run once, over the tokens of both, and read their weights
    once. Operators that work on each sequence's own cache or state (attention, convolutions and
    scans) run for each, and so do those that latent attention needs in one of the two only.

    Arguments:
        model: the model that is computed.
        prompt: a step of the same plan and formats.
        prefill: the iteration of the prompt tokens alone.
        decode: the iteration of the decodes alone.
        routing: which experts the tokens of both go to.
    """
    tokens = prefill.tokens + decode.tokens
    shared = prompt.shared.mixed(prefill.tokens, decode.tokens)
    together = routing.in_both(prefill.tokens, decode.tokens)
    step = prompt.replace(sequences=tokens, queries=1.0, shared=shared, routing=together)
    both = Iteration.of(model, step, sampled=prefill.sampled + decode.sampled)
    common = {op.name for op in prefill.layers} & {op.name for op in decode.layers}

    def own(op: Operator) -> bool:
        return op.sees_sequences or op.name not in common

    once = tuple(op for op in both.layers if not own(op))
    rest = tuple(op for op in prefill.layers + decode.layers if own(op))
    return dataclasses.replace(both, layers=once + rest)


class Prompts(Tree):
    """Prompt tokens that one iteration computes.

    Arguments:
        sequences: prompts, or pieces of prompts, over all attention groups of a replica.
        tokens: new tokens of each.
        context: tokens of each that are in the KV cache already.
    """

    sequences: Scalar | float
    tokens: Scalar | float
    context: Scalar | float = 0.0


class Decodes(Tree):
    """Running requests of which one iteration computes the next token (or verifies the drafts).

    Arguments:
        sequences: requests, over all attention groups of a replica.
        context: the mean number of tokens that a request has in the KV cache.
    """

    sequences: Scalar | float
    context: Scalar | float


def any_mix(case: Scenario, prompts: Prompts | None, decodes: Decodes | None) -> Iteration:
    """One iteration of any mix of prompt tokens and running decodes.

    Requests need not be whole numbers: they are shared by the attention groups without rounding.

    Arguments:
        case: the scenario.
        prompts: prompt tokens; None: there are none.
        decodes: running requests; None: there are none.
    """
    plan = case.plan

    def step(sequences: Scalar | float, queries: Scalar | float, context: Scalar | float) -> Step:
        mine = xp.asarray(sequences, float) / plan.attention_data
        queries = plan.share(xp.asarray(queries, float))
        return _step(case, mine, queries, xp.asarray(context, float))

    iterations = []
    if prompts is not None:
        chunk = step(prompts.sequences, prompts.tokens, prompts.context)
        iterations.append(Iteration.of(case.model, chunk))
    if decodes is not None:
        running = decode_step(
            case, step(decodes.sequences, 1.0, 0.0), xp.asarray(decodes.context, float)
        )
        alone = verification(case, running)
        layers = _without_cores(alone.layers) + decode_cores(case, running)
        iterations.append(dataclasses.replace(alone, layers=layers))
    if len(iterations) == 1:
        return iterations[0]
    first, running = iterations
    return mixed(case.model, step(1.0, 1.0, 0.0), first, running, case.routing)
