"""Every way to lay a model out on all accelerators of a platform."""

import numpy as np

from diffgenz.hardware.platform import Platform
from diffgenz.models.model import Model
from diffgenz.scenario.parallelism import Parallelism


def plans(model: Model, platform: Platform) -> Parallelism:
    """All plans of `model` that use all accelerators of `platform`, as one batch: every field has shape (plans,).

    tensor x context x attention_data x pipeline x data is the number of accelerators, tensor at most the model's heads, pipeline at most its
    layers, expert divides tensor x context x attention_data and the model's experts; without experts, expert and attention_data are 1.
    context is 1, and None, where the model keeps states.
    """
    total, heads, layers = int(platform.accelerators), float(model.most_shards), int(model.layers)
    experts = [int(count) for count in model.experts]
    rows = [
        (
            tensor,
            pipeline,
            total // (tensor * context * attention * pipeline),
            expert,
            attention,
            context,
        )
        for tensor in _divisors(total)
        if tensor <= heads
        for context in ([1] if model.keeps_state else _divisors(total // tensor))
        for attention in (_divisors(total // (tensor * context)) if experts else [1])
        for pipeline in _divisors(total // (tensor * context * attention))
        if pipeline <= layers
        for expert in (_divisors(tensor * context * attention) if experts else [1])
        if all(count % expert == 0 for count in experts)
    ]
    tensor, pipeline, data, expert, attention, context = np.array(rows, dtype=float).T
    return Parallelism(
        tensor,
        pipeline,
        data,
        np.zeros(len(rows)),
        expert,
        attention,
        None if model.keeps_state else context,
    )


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]
