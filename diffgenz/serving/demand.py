"""What one request asks of an engine, in moments of its lengths."""

from typing import Any

from diffgenz.core import xp
from diffgenz.core.smooth import Scalar
from diffgenz.core.tree import Tree
from diffgenz.scenario.scenario import Scenario, prompted
from diffgenz.serving.lengths import Nodes
from diffgenz.serving.load import Load


class Demand(Tree):
    """Requests of one load.

    Arguments:
        prompts: new tokens of prompts, those that are cached left out.
        outputs: tokens of answers.
        prompt: new tokens of a prompt, in the mean.
        steps: decode iterations of a request, in the mean: output tokens - 1, since the first comes
            of the prefill.
        cached: tokens of a prompt that are cached, in the mean over new tokens.
        pairs_of: pairs of a query and a key in the attention of the prompt of each node.
        pairs: keys that a new token of a prompt attends to, in the mean.
        context: tokens in the cache of a running request, in the mean over decode iterations.
        most: tokens of the longest request at its end.
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
        apart = self.outputs.tokens - 1 - self.steps
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
    left = outputs.tokens - 1
    left = xp.where(left > 0.0, left, 0.0)
    steps = outputs.mean(left)
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
        context=whole + outputs.mean(left * outputs.tokens) / (2 * steps),
        most=asked.tokens.max() + outputs.tokens.max(),
    )
