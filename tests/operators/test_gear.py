"""GEAR: what a compressed KV cache costs, by hand, and how its name is read."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import as_double, assert_close, assert_finite

from diffgenz import (
    Gear,
    Parallelism,
    Scenario,
    Workload,
    estimate,
    load_model,
)
from diffgenz.core.errors import InputError
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.model import Model, Repeated
from diffgenz.operators.precision import Precision
from diffgenz.operators.step import Step

TINY = Model(
    "tiny",
    256,
    1000,
    (Repeated(Attention(heads=8, kv_heads=2, head_dim=32), 4), Repeated(MLP(intermediate=512), 4)),
)


def test_gear_by_hand():
    """2 KV heads of 32, keys and values, 3 sequences of 100 + 5 tokens: 16-bit outliers with 16-bit
    indices, factors of 4 columns in bf16."""
    precision = Precision(kv_cache=Gear("int4", outliers=0.05, rank=4))
    ops = {
        op.name: op
        for op in TINY.blocks[0].block.operators(TINY.hidden, Step(3.0, 5.0, 100.0, 1.0, precision))
    }
    token = 2 * 2 * 32 * (4 / 8 + 2 / 128) + 2 * 2 * (0.05 * 32 * (2 + 2) + 4 * 2)
    whole = 3 * (105 * token + 2 * 2 * 4 * 32 * 2)
    assert_close((ops["attention"].cached, ops["attention"].kv_cache), (whole, whole), rtol=1e-6)
    # pairs of a new token's head and a key, of which 5 x 100 are old
    pairs = 3 * 8 * (101 + 102 + 103 + 104 + 105)
    old = 3 * 8 * 5 * 100
    assert_close(ops["attention"].flops, 4 * 32 * pairs + 4 * old * (0.05 * 32 + 4), rtol=1e-6)
    moved = 15 * ((8 + 2) * 32 + 2 * 32) * 2, 15 * ((8 + 2) * 32 * 2 + token)
    assert_close(
        (ops["rotary_and_cache"].inputs, ops["rotary_and_cache"].outputs), moved, rtol=1e-6
    )


def unmeasured(op):
    """The operator without the kernel that times it: none was measured of compressed caches."""
    return dataclasses.replace(op, kernel="", shape=None)


@pytest.mark.parametrize("name", ["google/gemma-2-2b", "deepseek-ai/DeepSeek-V2-Lite"])
@pytest.mark.parametrize("decoding", [False, True])
def test_gear_without_outliers_and_rank_is_a_plain_quantised_cache(name, decoding):
    model = load_model(name)
    plain, bare, full = (
        model.layer_operators(
            Step(3.0, 5.0, 5000.0, 1.0, Precision(kv_cache=cache), decoding=decoding)
        )
        for cache in ("int4", Gear("int4", 0, 0), Gear())
    )
    assert_close([unmeasured(op) for op in bare], [unmeasured(op) for op in plain], rtol=0)
    assert sum(float(op.cached) for op in full) > 1.1 * sum(float(op.cached) for op in plain)


def test_a_prompt_attends_to_keys_that_are_not_compressed_yet():
    model = load_model("google/gemma-2-2b")
    plain, gear = (
        model.layer_operators(Step(1.0, 500.0, 0.0, 1.0, Precision(kv_cache=cache)))
        for cache in ("int4", "gear-int4")
    )
    assert [float(op.flops) for op in plain] == [float(op.flops) for op in gear]


@pytest.mark.parametrize("text", ["gear-int4", "gear-int2:0.01:8", "gear-fp8:0:2.5"])
def test_gear_is_read_as_it_is_written(text):
    assert Precision(kv_cache=text).names["kv_cache"] == text
    assert Gear.named(text).name == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gear-int9", "core: 'int9' is not known"),
        ("gear-int4:2", "outliers: 2 is not allowed; .* it is a share: 0.02 for 2 %"),
        ("gear-int4:0.1:-1", "rank: -1 is not allowed"),
        ("gear-int4:a", "kv_cache: 'gear-int4:a' is not GEAR; write gear-int4, or"),
        ("gear-int4:1:2:3", "is not GEAR"),
    ],
)
def test_a_gear_that_cannot_be_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        Precision(kv_cache=text)


def test_gradients_of_gear_and_message_size_agree_with_float64_differences(cluster, double):
    tiny, platform, workload, plan, precision = as_double(
        (TINY, cluster, Workload(4, 200, 20), Parallelism(2), Precision(kv_cache=Gear("int4")))
    )

    @jax.jit
    def log_times(x):
        """Of outliers, rank and B per element of messages."""
        formats = eqx.tree_at(
            lambda p: (p.gear.outliers, p.gear.rank, p.message_size), precision, tuple(x)
        )
        now = estimate(Scenario(tiny, platform, workload, plan, formats))
        return jnp.stack([jnp.log(now.ttft), jnp.log(now.tpot), now.memory.kv_cache / 1e6])

    slopes = jax.jit(jax.jacfwd(log_times))
    assert_finite(slopes(jnp.zeros(3)))
    at = jnp.asarray([0.03, 5.0, 1.5])
    for index, step in enumerate(1e-5 * at):
        change = jnp.zeros(3).at[index].set(step)
        difference = (log_times(at + change) - log_times(at - change)) / (2 * step)
        np.testing.assert_allclose(slopes(at)[:, index], difference, rtol=1e-6, atol=1e-9)
    assert np.all(np.asarray(slopes(at)) >= 0)
