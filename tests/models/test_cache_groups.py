"""The groups of layers that vLLM makes of several kinds of caches, by its rule."""

import pytest
from support import assert_close

from diffgenz import load_model
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.mamba import Mamba2
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.cache_groups import padded_caches
from diffgenz.models.model import Model, Repeated

HEADS = {"heads": 8, "kv_heads": 2, "head_dim": 64}
FULL, WINDOWED = Attention(**HEADS), Attention(**HEADS, window=256)
SHARED = Attention(**HEADS, window=256, borrows_cache=True)
STATES = Mamba2(heads=8, head_dim=64, groups=1, state=16, chunk=64)


def padded(*counts):
    """Layers of each block, and the factor of states, after padding."""
    blocks = (*(Repeated(*each) for each in counts), Repeated(MLP(512), 8))
    model, states = padded_caches(Model("small", 512, 1000, blocks))
    assert float(model.blocks[-1].count) == 8
    return [float(each.count) for each in model.blocks[:-1]], float(states)


@pytest.mark.parametrize(
    ("full", "windowed", "groups"),
    [
        (10, 20, (10, 20)),  # groups of 10
        (10, 52, (10, 60)),  # six groups of windows, the last with padding
        (12, 13, (13, 13)),  # alike: groups of the most
        (12, 17, (17, 17)),
        (12, 18, (12, 24)),  # half as many again: groups of the fewest
        (30, 5, (30, 5)),
        (31, 5, (35, 5)),
    ],
)
def test_each_kind_fills_whole_groups(full, windowed, groups):
    assert padded((FULL, full), (WINDOWED, windowed)) == (list(groups), 1.0)


def test_blocks_of_one_kind_are_counted_together():
    other = Attention(**HEADS, window=512)
    layers, _ = padded((FULL, 4), (WINDOWED, 5), (other, 5))
    assert_close(layers, [4, 6, 6], rtol=1e-6)  # 10 windows in three groups of 4


def test_states_are_a_kind():
    layers, states = padded((FULL, 4), (STATES, 27))
    assert layers == [4, 28]
    assert_close(states, 28 / 27, rtol=1e-6)


def test_layers_without_a_cache_of_their_own_are_none():
    assert padded((FULL, 3), (SHARED, 5)) == ([3, 5], 1.0)


def test_models_of_one_kind_are_left_alone():
    model = load_model("meta-llama/Llama-3.1-8B")
    assert padded_caches(model)[0] is model
