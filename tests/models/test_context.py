"""The longest sequence of a model, by the rules that vLLM reads a config.json with."""

import pytest

import diffgenz as dgz
from diffgenz.models.context import context_of


@pytest.mark.parametrize(
    ("raw", "tokens"),
    [
        ({"max_position_embeddings": 4096}, 4096),
        ({"n_positions": 1024}, 1024),
        ({"seq_length": 8192, "max_position_embeddings": 4096}, 4096),
        ({}, None),
        ({"max_position_embeddings": "many"}, None),
        ({"max_position_embeddings": True}, None),
        ({"max_position_embeddings": -5}, None),
        ({"max_position_embeddings": 10**400}, None),
        (
            {"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 4.0}},
            16384,
        ),
        (
            {
                "max_position_embeddings": 131072,
                "rope_scaling": {"rope_type": "llama3", "factor": 8.0},
            },
            131072,
        ),
        (
            {
                "max_position_embeddings": 40960,
                "rope_scaling": {
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 32768,
                },
            },
            131072,
        ),
        (
            {
                "max_position_embeddings": 163840,
                "rope_scaling": {
                    "type": "yarn",
                    "factor": 40,
                    "original_max_position_embeddings": 4096,
                },
            },
            163840,
        ),
        (
            {
                "model_type": "gemma3_text",
                "max_position_embeddings": 131072,
                "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            },
            131072,
        ),
        (
            {
                "max_position_embeddings": 262144,
                "rope_parameters": {"full_attention": {"rope_type": "default"}},
            },
            262144,
        ),
        ({"max_position_embeddings": 2048, "rope_scaling": {"factor": "4"}}, 2048),
        ({"max_position_embeddings": 2048, "rope_scaling": [1]}, 2048),
    ],
)
def test_by_hand(raw, tokens):
    assert context_of(raw) == tokens


def test_a_model_knows_where_it_came_from_and_how_far_it_reaches():
    model = dgz.load_model("Qwen/Qwen3-8B")
    assert (model.source, model.context) == ("Qwen/Qwen3-8B", 40960)


def test_no_estimate_depends_on_either():
    """They are labels, which programs are compiled without."""
    from diffgenz.core.record import unnamed

    model = dgz.load_model("Qwen/Qwen3-8B")
    other = model.replace(context=None, source="")
    assert unnamed(model).context is None
    assert repr(unnamed(model)) == repr(unnamed(other))
