"""The generic reading: files of families that are not modelled, and fields that nobody reads."""

import json
import subprocess
import sys

import pytest
from small_llama import SMALL, SMALL_PARAMETERS

from diffgenz import load_model, model_from_config
from diffgenz.core.errors import InputError
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.latent_attention import LatentAttention
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.blocks.moe import MoE
from diffgenz.models.families.generic import ALIASES
from diffgenz.models.files import list_models, read_config
from diffgenz.models.huggingface import FAMILIES

UNKNOWN = SMALL | {"model_type": "neverheardof", "tie_word_embeddings": False}


def generic(**changes):
    return model_from_config(UNKNOWN | changes, "m", generic=True)


def blocks(model, kind):
    return [each for each in model.blocks if isinstance(each.block, kind)]


def test_an_unknown_type_is_refused_without_the_flag():
    with pytest.raises(InputError, match=r"m: model_type: 'neverheardof' is not modelled"):
        model_from_config(UNKNOWN, "m")


def test_an_unknown_type_is_read_by_standard_names():
    model = generic()
    assert float(model.parameters) == SMALL_PARAMETERS
    assert (
        model.notes[0] == "model_type neverheardof is not modelled: read by the standard names"
        " of fields"
    )
    assert "head_dim = hidden_size / num_attention_heads = 16" in model.notes[1]
    for what in ("gated MLPs", "RMS norms", "no biases in attention"):
        assert what in model.notes[1]


def test_a_file_without_a_type_is_read_too():
    config = {"dim": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "hidden_dim": 128}
    model = model_from_config(config | {"vocab_size": 1000}, "m", generic=True)  # as Mistral's own
    assert float(model.parameters) == SMALL_PARAMETERS
    assert model.notes[0].startswith("no model_type is stated")


DENSE = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
)


@pytest.mark.parametrize(
    ("name", "alias"), [(name, alias) for name in DENSE for alias in ALIASES[name]]
)
def test_aliases_say_the_same(name, alias):
    config = dict(UNKNOWN)
    config[alias] = config.pop(name)
    model = model_from_config(config, "m", generic=True)
    assert float(model.parameters) == SMALL_PARAMETERS
    assert not any(note.startswith("ignored") for note in model.notes)


@pytest.mark.parametrize(("name", "alias"), [(name, ALIASES[name][0]) for name in DENSE])
def test_aliases_in_contradiction_are_refused(name, alias):
    with pytest.raises(InputError, match=f"m: {name}: .* contradicts {alias}"):
        generic(**{alias: UNKNOWN[name] * 2})


def test_what_is_not_read_is_listed():
    model = generic(strange_width=7, latent_path={"rank": 3}, rope_theta=1e6, other=None)
    assert model.notes[-1] == "ignored: strange_width = 7, latent_path = {'rank': 3}"


def test_a_known_type_lists_what_its_family_does_not_read():
    model = known(sliding_window=16, strange=[1, 2])
    assert model.notes == ("ignored: sliding_window = 16, strange = [1, 2]",)


def known(**changes):
    return model_from_config(SMALL | changes, "m", generic=True)


@pytest.mark.parametrize("name", list_models()[::4])
def test_shipped_models_are_the_same_with_the_flag(name):
    with_flag, without = load_model(name, generic=True), load_model(name)
    assert float(with_flag.parameters) == float(without.parameters)
    assert with_flag.notes == without.notes


def test_a_fixed_field_with_another_value_is_set_aside():
    config = read_config("MiniMaxAI/MiniMax-M2")[1] | {"qk_norm_type": "per_head"}
    with pytest.raises(InputError, match="qk_norm_type"):
        model_from_config(config, "m")
    model = model_from_config(config, "m", generic=True)
    assert model.notes == ("ignored: qk_norm_type = 'per_head'",)


PLAIN = ("llama", "qwen3", "mistral", "qwen3_moe", "mixtral", "deepseek_v3", "glm4_moe", "kimi_k2")


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in list_models()
        if read_config(name)[1].get("model_type") in PLAIN
        and "vision_config" not in read_config(name)[1]
    ],
)
def test_a_generic_reading_is_near_the_families(name):
    """Of what shares the standard names: all but norms and biases, less than 0.1 %."""
    config = read_config(name)[1] | {"model_type": "neverheardof"}
    read = model_from_config(config, name, generic=True)
    right = load_model(name)
    assert float(read.parameters) == pytest.approx(float(right.parameters), rel=1e-3)
    assert float(read.active_parameters) == pytest.approx(float(right.active_parameters), rel=1e-3)


