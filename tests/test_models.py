"""Architectures: parameters as published, KV cache by hand, and config.json files that are read or refused by name."""

import json
from functools import cache

import jax
import jax.numpy as jnp
import pytest
from support import assert_close

from diffgenz import load_model, model_from_config
from diffgenz.core.errors import InputError
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.files import model_ids, read_config
from diffgenz.models.huggingface import FAMILIES
from diffgenz.models.model import Model, Repeated
from diffgenz.operators.precision import Precision
from diffgenz.operators.step import Step

MODELS = model_ids()

SMALL = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 1000,
}
SMALL_PARAMETERS = 2 * (64 * (64 + 2 * 32) + 64 * 64 + 3 * 64 * 128 + 2 * 64) + 64 + 2 * 1000 * 64


def small(**changes):
    return model_from_config(SMALL | changes, "small")


# ---- the shipped models


@cache
def counted(name):
    """Parameters that the operators keep, and those that were published."""
    with jax.enable_x64(True):
        return float(load_model(name).parameters), read_config(name)[1]["published_parameters"]


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_the_published_ones(name):
    actual, published = counted(name)
    assert actual == pytest.approx(published, rel=0.01)


def test_most_are_exact():
    exact = [name for name in MODELS if counted(name)[0] == counted(name)[1]]
    assert len(exact) >= 40
    assert len(exact) > 0.9 * len(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_every_file_says_where_it_comes_from(name):
    config = read_config(name)[1]
    assert len(config["source"]) > 10
    assert len(config["parameters_source"]) > 10


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_shipped_model(family):
    configs = (read_config(name)[1] for name in MODELS)
    types = {config.get("text_config", config).get("model_type") for config in configs} | {
        read_config(name)[1].get("model_type") for name in MODELS
    }
    assert family in types


@pytest.mark.parametrize("name", MODELS)
def test_layers_are_those_of_the_file(name):
    config = read_config(name)[1]
    config = config.get("text_config", config)
    expected = config.get("num_hidden_layers", config.get("n_layer", config.get("n_layers")))
    if (
        config["model_type"] == "nemotron_h"
    ):  # a layer of it is one block; those that mix tokens count
        expected = sum(config["hybrid_override_pattern"].count(kind) for kind in "M*")
    if config["model_type"] == "zamba2":  # shared attention comes on top
        expected += len(config["hybrid_layer_ids"])
    assert float(load_model(name).layers) == expected


# ---- counts by hand


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


@pytest.mark.parametrize(
    ("name", "context", "expected"),
    [
        ("meta-llama/Llama-2-7b-hf", 4096, 32 * 2 * 32 * 128 * 2 * 4096),  # multi-head
        ("meta-llama/Llama-3.1-70B", 8192, 80 * 2 * 8 * 128 * 2 * 8192),  # grouped-query
        ("tiiuae/falcon-7b", 2048, 32 * 2 * 1 * 64 * 2 * 2048),  # multi-query
        (
            "google/gemma-3-27b-pt",
            8192,
            2 * 16 * 128 * 2 * (52 * 1024 + 10 * 8192),
        ),  # 5 of 6 layers slide a window
        (
            "google/gemma-2-9b",
            8192,
            2 * 8 * 256 * 2 * (21 * 4096 + 21 * 8192),
        ),  # every other layer does
        ("mistralai/Mistral-7B-v0.1", 8192, 2 * 8 * 128 * 2 * 32 * 4096),  # every layer does
        ("mistralai/Mistral-7B-v0.3", 8192, 2 * 8 * 128 * 2 * 32 * 8192),  # none does
    ],
)
def test_kv_cache_by_hand(name, context, expected):
    step = Step(1.0, 1.0, context - 1.0, 1.0, Precision())
    held = sum(op.repeats * op.cached for op in load_model(name).layer_operators(step))
    assert float(held) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(("ranks", "expected"), [(1, 32), (4, 8), (8, 4), (16, 4), (32, 4)])
def test_kv_heads_fewer_than_ranks_are_replicated(ranks, expected, llama_8b):
    """Llama 3.1 8B keeps 8 KV heads of 128 in each of 32 layers: per token 4 kB each, never less than one."""
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


def test_parallel_blocks_share_one_all_reduce():
    falcon, llama = load_model("tiiuae/falcon-7b"), load_model("meta-llama/Llama-3.1-8B")
    assert float(falcon.reductions) == 32
    assert float(llama.reductions) == 64


# ---- config.json


def test_a_windowless_family_keeps_everything():
    model = small(sliding_window=16)  # Llama has no windows
    assert len(model.blocks) == 2


@pytest.mark.parametrize(
    ("changes", "windowed"),
    [
        ({"model_type": "mistral"}, None),
        ({"model_type": "mistral", "sliding_window": None}, None),
        ({"model_type": "mistral", "sliding_window": 16}, 2),
        (
            {
                "model_type": "mistral",
                "sliding_window": 16,
                "layer_types": ["sliding_attention", "full_attention"],
            },
            1,
        ),
        (
            {
                "model_type": "mistral",
                "sliding_window": 16,
                "layer_types": ["full_attention", "full_attention"],
            },
            None,
        ),
        ({"model_type": "qwen2", "sliding_window": 16}, None),
        (
            {
                "model_type": "qwen2",
                "sliding_window": 16,
                "use_sliding_window": True,
                "max_window_layers": 1,
            },
            1,
        ),
        ({"model_type": "gemma3_text", "sliding_window": 16, "num_hidden_layers": 7}, 6),
        ({"model_type": "gemma3_text", "sliding_window": 16, "sliding_window_pattern": 2}, 1),
        (
            {
                "model_type": "gemma3_text",
                "sliding_window": 16,
                "layer_types": ["sliding_attention"] * 2,
            },
            2,
        ),
        ({"model_type": "gemma2", "sliding_window": 16, "num_hidden_layers": 3}, 2),
        ({"model_type": "starcoder2", "sliding_window": 16}, 2),
    ],
)
def test_windowed_layers_are_those_that_the_file_says(changes, windowed):
    model = small(**changes)
    counts = [
        float(r.count)
        for r in model.blocks
        if isinstance(r.block, Attention) and r.block.window is not None
    ]
    assert counts == ([] if windowed is None else [windowed])
    assert float(model.layers) == changes.get("num_hidden_layers", 2)


def test_layer_types_of_another_length_are_refused():
    with pytest.raises(InputError, match="small: layer_types must list 2 layers"):
        small(model_type="mistral", sliding_window=16, layer_types=["full_attention"])


def test_head_dim_defaults_to_its_share_of_the_width():
    assert float(small().blocks[0].block.head_dim) == 16
    assert float(small(head_dim=32).blocks[0].block.head_dim) == 32


def test_key_value_heads_default_to_all():
    config = {key: value for key, value in SMALL.items() if key != "num_key_value_heads"}
    assert float(model_from_config(config, "small").blocks[0].block.kv_heads) == 4


def test_the_language_model_of_a_nested_config_is_taken():
    config = {
        "model_type": "mistral3",
        "vision_config": {"hidden_size": 1152},
        "text_config": SMALL | {"model_type": "gemma3_text"},
    }
    nested, flat = model_from_config(config, "small"), small(model_type="gemma3_text")
    assert float(nested.parameters) == float(flat.parameters)
    assert (
        float(model_from_config(config | {"tie_word_embeddings": False}, "small").parameters)
        == float(flat.parameters) + 64_000
    )


NEEDED = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
)


