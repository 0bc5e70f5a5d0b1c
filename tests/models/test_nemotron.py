"""Nemotron 3: experts in a latent space, and layers spelt in two ways."""

import jax
import jax.numpy as jnp
import pytest
from support import assert_close

from diffgenz import InputError, Precision, load_model, model_from_config
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.moe import MoE
from diffgenz.models.files import read_config
from diffgenz.operators.message import Exchange
from diffgenz.operators.step import Step

SUPER = "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-FP8"
ULTRA = "nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16"
HIDDEN = jnp.asarray(512.0)


def step(tokens=1.0, ranks=1.0, experts=1.0, groups=1.0):
    return Step(tokens, 1.0, 0.0, 1 / ranks, Precision(), 1 / experts, groups)


def named(block, at):
    return {op.name: op for op in block.operators(HIDDEN, at)}


def bare(name, **changes):
    config = {key: value for key, value in read_config(name)[1].items() if key not in changes}
    return config | {key: value for key, value in changes.items() if value is not None}


def test_parameters_of_nemotron_3_super_by_hand():
    experts = 512 * (2 * 1024 * 2688) + 2 * 4096 * 1024 + 512 * 4096 + 2 * 4096 * 5376 + 4096
    inner, selected = 128 * 64, 2 * 8 * 128
    mamba = 4096 * (2 * inner + selected + 128) + (inner + selected) * 5 + 3 * 128
    mamba += inner + inner * 4096 + 4096
    attention = 4096 * 128 * (32 + 2 * 2) + 32 * 128 * 4096 + 4096
    tables = 2 * 131072 * 4096 + 4096
    with jax.enable_x64(True):
        model = load_model(SUPER)
        assert float(model.parameters) == 40 * (experts + mamba) + 8 * attention + tables
        idle = 40 * (512 - 22) * 2 * 1024 * 2688
        assert float(model.active_parameters) == float(model.parameters) - idle


def test_routed_experts_are_narrow_and_the_router_and_shared_ones_are_not():
    shared = MLP(intermediate=256, norm=None, reduces=False)
    wide = MoE(routed=64, used=6, intermediate=128, tile=1, shared=shared)
    whole, narrow = named(wide, step(100)), named(wide.replace(latent=128.0), step(100))
    for name in ("expert_gate_up", "expert_down"):
        for quantity in ("flops", "weights", "parameters"):
            expected = getattr(whole[name], quantity) / 4
            assert_close(getattr(narrow[name], quantity), expected, rtol=1e-6)
    for name in ("router", "gate_up", "down"):
        assert_close(narrow[name].flops, whole[name].flops, rtol=1e-7)
    for name in ("latent_down", "latent_up"):
        assert_close(narrow[name].parameters, 512 * 128, rtol=1e-7)
        assert_close(narrow[name].flops, 2 * 100 * 512 * 128, rtol=1e-7)


def test_latent_vectors_travel_and_every_rank_projects_its_tokens():
    wide = MoE(routed=64, used=6, intermediate=128)
    narrow = wide.replace(latent=128.0)

    def exchange(block):
        operators = block.operators(HIDDEN, step(100, ranks=2, experts=8, groups=4))
        (message,) = (m for op in operators for m in op.messages if isinstance(m, Exchange))
        return message

    assert_close(exchange(narrow).dispatch, exchange(wide).dispatch / 4, rtol=1e-6)
    assert_close(exchange(narrow).combine, exchange(wide).combine / 4, rtol=1e-6)
    alone, shared = named(narrow, step(100)), named(narrow, step(100, ranks=2, experts=8))
    assert_close(alone["latent_up"].flops, shared["latent_up"].flops, rtol=1e-7)


def test_a_latent_space_as_wide_as_the_model_costs_its_two_projections():
    wide = MoE(routed=64, used=6, intermediate=128)
    whole, same = named(wide, step(100)), named(wide.replace(latent=512.0), step(100))
    assert set(same) - set(whole) == {"latent_down", "latent_up"}
    for name in whole:
        assert_close(same[name].flops, whole[name].flops, rtol=1e-7)
        assert_close(same[name].traffic, whole[name].traffic, rtol=1e-7)


KINDS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
NEWER = {"M": "linear_attention", "*": "full_attention", "-": "mlp", "E": "moe"}


@pytest.mark.parametrize("name", [SUPER, "nvidia/Nemotron-H-8B-Base-8K"])
@pytest.mark.parametrize("names", [KINDS, NEWER])
@pytest.mark.parametrize("key", ["layers_block_type", "layer_types"])
def test_both_spellings_are_one_model_and_the_list_says_how_many_layers(name, names, key):
    pattern = read_config(name)[1]["hybrid_override_pattern"]
    listed = {key: [names[kind] for kind in pattern]}
    other = model_from_config(
        bare(name, hybrid_override_pattern=None, num_hidden_layers=None) | listed, "listed"
    )
    assert float(other.parameters) == float(load_model(name).parameters)
    assert [r.at for r in other.blocks] == [r.at for r in load_model(name).blocks]
    both = model_from_config(bare(name) | listed, "both")
    assert float(both.parameters) == float(other.parameters)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"layers_block_type": ["mamba", "moe"]}, "hybrid_override_pattern: .* contradicts"),
        (
            {"hybrid_override_pattern": None, "layers_block_type": ["mamba", "moe", "attention"]},
            "layers_block_type: spells 3 layers, which contradicts num_hidden_layers, 88",
        ),
        (
            {"hybrid_override_pattern": None, "layers_block_type": ["mamba", "rwkv"]},
            "layers_block_type: .*rwkv.* must be a list of mamba",
        ),
        ({"hybrid_override_pattern": None, "layers_block_type": "mamba"}, "must be a list of"),
        ({"hybrid_override_pattern": None, "layers_block_type": []}, "must be a list of"),
        ({"hybrid_override_pattern": None, "layers_block_type": [1]}, "must be a list of"),
        ({"hybrid_override_pattern": None}, "lacks hybrid_override_pattern"),
        ({"moe_latent_size": -1}, "moe_latent_size: -1 is not a positive number"),
        ({"moe_latent_size": "1024"}, "moe_latent_size: '1024' is not a positive number"),
        ({"mlp_bias": True}, "mlp_bias: .* is not modelled"),
        ({"moe_shared_expert_intermediate_size": None}, "lacks moe_shared_expert_intermediate"),
    ],
    ids=str,
)
def test_damaged_files_are_refused_by_name(changes, error):
    with pytest.raises(InputError, match=error):
        model_from_config(bare(SUPER, **changes), "damaged")


def test_a_latent_size_of_null_or_a_missing_one_is_the_model_width():
    whole = model_from_config(bare(SUPER, moe_latent_size=None), "whole")
    assert float(whole.parameters) == pytest.approx(459e9, rel=0.01)


def test_fields_of_kinds_that_a_pattern_does_not_have_say_nothing():
    """A file as transformers writes it states the experts of a model without any."""
    of_experts = {"n_routed_experts": 8, "moe_latent_size": 64, "num_experts_per_tok": 2}
    name = "nvidia/Nemotron-H-8B-Base-8K"
    other = model_from_config(bare(name) | of_experts, "other")
    assert float(other.parameters) == float(load_model(name).parameters)


def test_ultra_has_no_count_of_layers():
    assert "num_hidden_layers" not in read_config(ULTRA)[1]
    assert float(load_model(ULTRA).layers) == 48 + 12