MIXTURE = {
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "num_hidden_layers": 6,
}


@pytest.mark.parametrize(
    ("changes", "sparse"),
    [
        ({}, range(6)),
        ({"first_k_dense_replace": 2}, range(2, 6)),
        ({"first_k_dense_replace": 1, "moe_layer_freq": 2}, [2, 4]),
        ({"moe_layer_freq": [0, 1, 1, 0, 1, 1]}, [1, 2, 4, 5]),
        ({"decoder_sparse_step": 2}, [1, 3, 5]),
        ({"mlp_only_layers": [0, 5]}, range(1, 5)),
    ],
)
def test_layers_with_experts_are_those_that_the_file_says(changes, sparse):
    model = generic(**MIXTURE, **changes)
    assert [each.at for each in blocks(model, MoE)] == [tuple(sparse)]
    dense = [layer for layer in range(6) if layer not in sparse]
    assert [each.at for each in blocks(model, MLP)] == ([tuple(dense)] if dense else [])


@pytest.mark.parametrize(
    ("name", "alias"),
    [
        (name, alias)
        for name in ("num_experts", "num_experts_per_tok", "moe_intermediate_size")
        for alias in ALIASES[name]
    ],
)
def test_aliases_of_experts_say_the_same(name, alias):
    config = UNKNOWN | MIXTURE
    config[alias] = config.pop(name)
    model = model_from_config(config, "m", generic=True)
    assert float(model.parameters) == float(generic(**MIXTURE).parameters)


@pytest.mark.parametrize(
    ("changes", "width"),
    [
        ({"n_shared_experts": 2}, 64),
        ({"moe_num_shared_experts": 1}, 32),
        ({"shared_expert_intermediate_size": 48}, 48),
        ({"num_shared_experts": 2, "moe_shared_expert_intermediate_size": 48}, 96),
        ({"num_shared_expert": [1] * 6, "moe_topk": [2] * 6}, 32),
    ],
)
def test_shared_experts(changes, width):
    given = {
        key: value
        for key, value in MIXTURE.items()
        if not (key == "num_experts_per_tok" and "moe_topk" in changes)
    }
    moe = blocks(generic(**given, **changes), MoE)[0].block
    assert isinstance(moe, MoE)
    assert moe.shared is not None
    assert float(moe.shared.intermediate) == width


def test_latent_attention_is_read_where_there_is_a_latent():
    ranks = {"kv_lora_rank": 32, "q_lora_rank": None, "qk_nope_head_dim": 16}
    model = generic(**ranks, qk_rope_head_dim=8, v_head_dim=16)
    assert len(blocks(model, LatentAttention)) == 1
    assert not blocks(model, Attention)


@pytest.mark.parametrize(
    ("changes", "windowed"),
    [
        ({}, ()),
        ({"sliding_window": 16}, (0, 1, 2, 3)),
        ({"sliding_window": 16, "use_sliding_window": False}, ()),
        ({"sliding_window": 16, "sliding_window_pattern": 2}, (0, 2)),
        (
            {"sliding_window": 16, "layer_types": ["sliding_attention"] + ["full_attention"] * 3},
            (0,),
        ),
    ],
)
def test_windows(changes, windowed):
    model = generic(num_hidden_layers=4, **changes)
    found = [
        layer
        for each in blocks(model, Attention)
        if each.block.window is not None  # pyright: ignore[reportAttributeAccessIssue]
        for layer in each.at
    ]
    assert tuple(found) == windowed


def test_layers_of_another_kind_are_said():
    model = generic(layer_types=["linear_attention", "full_attention"])
    assert "full attention in the layers of linear_attention" in model.notes[1]


@pytest.mark.parametrize(
    ("changes", "gained"),
    [
        ({"attention_bias": True}, 2 * (4 + 2 * 2) * 16 + 2 * 64),
        ({"qkv_bias": True}, 2 * (4 + 2 * 2) * 16),
        ({"mlp_bias": True}, 2 * (2 * 128 + 64)),
        ({"use_qk_norm": True}, 2 * 2 * 16),
        ({"layer_norm_eps": 1e-5}, 5 * 64),
        ({"hidden_act": "relu2"}, -2 * 64 * 128),
        ({"tie_word_embeddings": True}, -64_000),
        ({"padded_vocab_size": 1024}, 2 * 24 * 64),
    ],
    ids=str,
)
def test_what_changes_a_shape_is_read(changes, gained):
    assert float(generic(**changes).parameters) - SMALL_PARAMETERS == gained


