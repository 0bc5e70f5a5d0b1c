"""Every way to lay a model out on all accelerators of a platform."""

import numpy as np

from diffgenz.core.checks import demand
from diffgenz.hardware.platform import Platform
from diffgenz.models.model import Model
from diffgenz.scenario.parallelism import Parallelism


def plans(model: Model, platform: Platform) -> Parallelism:
    """All plans of a model that use all accelerators of a platform, as one batch.

    The product tensor x context x attention_data x pipeline x data is the number of accelerators.
    There are at most as many tensor ranks as the model has heads, and at most as many stages as it
    has layers. `expert` divides tensor x context x attention_data and the model's experts; without
    experts, `expert` and `attention_data` are 1. Where the model keeps states, `context` is None.

    Returns:
        a plan of which every field has shape (plans,).
    """
    demand("model", model, Model, Model.written)
    demand("platform", platform, Platform, Platform.written)
    total, heads, layers = int(platform.accelerators), float(model.most_shards), int(model.layers)
    experts = [int(count) for count in model.experts]
    rows = [
        (tensor, pipeline, expert, attention, context)
        for tensor in _divisors(total)
        if tensor <= heads
        for context in ([1] if model.keeps_state else _divisors(total // tensor))
        for attention in (_divisors(total // (tensor * context)) if experts else [1])
        for pipeline in _divisors(total // (tensor * context * attention))
        if pipeline <= layers
        for expert in (_divisors(tensor * context * attention) if experts else [1])
        if all(count % expert == 0 for count in experts)
    ]
    tensor, pipeline, expert, attention, context = np.array(rows, dtype=float).T
    return Parallelism(
        tensor,
        pipeline,
        data=total / (tensor * context * attention * pipeline),
        overlap=np.zeros(len(rows)),
        expert=expert,
        attention_data=attention,
        context=None if model.keeps_state else context,
    )


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]
