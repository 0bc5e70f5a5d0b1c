"""The fewest accelerators on which an engine holds a model and its requests."""

import math
from itertools import product

import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool

from diffgenz.core import xp
from diffgenz.core.smooth import Flag, as_leaf
from diffgenz.core.verb import verb
from diffgenz.inference.jobs import jobs_of
from diffgenz.inference.resolved import Resolved, resolved
from diffgenz.scenario.engines.engine import Ranks
from diffgenz.scenario.engines.refusals import layout_accepted
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.scenario import Scenario
from diffgenz.scenario.serving_options import Draft


def smallest_layout(case: Scenario, data: int = 1) -> Scenario | None:
    """The scenario on the fewest accelerators that hold it, or None where no number of them does.

    Tensor ranks inside the innermost network level, stages and context ranks are tried in powers
    of two. Context ranks come last: only they share the KV cache of a layer beyond its heads. A
    draft model on the same accelerators needs as many ranks as it has. A layout that no engine
    accepts (`scenario.engines`) is proposed only where none that one accepts is large enough.

    Arguments:
        case: the question. Its plan and its number of accelerators do not count.
        data: replicas.
    """
    ranks = _candidates(case, data)
    if not ranks:
        return None
    tensor, pipeline, context = (
        as_leaf(np.array(column, dtype=float)) for column in zip(*ranks, strict=True)
    )
    plans = Parallelism(
        tensor,
        pipeline,
        np.full_like(tensor, data),
        overlap=np.zeros_like(tensor),
        expert=np.ones_like(tensor),
        attention_data=np.ones_like(tensor),
        context=None if case.model.keeps_state else context,
    )
    fitting = np.flatnonzero(np.asarray(_fit(resolved(case), plans))).tolist()
    if not fitting:
        return None
    first = next((each for each in fitting if _accepted(case, ranks[each], data)), fitting[0])
    tensor_ranks, stages, context_ranks = ranks[first]
    plan = Parallelism(tensor_ranks, stages, data, context=context_ranks)
    platform = case.platform.replace(accelerators=float(plan.ranks))
    return case.replace(platform=platform, plan=plan)


def _accepted(case: Scenario, ranks: tuple[int, int, int], data: int) -> bool:
    """Whether an engine accepts tensor ranks, stages and context ranks."""
    tensor, pipeline, context = ranks
    return layout_accepted(case.model, Ranks(tensor, context, 1, pipeline, data, 1), case.precision)


def _candidates(case: Scenario, data: int) -> list[tuple[int, int, int]]:
    """Tensor ranks, stages and context ranks to try, those of fewest accelerators first."""
    model, network, draft = case.model, case.platform.network, case.serving.draft
    inner, connected = (int(network[0].size), int(network[-1].size)) if network else (1, 1)
    most_tensor, layers = int(min(model.most_shards, inner)), int(model.layers)
    most_context = 1 if model.keeps_state else connected
    powers = [
        [2**n for n in range(most.bit_length())] for most in (most_tensor, layers, most_context)
    ]
    least = float(draft.tensor) if isinstance(draft, Draft) and draft.platform is None else 1
    found = [each for each in product(*powers) if least <= math.prod(each) <= connected // data]
    return sorted(found, key=lambda each: (math.prod(each), each[2], each[1]))


@verb
def _fit(question: Resolved, plans: Parallelism) -> Bool[Array | np.ndarray, "plans"]:
    def one(question: Resolved, plan: Parallelism) -> Flag:
        return jobs_of(eqx.tree_at(lambda q: q.case.plan, question, plan)).memory.fits

    return xp.mapped(one, (None, 0))(question, plans)