@pytest.mark.parametrize("field", ["hidden_size", "num_hidden_layers", "num_attention_heads"])
def test_what_cannot_be_assumed_is_missed(field):
    config = {key: value for key, value in UNKNOWN.items() if key != field}
    with pytest.raises(InputError, match=f"m: config.json lacks {field}"):
        model_from_config(config, "m", generic=True)


def test_encoders_are_refused():
    with pytest.raises(InputError, match="is_encoder_decoder: True"):
        generic(is_encoder_decoder=True)


WRAPPERS = [
    ("internvl_chat", ("llm_config",)),
    ("deepseek_vl_v2", ("language_config",)),
    ("qwen3_omni_moe", ("thinker_config", "text_config")),
    ("neverheardof", ("text_config",)),
]


@pytest.mark.parametrize(("kind", "path"), WRAPPERS)
@pytest.mark.parametrize("flag", [False, True])
def test_nested_language_models_are_found(kind, path, flag):
    config = dict(SMALL)
    for key in reversed(path):
        config = {"model_type": f"{kind}_inner", key: config}
    config |= {"model_type": kind, "audio_config": {"model_type": "ears"}}
    model = model_from_config(
        config | {"llm_config": None} if "llm_config" not in path else config, "m", flag
    )
    assert float(model.parameters) == SMALL_PARAMETERS
    assert model.notes == (
        "its audio tower (ears) is not modelled: neither its weights nor its time",
    )


@pytest.mark.parametrize(("kind", "family"), [("llava", "llama"), ("mistral3", "mistral")])
def test_a_nested_language_model_without_a_type_has_that_of_its_class(kind, family):
    text = {key: value for key, value in SMALL.items() if key != "model_type"}
    config = {"model_type": kind, "text_config": text}
    assert family in FAMILIES
    assert float(model_from_config(config, "m").parameters) == SMALL_PARAMETERS


@pytest.mark.parametrize("value", [3, "text", [1], True])
def test_a_section_that_is_none_is_refused(value):
    with pytest.raises(InputError, match="m: text_config: .* is not an object of fields"):
        known(text_config=value)


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("vision_config", {"model_type": "eye"}, "vision tower (eye)"),
        ("visual", {"layers": 8}, "vision tower"),
        ("vit_config", {"layers": 8}, "vision tower"),
        ("vision_model_config", {"layers": 8}, "vision tower"),
        ("mm_vision_tower", "openai/clip", "vision tower (openai/clip)"),
        ("audio_encoder", {"layers": 8}, "audio tower"),
        ("audio_config", {"layers": 8}, "audio tower"),
        ("talker_config", {"layers": 8}, "speech generator"),
        ("token2wav_config", {"layers": 8}, "speech generator"),
        ("code2wav_config", {"layers": 8}, "speech generator"),
        ("tts_config", {"layers": 8}, "speech generator"),
    ],
)
def test_other_parts_are_said(key, value, part):
    expected = f"its {part} is not modelled: neither its weights nor its time"
    model = model_from_config(SMALL | {key: value}, "m")
    assert model.notes == (expected,)
    assert float(model.parameters) == SMALL_PARAMETERS


def run(*words):
    """Run `diffgenz`: its exit status and what it printed."""
    ran = subprocess.run(
        [sys.executable, "-m", "diffgenz", *words], capture_output=True, text=True, check=False
    )
    return ran.returncode, ran.stdout + ran.stderr


def test_commands_take_the_flag_and_print_the_notes(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(UNKNOWN | {"strange": 1}))
    words = ("estimate", str(path), "--system", "h100_sxm", "--fit", "none")
    status, said = run(*words)
    assert status == 2
    assert "--generic" in said
    assert said.count("\n") == 1
    status, said = run(*words, "--generic")
    assert status == 0
    assert "note: ignored: strange = 1" in said.splitlines()
    status, said = run(*words, "--generic", "--json")
    assert json.loads(said)["notes"][-1] == "ignored: strange = 1"
