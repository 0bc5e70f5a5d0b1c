"""What makes a scenario fit on the accelerators that it has."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from diffgenz.core.errors import InputError
from diffgenz.core.leaves import with_parts
from diffgenz.inference.estimate import Estimate, estimate
from diffgenz.operators.precision import Precision
from diffgenz.scenario.engines.engine import Ranks
from diffgenz.scenario.engines.refusals import layout_accepted
from diffgenz.scenario.scenario import Scenario

_CHUNKS = (8192, 2048)

Change = Callable[[Scenario], Scenario]


class Remedy(NamedTuple):
    """A scenario that fits where another does not.

    Arguments:
        options: what is different, as flags of the command line.
        scenario: the scenario.
        result: its estimate.
    """

    options: str
    scenario: Scenario
    result: Estimate


def remedy(case: Scenario) -> Remedy | None:
    """The first option, or pair of options, with which a scenario fits on its accelerators.

    Smaller chunks of prompts are tried first, then layouts (attention groups with requests of their
    own, all accelerators), then a KV cache in fp8, then pairs of these. Groups of experts alone
    change nothing: their ranks share features where they do not share experts. Layouts that no
    engine accepts are not proposed.

    Arguments:
        case: a scenario that does not fit.

    Returns:
        What fits; None where nothing of it does.
    """
    options = dict(_options(case))
    pairs = itertools.combinations(options, 2)
    for chosen in (*((name,) for name in options), *pairs):
        changed = case
        try:
            for name in chosen:
                changed = options[name](changed)
        except InputError:  # a layout that the model or the accelerators do not have
            continue
        if not _proposable(case, changed):
            continue
        result = estimate(changed)
        if bool(result.memory.fits):
            return Remedy(" ".join(chosen), changed, result)
    return None


def _proposable(case: Scenario, changed: Scenario) -> bool:
    """Whether an engine accepts a layout that is not the scenario's own."""
    ranks = Ranks.of(changed.plan)
    own = ranks == Ranks.of(case.plan)
    return own or layout_accepted(changed.model, ranks, changed.precision)


def _options(case: Scenario) -> Iterator[tuple[str, Change]]:
    """The options that a scenario does not use yet, by their flags."""
    plan, chunk = case.plan, case.serving.chunk
    tensor, stage, data = int(plan.tensor), int(plan.stage), int(plan.data)
    for size in _CHUNKS:
        if chunk is None or size < chunk:
            yield f"--chunk {size}", lambda case, size=size: _chunked(case, size)
    if case.model.experts and tensor > 1:
        groups = int(plan.attention_data) * tensor
        expert = math.gcd(stage, *(int(experts) for experts in case.model.experts))
        ranks = {"tensor": 1, "attention_data": groups, "expert": expert}
        flags = f"--tp 1 --attention-dp {groups} --ep {expert}"
        yield flags, lambda case: _laid_out(case, **ranks)
    spread = data * (int(case.platform.accelerators) // int(plan.ranks))
    if spread > 1:
        more = tensor * spread
        yield f"--tp {more} --dp 1", lambda case: _laid_out(case, tensor=more, data=1)
    if case.precision.gear is None and case.precision.kv_cache_size > 1:
        yield "--kv-cache fp8", _narrow_cache


def _chunked(case: Scenario, size: int) -> Scenario:
    return case.replace(serving=case.serving.replace(chunk=size))


def _laid_out(case: Scenario, **ranks: int) -> Scenario:
    return case.replace(plan=case.plan.replace(**ranks))


def _narrow_cache(case: Scenario) -> Scenario:
    own = Precision(kv_cache="fp8")
    parts = {"precision.kv_cache": own.kv_cache, "precision.kv_cache_size": own.kv_cache_size}
    return with_parts(case, parts)
