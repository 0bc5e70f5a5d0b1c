"""What proposing drafts adds to an iteration under load, as `estimate` counts it.

Whatever drafts has prefilled the prompts, too, and proposes token by token before each
verification, for all running requests at once.
"""

from diffgenz.core.smooth import Scalar
from diffgenz.inference.iteration_cost import cost_of
from diffgenz.inference.jobs import draft_of
from diffgenz.inference.prefill_decode import Decodes, Prompts
from diffgenz.inference.resolved import Resolved
from diffgenz.scenario.scenario import prompted
from diffgenz.scenario.serving_options import MTP


def drafting_seconds(
    question: Resolved, prompts: Prompts | None, decodes: Decodes | None
) -> Scalar | float:
    """Seconds that drafting adds to an iteration.

    Arguments:
        question: the scenario.
        prompts: prompt tokens of the iteration.
        decodes: running requests.
    """
    case = prompted(question.case)
    speculation, its = case.serving.speculation, draft_of(case)
    if speculation is None or its is None:
        return 0.0
    execution = question.execution if question.draft is None else question.draft
    draft = Resolved(its, execution, None)
    groups = 1.0 if isinstance(speculation.draft, MTP) else case.plan.attention_data
    found = 0.0
    if prompts is not None:
        own = Prompts(prompts.sequences / groups, prompts.tokens, prompts.context)
        found = found + cost_of(draft, own, None).seconds
    if decodes is not None:
        own = Decodes(decodes.sequences / groups, decodes.context)
        found = found + speculation.drafts * cost_of(draft, None, own).seconds
    return found
