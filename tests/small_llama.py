"""A Llama small enough to count by hand."""

from diffgenz import model_from_config

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
    """The small Llama with `changes` to its configuration."""
    return model_from_config(SMALL | changes, "small")
