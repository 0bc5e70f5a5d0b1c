"""Vision towers: parameters, tokens and FLOP by hand, and files that are refused."""

import jax
import jax.numpy as jnp
import pytest

from diffgenz import (
    Precision,
    load_model,
    model_from_config,
)
from diffgenz.core.errors import InputError
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.config import Config
from diffgenz.models.families.vision import VISION
from diffgenz.models.families.vision_any_size import gemma4
from diffgenz.models.files import list_models, read_config
from diffgenz.models.vision import PatchAttention, Projector, Tower
from diffgenz.operators.operator import Kind

TOWERS = {  # parameters, from the checkpoints' tensor shapes; patches and tokens of an image
    "llava-hf/llava-1.5-7b-hf": (324_487_168, 24**2, 576),
    "google/gemma-3-27b-it": (423_060_336, 64**2, 256),
    "Qwen/Qwen2.5-VL-7B-Instruct": (676_550_144, 74**2, 37**2),  # 1024 pixels become 1036 = 37 x 28
    "Qwen/Qwen3-VL-8B-Instruct": (576_388_336, 64**2, 1024),
    "Qwen/Qwen3-VL-30B-A3B-Instruct": (538_631_408, 64**2, 1024),
    "Qwen/Qwen3.5-27B": (460_730_096, 64**2, 1024),
    "Qwen/Qwen3.5-35B-A3B": (446_571_248, 64**2, 1024),
    "google/gemma-3-4b-pt": (419_816_304, 64**2, 256),
    "google/gemma-4-26B-A4B": (572_792_112, 48**2, 256),
    "google/gemma-4-31B": (575_741_232, 48**2, 256),
    "Qwen/Qwen2-VL-7B-Instruct": (675_759_104, 74**2, 37**2),
    "mistralai/Mistral-Small-3.1-24B-Instruct-2503": (438_958_080, 74**2, 37**2),
    "mistral-community/pixtral-12b": (434_957_312, 64**2, 64**2),
    "OpenGVLab/InternVL3-1B": (308_495_104, 32**2, 256),
    "OpenGVLab/InternVL3-8B": (331_552_768, 32**2, 256),
    "llava-hf/llava-v1.6-mistral-7b-hf": (324_491_264, 24**2, 576),  # of a tile
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": (414_732_320, 27**2, 729),
    "moonshotai/Kimi-VL-A3B-Instruct": (447_545_840, 74**2, 37**2),
    "meta-llama/Llama-4-Scout-17B-16E": (871_932_416, 24**2, 144),
    "meta-llama/Llama-4-Maverick-17B-128E": (871_932_416, 24**2, 144),
}

SMALL = Tower(
    hidden=64.0,
    layers=2.0,
    attention=PatchAttention(heads=4, head_dim=16),
    mlp=MLP(intermediate=128, gated=False, bias=True),
    projectors=(Projector((256, 256, 32)),),
    image_size=96,
    patch=8,
    merge=2,
)

BF16 = Precision()


@pytest.fixture(scope="module")
def qwen():
    return load_model("Qwen/Qwen2.5-VL-7B-Instruct")


@pytest.mark.parametrize("name", TOWERS)
def test_towers_are_those_of_the_checkpoints(name, double):
    model, (parameters, patches, tokens) = load_model(name), TOWERS[name]
    assert model.vision is not None
    assert float(model.parameters - model.replace(vision=None).parameters) == parameters
    assert float(model.parameters) == read_config(name)[1]["published_parameters"]
    assert (float(model.vision.patches), float(model.vision.tokens)) == (patches, tokens)


def test_every_tower_has_a_shipped_model():
    shipped = {
        VISION[read_config(name)[1]["model_type"]]
        for name in list_models()
        if load_model(name).vision is not None
    }
    assert shipped == set(VISION.values())
    assert {name for name in list_models() if load_model(name).vision is not None} == set(TOWERS)


def test_flops_by_hand():
    """12 x 12 patches of 8 x 8 x 3 numbers, merged by fours."""
    images, patches, tokens = 3, 144, 36
    per_patch = 3 * 64 * 64 + 2 * (4 * 64 * 64 + 2 * 64 * 128)  # multiply-adds with weights
    per_token = 256 * 256 + 256 * 32
    # layers x images x (2 products of 2 FLOP) x queries x keys x width
    scores = 2 * images * 4 * patches * patches * 64
    expected = 2 * images * (patches * per_patch + tokens * per_token) + scores
    assert (
        sum(float(op.flops * op.repeats) for op in SMALL.operators(images, BF16, 1.0)) == expected
    )


def test_flops_of_llava_are_twice_its_parameters_per_patch():
    tower = load_model("llava-hf/llava-1.5-7b-hf").vision
    assert tower is not None
    layers = [
        op
        for op in tower.operators(1.0, BF16, 1.0)
        if op.name in ("vision_qkv", "vision_attention_out", "vision_up", "vision_down")
    ]
    weights = sum(float(op.parameters * op.repeats) for op in layers)
    flops = sum(float(op.flops * op.repeats) for op in layers)
    assert flops == pytest.approx(2 * 577 * weights, rel=1e-3)  # 577: with the class token


