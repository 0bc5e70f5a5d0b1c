"""Every way to lay a model out on all accelerators of a platform."""

import numpy as np

from diffgenz.hardware import Platform
from diffgenz.models.model import Model
from diffgenz.workload import Parallelism


def plans(model: Model, platform: Platform) -> Parallelism:
    """All plans of `model` that use all accelerators of `platform`, as one batch: every field has shape (plans,).

    tensor x attention_data x pipeline x data is the number of accelerators, tensor at most the model's heads, pipeline at most its
    layers, expert divides tensor x attention_data and the model's experts; without experts, expert and attention_data are 1.
    """
    total, heads, layers = int(platform.accelerators), float(model.most_shards), int(model.layers)
    experts = [int(count) for count in model.experts]
    rows = [
        (tensor, pipeline, total // (tensor * attention * pipeline), expert, attention)
        for tensor in _divisors(total)
        if tensor <= heads
        for attention in (_divisors(total // tensor) if experts else [1])
        for pipeline in _divisors(total // (tensor * attention))
        if pipeline <= layers
        for expert in (_divisors(tensor * attention) if experts else [1])
        if all(count % expert == 0 for count in experts)
    ]
    tensor, pipeline, data, expert, attention = np.array(rows, dtype=float).T
    return Parallelism(tensor, pipeline, data, np.zeros(len(rows)), expert, attention)


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]
