"""Scenarios: defaults, and what cannot be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffgenz import (
    InputError,
    Parallelism,
    Precision,
    Scenario,
    Workload,
    estimate,
)

CHAT = Workload(batch=12, input_tokens=700, output_tokens=90)

BAD = [
    (
        {"plan": Parallelism(8, 4, 4)},
        "tensor x context x attention_data x pipeline x data: 128 exceeds 64",
    ),
    ({"plan": Parallelism(64)}, "tensor: 64 exceeds 32, the heads of meta-llama/Llama-3.1-8B"),
    ({"plan": Parallelism(1, 33)}, "pipeline: 33 exceeds 32, the layers"),
    (
        {"precision": Precision(weights="int8", activations="int8")},
        "chip has no int8 arithmetic; it has bf16, fp8",
    ),
    ({"sharpness": 3}, "sharpness: 3 is not available"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[message for _, message in BAD])
def test_what_cannot_be_is_refused(options, message, llama_8b, cluster):
    with pytest.raises(ValueError, match=message):
        estimate(Scenario(llama_8b, cluster, CHAT, Parallelism(), **options))


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("record", "field"),
    [(Workload, name) for name in ("batch", "input_tokens", "output_tokens")]
    + [(Parallelism, name) for name in ("tensor", "pipeline", "data")],
)
def test_a_bad_number_is_refused_by_name(record, field, value):
    with pytest.raises(InputError, match=f"{field}: {value:g} is not allowed"):
        record(**{field: value})


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_overlap_is_a_share(value):
    with pytest.raises(InputError, match="overlap"):
        Parallelism(overlap=value)


def test_records_are_built_under_jit_and_vmap(llama_8b, cluster):
    @jax.jit
    @jax.vmap
    def tpot(batch, ranks, bandwidth):
        accelerator = cluster.accelerator.replace(memory_bandwidth=bandwidth)
        return estimate(
            Scenario(
                llama_8b,
                cluster.replace(accelerator=accelerator),
                Workload(batch, 100, 10),
                Parallelism(ranks),
            )
        ).tpot

    assert np.isfinite(
        tpot(jnp.array([1.0, 2]), jnp.array([1.0, 4]), jnp.array([1e12, 2e12]))
    ).all()