def test_windows_cut_the_scores_and_nothing_is_cached():
    windowed = SMALL.replace(window=16, windowed=1)
    scores = [
        [
            float(op.flops * op.repeats)
            for op in tower.operators(1.0, BF16, 1.0)
            if op.kind is Kind.ATTENTION
        ]
        for tower in (SMALL, windowed)
    ]
    assert scores == [[2 * 4 * 144 * 144 * 64], [4 * 144 * 16 * 64, 4 * 144 * 144 * 64]]
    assert all(float(op.cached) == 0 for op in windowed.operators(1.0, BF16, 1.0))


def test_ranks_share_the_layers_but_not_the_patch_embedding():
    one, four = (
        {op.name: float(op.parameters) for op in SMALL.operators(1.0, BF16, shard)}
        for shard in (1.0, 0.25)
    )
    assert one["vision_patches"] == four["vision_patches"] == 64 * 192
    assert one["vision_qkv"] == 4 * four["vision_qkv"]
    assert one["vision_projector"] == 32 * (256 + 1)
    assert four["vision_projector"] == 32 * (64 + 1)  # biases whole
    sent = [
        (float(op.repeats), float(message.volume))
        for op in SMALL.operators(2.0, BF16, 1.0)
        for message in op.messages
    ]
    patches = (2, 2 * 144 * 64 * 2)  # after attention and after the MLP of each of 2 layers
    assert sent == [patches, patches, (1, 2 * 36 * 32 * 2)]


def test_a_tower_stays_in_dtype():
    sizes = {
        float(op.parameter_size)
        for op in SMALL.operators(1.0, Precision("bf16", "int4", "fp8"), 1.0)
        if float(op.parameters)
    }
    assert sizes == {2.0}
    assert all(op.kind is not Kind.LINEAR for op in SMALL.operators(1.0, BF16, 1.0))


def test_tokens_follow_the_image_size_and_so_does_their_slope():
    assert [float(SMALL.replace(image_size=size).tokens) for size in (96, 103, 105, 200)] == [
        36,
        36,
        49,
        144,
    ]
    slope = jax.grad(lambda size: SMALL.replace(image_size=size).tokens)(jnp.asarray(96.0))
    assert float(slope) == pytest.approx(2 * 6 / 16)


@pytest.mark.parametrize("field", ["hidden", "image_size", "patch", "merge", "layers", "windowed"])
@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_bad_sizes_are_refused(field, value):
    with pytest.raises(InputError, match=f"{field}: {value:g} is not allowed"):
        SMALL.replace(**{field: value})


def test_an_image_of_less_than_a_token_is_refused():
    with pytest.raises(InputError, match=r"patch x merge: 16 exceeds 15, image_size"):
        SMALL.replace(image_size=15)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("google/gemma-3-27b-it", "image_size"),
        ("Qwen/Qwen3-VL-8B-Instruct", "num_position_embeddings"),
    ],
)
def test_a_missing_field_is_named(name, field):
    config = read_config(name)[1]
    vision = {key: value for key, value in config["vision_config"].items() if key != field}
    with pytest.raises(InputError, match=f"m: vision_config: config.json lacks {field}"):
        model_from_config(config | {"vision_config": vision}, "m")


def test_a_list_of_layers_must_be_one():
    config = read_config("Qwen/Qwen3-VL-8B-Instruct")[1]
    with pytest.raises(InputError, match="deepstack_visual_indexes: 3 is not a list of layers"):
        model_from_config(
            config | {"vision_config": config["vision_config"] | {"deepstack_visual_indexes": 3}},
            "m",
        )


def test_a_tower_that_is_not_modelled_is_left_out():
    config = read_config("llava-hf/llava-1.5-7b-hf")[1]
    other = model_from_config(config | {"vision_config": {"model_type": "eva_vit"}}, "m")
    assert other.vision is None
    assert other.notes == (
        "its vision tower (eva_vit) is not modelled: neither its weights nor its time",
    )
    assert (
        model_from_config(
            {key: value for key, value in config.items() if key != "vision_config"}, "m"
        ).vision
        is None
    )


def test_newer_files_nest_the_language_model(qwen):
    config = read_config("Qwen/Qwen2.5-VL-7B-Instruct")[1]
    text = {key: value for key, value in config.items() if key != "vision_config"} | {
        "model_type": "qwen2_5_vl_text"
    }
    nested = {
        "model_type": "qwen2_5_vl",
        "vision_config": config["vision_config"],
        "text_config": text,
    }
    assert float(model_from_config(nested, "m").parameters) == float(qwen.parameters)