@pytest.mark.parametrize("field", NEEDED)
def test_a_missing_field_is_named(field):
    with pytest.raises(InputError, match=f"small: config.json lacks {field}"):
        model_from_config({key: value for key, value in SMALL.items() if key != field}, "small")


@pytest.mark.parametrize("value", [0, -1, "many", True, [4], float("nan"), float("inf")], ids=str)
@pytest.mark.parametrize("field", [*NEEDED, "num_key_value_heads", "head_dim"])
def test_a_bad_value_is_named(field, value):
    with pytest.raises(
        InputError, match=f"small: {field}: {value!r}".replace("[", r"\[").replace("]", r"\]")
    ):
        small(**{field: value})


@pytest.mark.parametrize(
    ("family", "field"),
    [
        ("mistral", "sliding_window"),
        ("gemma3_text", "sliding_window"),
        ("starcoder2", "sliding_window"),
    ],
)
@pytest.mark.parametrize("value", ["many", -1], ids=str)
def test_a_bad_window_is_refused(family, field, value):
    with pytest.raises(InputError, match=f"{field}: {value!r}"):
        small(model_type=family, **{field: value})


def test_a_bad_first_windowed_layer_is_refused():
    with pytest.raises(InputError, match="max_window_layers: 'many'"):
        small(
            model_type="qwen2", use_sliding_window=True, sliding_window=16, max_window_layers="many"
        )


