"""Models as records: counts by hand, and what they refuse."""

import jax
import jax.numpy as jnp
import pytest
from small_llama import SMALL_PARAMETERS, small
from support import assert_close

from diffgenz.core.errors import InputError
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.model import Model, Repeated
from diffgenz.operators.precision import Precision
from diffgenz.operators.step import Step


def test_parameters_by_hand():
    assert float(small().parameters) == SMALL_PARAMETERS
    assert float(small().active_parameters) == SMALL_PARAMETERS


def test_a_tied_head_adds_no_weights():
    assert float(small(tie_word_embeddings=True).parameters) == SMALL_PARAMETERS - 1000 * 64


def test_a_tied_head_is_still_read(llama_8b):
    step = Step(1.0, 1.0, 0.0, 1.0, Precision())
    assert [
        float(small(tie_word_embeddings=tied).head_operators(step)[1].traffic)
        for tied in (True, False)
    ] == [2 * (1000 * 64 + 64 + 1000)] * 2


@pytest.mark.parametrize(("ranks", "expected"), [(1, 32), (4, 8), (8, 4), (16, 4), (32, 4)])
def test_kv_heads_fewer_than_ranks_are_replicated(ranks, expected, llama_8b):
    """Llama 3.1 8B keeps 8 KV heads of 128 in each of 32 layers: per token 4 kB each, never less
    than one."""
    step = Step(1.0, 1.0, 0.0, 1 / ranks, Precision())
    held = sum(op.repeats * op.cached for op in llama_8b.layer_operators(step))
    assert float(held) == max(8 / ranks, 1) * 2 * 128 * 2 * 32


def test_ranks_share_the_weights_but_not_the_norms(llama_8b):
    def kept(ranks):
        step = Step(1.0, 1.0, 0.0, 1 / ranks, Precision())
        return {
            op.name: float(op.parameters)
            for op in (*llama_8b.layer_operators(step), *llama_8b.head_operators(step))
        }

    one, eight = kept(1), kept(8)
    assert {name: one[name] / eight[name] for name in one if one[name]} == {
        "norm": 1, "qkv": 8, "attention_out": 8, "gate_up": 8, "down": 8, "lm_head": 8,
    }  # fmt: skip


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("field", "build"),
    [
        ("hidden", lambda value: small().replace(hidden=value)),
        ("vocabulary", lambda value: small().replace(vocabulary=value)),
        ("heads", lambda value: Attention(heads=value, kv_heads=2, head_dim=16)),
        ("kv_heads", lambda value: Attention(heads=4, kv_heads=value, head_dim=16)),
        ("head_dim", lambda value: Attention(heads=4, kv_heads=2, head_dim=value)),
        ("window", lambda value: Attention(heads=4, kv_heads=2, head_dim=16, window=value)),
        ("intermediate", lambda value: MLP(intermediate=value)),
    ],
)
def test_a_bad_number_is_refused_by_field_and_value(field, build, value):
    with pytest.raises(InputError, match=f"{field}: {value:g} is not allowed"):
        build(value)


def test_a_model_without_token_mixing_is_refused():
    with pytest.raises(InputError, match="blocks: .*mixes tokens"):
        Model("m", 64, 1000, (Repeated(MLP(128), 2),))


def test_sizes_batch():
    widths = jnp.array([64.0, 128.0, 256.0])
    counts = jax.vmap(lambda hidden: small().replace(hidden=hidden).parameters)(widths)
    assert_close(
        counts,
        [float(small(hidden_size=int(width), head_dim=16).parameters) for width in widths],
        1e-7,
    )
