"""The iterations of a served model, and the KV cache that its requests keep in memory."""

from diffgenz.core import xp
from diffgenz.core.leaves import with_parts
from diffgenz.core.smooth import Scalar, share_of
from diffgenz.core.tree import Tree
from diffgenz.inference.iteration import Iteration
from diffgenz.inference.prefill_decode import (
    chunk_count,
    decode,
    decode_cores,
    decode_step,
    mixed,
    prefill,
    prompt_step,
)
from diffgenz.models.cache_groups import padded_caches
from diffgenz.operators.operator import Kind, Operator
from diffgenz.scenario.scenario import Scenario


class Served(Tree):
    """The iterations of some requests of a scenario, each built once, and the cache of them all.

    Arguments:
        prefill: the iteration that prefills their prompts, or one of the `chunks` of these.
        decode: one decode iteration, averaged over the generation.
        mixed: a chunk of prompts beside the running decodes; None where nobody asks for it.
        chunks: prefill iterations; None: one.
        cache: B of KV cache or state that each rank keeps for all layers, at full length. A window
            keeps what vLLM sets aside for a request: min(length, window - 1 + chunk) tokens, and
            layers are padded as `models.cache_groups` says.
    """

    prefill: Iteration
    decode: Iteration
    mixed: Iteration | None
    chunks: Scalar | None
    cache: Scalar

    @classmethod
    def of(
        cls, case: Scenario, sequences: Scalar, kept: Scalar, drafted: Scalar | float = 0.0
    ) -> "Served":
        """The iterations and the cache of some requests.

        Arguments:
            case: the scenario, whose images are part of the prompt.
            sequences: requests of an iteration, of all attention groups that share them.
            kept: requests whose cache is kept, of the same groups.
            drafted: proposed tokens that the cache holds beside those of the context.
        """
        prompt = prompt_step(case, sequences)
        chunks = chunk_count(case, prompt)
        first, decoding = prefill(case, prompt), decode(case, prompt)
        length = case.workload.input_tokens + case.workload.output_tokens - 1
        mine = share_of(kept, 1 / case.plan.attention_data, case.smooth_batch)
        chunk = case.serving.chunk
        ahead = case.workload.input_tokens if chunk is None else chunk
        last = decode_step(case, prompt.replace(sequences=mine, ahead=ahead - 1), length)
        if case.serving.speculation is None:
            last = last.replace(queries=last.queries + drafted)
        padded, state_padding = padded_caches(case.model)
        cache = _cached(decode_cores(with_parts(case, {"model": padded}), last))
        states = [
            op for op in decoding.layers if op.sees_sequences and op.kind is not Kind.ATTENTION
        ]
        if states:
            cache = cache + _cached(states) * (state_padding * (mine / prompt.sequences))
        both = None
        if case.serving.mixed:
            both = mixed(case.model, prompt, first, decoding, case.routing)
        return cls(first, decoding, both, chunks, cache)

    @property
    def widest(self) -> tuple[Iteration, ...]:
        """The iterations that may hold the most activations."""
        return (self.prefill, self.decode if self.mixed is None else self.mixed)


def _cached(operators: list[Operator] | tuple[Operator, ...]) -> Scalar:
    return sum((xp.asarray(op.repeats * op.cached) for op in operators), start=xp.zeros(()))
