"""What one request asks of an engine, in moments of its lengths."""

from typing import Any

import numpy as np

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar
from diffgenz.core.tree import Tree
from diffgenz.scenario.scenario import Scenario, prompted
from diffgenz.scenario.serving_options import Speculation
from diffgenz.serving.lengths import Nodes
from diffgenz.serving.load import Load

_MOST_DRAFTS = 64
"""Drafts beyond which hardly any is accepted."""


class Verifying(Tree):
    """What a decode iteration gives where it verifies drafts.

    Arguments:
        queries: tokens of a request that it computes: its drafts and one more.
        tokens: those of them that are accepted, in the mean.
        square: the mean of their square.
    """

    queries: Scalar
    tokens: Scalar
    square: Scalar

    @classmethod
    def of(cls, speculation: Speculation) -> "Verifying":
        """That of a scenario: k tokens or more have the probability a^(k - 1), up to d + 1."""
        queries, accepted = speculation.drafts + 1, speculation.acceptance
        at = np.arange(1.0, _MOST_DRAFTS + 1)
        there = queries - at + 1
        there = xp.where(there < 1, xp.where(there > 0, there, 0.0), 1.0)
        square = (there * (2 * at - 1) * accepted ** (at - 1)).sum(-1)
        return cls(queries, speculation.tokens, square)

    @property
    def variation(self) -> Scalar:
        """The squared coefficient of variation of the tokens of an iteration."""
        return self.square / (self.tokens * self.tokens) - 1

    def rounds(self, tokens: Any) -> Any:
        """Iterations until so many tokens are there, the last of which may give more than needed.

        What it gives too much is, as of any renewal, (E[Y^2] / E[Y] - 1) / 2 of Y tokens each.
        """
        beyond = (self.square / self.tokens - 1) / 2
        rounds = (tokens + beyond) / self.tokens
        return xp.where(tokens > 0, xp.where(rounds > 1.0, rounds, 1.0), 0.0)


class Demand(Tree):
    """Requests of one load.

    Arguments:
        prompts: new tokens of prompts, those that are cached left out.
        outputs: tokens of answers.
        prompt: new tokens of a prompt, in the mean.
        steps: decode iterations of a request, in the mean: output tokens - 1, since the first comes
            of the prefill, or as many as verify so many tokens.
        cached: tokens of a prompt that are cached, in the mean over new tokens.
        pairs_of: pairs of a query and a key in the attention of the prompt of each node.
        pairs: keys that a new token of a prompt attends to, in the mean.
        context: tokens in the cache of a running request, in the mean over decode iterations.
        most: tokens of the longest request at its end.
        verifying: what a decode iteration gives with speculation. None: a token of each request.
    """

    prompts: Nodes
    outputs: Nodes
    prompt: Scalar
    steps: Scalar
    cached: Scalar
    pairs_of: Any
    pairs: Scalar
    context: Scalar
    most: Scalar
    verifying: Verifying | None = None

    @property
    def rounds(self) -> Any:
        """Decode iterations of the answer of each node."""
        left = _at_least_none(self.outputs.tokens - 1)
        return left if self.verifying is None else self.verifying.rounds(left)

    @property
    def generated(self) -> Scalar:
        """Tokens of an answer after the first, in the mean."""
        return self.outputs.mean(_at_least_none(self.outputs.tokens - 1))

    @property
    def pace(self) -> Scalar:
        """Tokens that a request gains in a decode iteration."""
        return self.generated / self.steps

    @property
    def queries(self) -> Scalar | float:
        """Tokens of a decode in an iteration."""
        return 1.0 if self.verifying is None else self.verifying.queries

    @property
    def whole(self) -> Scalar:
        """New tokens of a prompt of which each has `pairs` keys in the mean."""
        return 2 * (self.pairs - self.cached)

    @property
    def extra_pairs(self) -> Any:
        """Pairs of the prompt of each node, beyond `pairs` for each of its tokens."""
        return self.pairs_of - self.pairs * self.prompts.tokens

    @property
    def output_variation(self) -> Scalar:
        """The squared coefficient of variation of decode iterations."""
        apart = self.rounds - self.steps
        return self.outputs.mean(apart * apart) / (self.steps * self.steps)

    @property
    def prompt_variation(self) -> Scalar:
        """The squared coefficient of variation of new prompt tokens."""
        apart = self.prompts.tokens - self.prompt
        return self.prompts.mean(apart * apart) / (self.prompt * self.prompt)


def demand_of(case: Scenario, load: Load, fine: bool = False) -> Demand:
    """The requests of a load.

    Arguments:
        case: the scenario, of which the workload's tokens and the prefix hit count.
        load: the load.
        fine: whether lengths are told apart finely in the tail.
    """
    workload = prompted(case).workload
    kind = "quantiles" if fine else "nodes"
    asked: Nodes = getattr(load.prompts, kind)(workload.input_tokens)
    outputs: Nodes = getattr(load.outputs, kind)(workload.output_tokens)
    hit = 0.0 if case.serving.prefix_hit is None else case.serving.prefix_hit
    new = (1 - hit) * asked.tokens
    new = xp.where(new > 1.0, new, 1.0)
    prompts = Nodes(new, asked.weights)
    prompt, whole = prompts.mean(new), asked.mean(asked.tokens)
    speculation = case.serving.speculation
    verifying = None if speculation is None else Verifying.of(speculation)
    left = _at_least_none(outputs.tokens - 1)
    rounds = left if verifying is None else verifying.rounds(left)
    steps = outputs.mean(rounds)
    cached = prompts.mean(new * (asked.tokens - new)) / prompt
    pairs_of = new * (asked.tokens - new + new / 2)
    return Demand(
        prompts=prompts,
        outputs=outputs,
        prompt=prompt,
        steps=steps,
        cached=cached,
        pairs_of=pairs_of,
        pairs=prompts.mean(pairs_of) / prompt,
        context=whole + outputs.mean(rounds * outputs.tokens) / (2 * steps),
        most=asked.tokens.max() + outputs.tokens.max(),
        verifying=verifying,
    )


def _at_least_none(x: Any) -> Any:
    return xp.where(x > 0.0, x, 0.0)
