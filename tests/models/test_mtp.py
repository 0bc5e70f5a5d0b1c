"""Multi-token-prediction modules: their parameters, and what drafting with them takes."""

import jax
import jax.numpy as jnp
import pytest
from support import assert_close

from diffgenz import (
    MTP,
    InputError,
    Parallelism,
    Precision,
    Scenario,
    Serving,
    Speculation,
    Workload,
    estimate,
    load_model,
    model_from_config,
)
from diffgenz.models.files import read_config
from diffgenz.models.mtp import mtp_module
from diffgenz.operators.step import Step

CHAT = Workload(batch=32, input_tokens=1500, output_tokens=60)
WIDE = Parallelism(tensor=2, expert=16, attention_data=8)


@pytest.fixture(scope="module")
def deepseek():
    """Its checkpoint has one module."""
    return load_model("deepseek-ai/DeepSeek-V3")


def test_parameters_are_the_published_ones(deepseek):
    """README_WEIGHTS.md of the checkpoint: 11.5 B unique parameters, without the embedding and head
    that it shares; with them, 685 B in all."""
    module = mtp_module(deepseek)
    assert float(module.parameters) == pytest.approx(11.5e9, rel=0.01)
    assert float(deepseek.parameters + module.parameters + 2 * 129280 * 7168) == pytest.approx(
        685e9, rel=0.001
    )


@pytest.mark.parametrize(
    ("name", "operators"),
    [
        ("zai-org/GLM-4.5", {"eh_proj", "qkv", "attention", "expert_down"}),
        (
            "Qwen/Qwen3-Next-80B-A3B-Instruct",
            {"eh_proj", "attention", "expert_down"},
        ),  # its last layer is a full one
        ("Qwen/Qwen3.5-27B", {"eh_proj", "attention", "down"}),
    ],
)
def test_it_is_one_more_layer_of_the_last_kind(name, operators):
    model = load_model(name)
    module = mtp_module(model)
    names = {op.name for op in module.layer_operators(Step(1.0, 1.0, 0.0, 1.0, Precision()))}
    assert model.mtp
    assert float(module.layers) == 1
    assert operators <= names
    assert "scan" not in names


def test_a_config_says_whether_there_is_one():
    _, config = read_config("deepseek-ai/DeepSeek-V3")
    for modules in (0, 3):
        assert not model_from_config(config | {"num_nextn_predict_layers": modules}, "own").mtp
    with pytest.raises(InputError, match="num_nextn_predict_layers: -1 is not a positive number"):
        model_from_config(config | {"num_nextn_predict_layers": -1}, "own")


def test_it_takes_its_time_and_memory_on_the_plan_of_the_model(cluster):
    """A verification and the drafts, shared by its tokens; if none is accepted, by one."""
    model = load_model("zai-org/GLM-4.5-Air")

    @jax.jit
    @jax.vmap
    def drafted(acceptance):
        return tuple(
            estimate(
                Scenario(
                    model,
                    cluster,
                    CHAT,
                    WIDE,
                    serving=Serving(speculation=Speculation(3, acceptance, d)),
                )
            )
            for d in (None, MTP())
        )

    free, own = drafted(jnp.array([0.0, 0.5, 1.0]))
    alone = estimate(Scenario(mtp_module(model), cluster, CHAT, WIDE))
    assert_close(own.tpot, free.tpot + 3 / jnp.array([1, 1.875, 4]) * alone.tpot, rtol=1e-6)
    assert_close(own.ttft, free.ttft + alone.ttft, rtol=1e-6)
    assert_close(own.memory.weights, free.memory.weights + alone.memory.weights, rtol=1e-6)
    assert_close(own.memory.kv_cache, free.memory.kv_cache * 47 / 46, rtol=1e-6)
    assert (own.energy_per_output_token > free.energy_per_output_token).all()


def test_without_one_it_is_refused_by_name(llama_8b, cluster):
    serving = Serving(speculation=Speculation(3, 0.8, MTP()))
    with pytest.raises(
        InputError, match=r"draft: meta-llama/Llama-3.1-8B has no multi-token-prediction module"
    ):
        Scenario(llama_8b, cluster, CHAT, Parallelism(), serving=serving)