def test_an_unknown_type_lists_the_known_ones():
    with pytest.raises(InputError) as refusal:
        small(model_type="lama")
    assert "small: model_type: 'lama' is not known; did you mean llama" in str(refusal.value)
    assert all(family in str(refusal.value) for family in FAMILIES)


def test_a_missing_type_lists_the_known_ones():
    with pytest.raises(InputError, match="lacks model_type; known are .*llama"):
        model_from_config({}, "small")


def test_a_projected_embedding_is_refused():
    with pytest.raises(InputError, match="word_embed_proj_dim differs"):
        small(model_type="opt", word_embed_proj_dim=32)


# ---- files


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps(
            SMALL | {"architectures": ["LlamaForCausalLM"], "rope_theta": 5e5, "pad_token_id": None}
        )
    )
    return folder


@pytest.mark.parametrize("part", ["", "config.json"])
@pytest.mark.parametrize("how", [str, lambda path: path], ids=["text", "Path"])
def test_a_file_loads_by_folder_and_by_path(folder, part, how):
    model = load_model(how(folder / part))
    assert model.name == "my-model"
    assert float(model.parameters) == SMALL_PARAMETERS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps(SMALL)[:-20], "not valid JSON .* truncated"),
        ("", "not valid JSON"),
        ("[1, 2]", "holds no JSON object"),
        ('"llama"', "holds no JSON object"),
        ("{}", "my-model: config.json lacks model_type"),
        ('{"model_type": ["llama"]}', "my-model: model_type"),
    ],
)
def test_a_broken_file_is_refused(folder, text, message):
    (folder / "config.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_model(folder)


def test_a_missing_file_is_refused(folder):
    with pytest.raises(InputError, match=r"there is no file .*nowhere\.json"):
        load_model(folder / "nowhere.json")


def test_a_folder_without_a_config_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"config\.json"):
        load_model(tmp_path)


def test_an_unknown_id_suggests_the_nearest():
    with pytest.raises(
        InputError,
        match=r"model: 'meta-llama/Llama-3.1-80B' is not known; did you mean .*meta-llama/Llama-3\.1-8B",
    ):
        load_model("meta-llama/Llama-3.1-80B")


# ---- records


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


def test_published_gemma_files_leave_sizes_to_defaults():
    """The 27B file on the Hub has no vocab_size, the 12B no head_dim."""
    facts = {
        "model_type": "gemma3_text",
        "hidden_size": 3840,
        "intermediate_size": 15360,
        "num_hidden_layers": 48,
        "num_attention_heads": 16,
    }
    bare = model_from_config(facts | {"num_key_value_heads": 8, "sliding_window": 1024}, "bare")
    assert float(bare.parameters) == float(load_model("google/gemma-3-12b-pt").parameters)


@pytest.mark.parametrize(
    "change",
    [
        {"num_hidden_layers": 2.5},
        {"num_key_value_heads": 8},
        {"tie_word_embeddings": "false"},
        {"num_hidden_layers": 10**20},
    ],
    ids=str,
)
def test_a_value_of_the_wrong_kind_is_named(change):
    with pytest.raises(InputError, match=f"small: {next(iter(change))}: "):
        small(num_attention_heads=4, **change)
