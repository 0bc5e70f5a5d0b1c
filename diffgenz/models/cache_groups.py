"""How vLLM pads the caches of models that have several kinds of them.

Full attention, windows and states keep different numbers of tokens. vLLM puts the layers of each
kind into groups of equally many, so that all groups draw blocks from one pool. The size of a group
is the smallest number of layers of a kind, or the largest where that is less than half as many
again; the last group of a kind is filled up with layers that keep nothing of use
(`_get_kv_cache_groups_uniform_page_size` of vllm/v1/core/kv_cache_utils.py, vLLM 0.11 and later).
Gemma 3 27B, with 10 full and 52 windowed layers, has 1 + 6 groups of 10: memory for 70 layers.
"""

import functools

from diffgenz.core import xp
from diffgenz.core.leaves import with_parts
from diffgenz.core.smooth import Scalar
from diffgenz.models.blocks.block import Cache
from diffgenz.models.model import Model

_CLOSE = 1.5  # most layers of a kind over fewest, below which groups take the most


def padded_caches(model: Model) -> tuple[Model, Scalar | float]:
    """The model with as many layers of each kind of cache as vLLM has memory for.

    The padding is constant under differentiation.

    Arguments:
        model: the model.

    Returns:
        The model, and the factor by which its states are padded.
    """
    kinds = [repeated.block.cache for repeated in model.blocks]
    layers = {
        kind: sum(
            (each.count for each, its in zip(model.blocks, kinds, strict=True) if its is kind),
            start=xp.zeros(()),
        )
        for kind in Cache
        if kind in kinds
    }
    if len(layers) < 2:
        return model, 1.0
    counts = list(layers.values())
    fewest, most = functools.reduce(xp.minimum, counts), functools.reduce(xp.maximum, counts)
    group = xp.where(most < _CLOSE * fewest, most, fewest)
    padding = {
        kind: xp.stop_gradient(xp.ceil(count / group) * group / count)
        for kind, count in layers.items()
    }
    blocks = tuple(
        with_parts(each, {"count": each.count * padding[kind]}) if kind in padding else each
        for each, kind in zip(model.blocks, kinds, strict=True)
    )
    return with_parts(model, {"blocks": blocks}), padding.get(Cache.STATE, 1.0)