@pytest.mark.parametrize("name", ["Qwen/Qwen3-VL-30B-A3B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct"])
def test_a_tower_within_a_thinker_is_read(name):
    config, flat = read_config(name)[1], load_model(name)
    kind = {"qwen3_vl_moe": "qwen3_omni_moe", "qwen2_5_vl": "qwen2_5_omni"}[config["model_type"]]
    text = config.get("text_config") or {k: v for k, v in config.items() if k != "vision_config"}
    text = {key: value for key, value in text.items() if key != "model_type"}
    thinker = {
        "model_type": f"{kind}_thinker",
        "text_config": text,
        "vision_config": config["vision_config"],
        "audio_config": {"model_type": f"{kind}_audio_encoder", "d_model": 1280},
    }
    model = model_from_config(
        {"model_type": kind, "thinker_config": thinker, "talker_config": {"text_config": {}}}, "m"
    )
    assert float(model.parameters) == float(flat.parameters)
    assert [note.split(" is not")[0] for note in model.notes] == [
        "its speech generator",
        f"its audio tower ({kind}_audio_encoder)",
    ]


def test_the_large_internvit_has_norms_on_queries_and_keys(double):
    """InternViT-6B-448px-V1-5: 45 layers of RMS norms without QKV biases; published 5.54e9."""
    config = read_config("OpenGVLab/InternVL3-8B")[1]
    large = {"hidden_size": 3200, "num_hidden_layers": 45, "num_attention_heads": 25}
    large |= {"intermediate_size": 12800, "norm_type": "rms_norm", "qkv_bias": False}
    vision = config["vision_config"] | large | {"qk_normalization": True}
    model = model_from_config(config | {"vision_config": vision}, "m")
    layer = 4 * 3200**2 + 3200 + 2 * 3200 * 12800 + 12800 + 3200 + 6 * 3200
    tower = 45 * layer + (588 + 1) * 3200 + (1 + 1025) * 3200
    projector = 2 * 12800 + 12800 * 3584 + 3584 + 3584**2 + 3584
    assert float(model.parameters - model.replace(vision=None).parameters) == tower + projector
    assert tower == pytest.approx(5.54e9, rel=0.001)


GEMMA4 = {
    "model_type": "gemma4_vision",
    "attention_bias": False,
    "head_dim": 72,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_attention_heads": 16,
    "num_hidden_layers": 27,
    "num_key_value_heads": 16,
    "patch_size": 16,
    "pooling_kernel_size": 3,
    "position_embedding_size": 10240,
    "use_clipped_linears": False,
}


def test_the_tower_of_gemma_4_by_hand(double):
    """google/gemma-4-26B-A4B: tables of positions for rows and columns, four norms a layer."""
    whole = Config("m", {"model_type": "gemma4", "vision_soft_tokens_per_image": 280})
    tower = gemma4(whole, Config("m: vision_config", GEMMA4), 2816.0)
    layer = 4 * 1152**2 + 3 * 1152 * 4304 + 4 * 1152 + 2 * 72
    expected = 27 * layer + 768 * 1152 + 2 * 10240 * 1152 + 1152 * 2816
    found = sum(float(op.parameters * op.repeats) for op in tower.operators(1.0, BF16, 1.0))
    assert found == expected
    assert (float(tower.tokens), float(tower.patches)) == (256, 48**2)  # 16 x 16 of at most 280


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("google/gemma-3-4b-pt", {"patch_size": [14, 16]}, "patch_size"),
        ("OpenGVLab/InternVL3-8B", {"norm_type": "batch_norm"}, "norm_type: 'batch_norm' is not"),
        ("OpenGVLab/InternVL3-8B", {"use_moe": True}, "use_moe"),
        ("OpenGVLab/InternVL3-8B", {"num_attention_heads": 15}, "does not divide hidden_size"),
        ("Qwen/Qwen3-VL-8B-Instruct", {"deepstack_visual_indexes": [8, 99]}, "none of the 27"),
        ("Qwen/Qwen3-VL-8B-Instruct", {"deepstack_visual_indexes": [8, 8]}, "a layer twice"),
        ("moonshotai/Kimi-VL-A3B-Instruct", {"merge_kernel_size": [2, 3]}, "merge_kernel_size"),
    ],
)
def test_a_damaged_tower_is_refused(name, change, message):
    config = read_config(name)[1]
    with pytest.raises(InputError, match=message):
        model_from_config(config | {"vision_config": config["vision_config"] | change}, "m")


def test_a_side_may_be_said_for_both_directions():
    config = read_config("OpenGVLab/InternVL3-8B")[1]
    vision = config["vision_config"] | {"image_size": [448, 448], "patch_size": [14, 14]}
    model = model_from_config(config | {"vision_config": vision}, "m")
    assert float(model.parameters) == float(load_model("OpenGVLab/InternVL3-8B").parameters)


def test_states_of_several_layers_widen_the_projector():
    config = read_config("llava-hf/llava-v1.6-mistral-7b-hf")[1]
    one, two = (
        model_from_config(config | {"vision_feature_layer": layers}, "m")
        for layers in (-2, [-2, -5])
    )
    assert float(two.parameters - one.parameters) == 1024 * 4096
