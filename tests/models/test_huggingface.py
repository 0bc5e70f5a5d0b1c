"""config.json files: what is read, and what is refused by name."""

import json

import pytest
from small_llama import SMALL, SMALL_PARAMETERS, small

from diffgenz import load_model, model_from_config
from diffgenz.core.errors import InputError
from diffgenz.models.blocks.attention import Attention


def test_a_field_of_another_family_is_refused():
    with pytest.raises(
        InputError, match="small: sliding_window: model_type llama with sliding_window = 16 is not"
    ):
        small(sliding_window=16)  # Llama has no windows


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
        "model_type": "some_vl",
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


def test_an_unknown_type_is_refused_without_a_relative():
    with pytest.raises(InputError) as refusal:
        small(model_type="lama")
    assert "small: model_type: 'lama' is not modelled; --generic" in str(refusal.value)
    assert "llama" not in str(refusal.value)


def test_a_missing_type_is_named():
    with pytest.raises(InputError, match="lacks model_type; add it"):
        model_from_config({}, "small")


def test_a_projected_embedding_is_refused():
    with pytest.raises(InputError, match="word_embed_proj_dim differs"):
        small(model_type="opt", word_embed_proj_dim=32)


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
        match=r"model: 'meta-llama/Llama-3.1-80B' is not known; "
        r"did you mean .*meta-llama/Llama-3\.1-8B",
    ):
        load_model("meta-llama/Llama-3.1-80B")


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
