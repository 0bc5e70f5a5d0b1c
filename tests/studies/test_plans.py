"""Plans: every way to use all accelerators that a model allows, and no other."""

import math
from itertools import product

import numpy as np
from support import make_cluster

from diffgenz import load_model, plans

POWERS = (1, 2, 4, 8)


def ranks_of(every, *names):
    """The plans of a batch as a set of tuples of ranks."""
    columns = (np.asarray(getattr(every, name), int).tolist() for name in names)
    return set(zip(*columns, strict=True))


def test_plans_are_all_factorisations_of_the_accelerators():
    every = plans(load_model("meta-llama/Llama-3.1-8B"), make_cluster(8))
    rows = ranks_of(every, "tensor", "context", "pipeline", "data")
    assert rows == {row for row in product(POWERS, repeat=4) if math.prod(row) == 8}
    sparse = plans(load_model("mistralai/Mixtral-8x7B-v0.1"), make_cluster(8))
    rows = ranks_of(sparse, "tensor", "context", "attention_data", "pipeline", "data", "expert")
    assert rows == {
        row
        for row in product(POWERS, repeat=6)
        if math.prod(row[:5]) == 8 and math.prod(row[:3]) % row[5] == 0
    }


def test_no_plan_shares_the_sequences_of_a_model_with_states():
    every = plans(load_model("state-spaces/mamba-2.8b-hf"), make_cluster(8))
    assert every.context is None
    assert ranks_of(every, "tensor", "pipeline", "data") == {
        row for row in product(POWERS, repeat=3) if math.prod(row) == 8
    }


def test_no_plan_has_more_stages_than_layers_or_ranks_than_heads():
    model = load_model("Qwen/Qwen2.5-0.5B")  # 14 heads, 24 layers
    every = plans(model, make_cluster(64))
    assert every.tensor.max() == 8
    assert every.pipeline.max() == 16
    assert set(np.asarray(every.ranks, int).tolist()) == {64}
