"""The longest sequence that the positions of a model reach, as serving engines read a config.json.

They are the rules of vLLM (`vllm/config/model.py`, `_get_and_verify_max_len`): the smallest of the
fields that state a length, times the factor of a scaled rotary embedding where the fields do not
include it. A request that is longer is refused.
"""

from collections.abc import Iterator, Mapping
from typing import Any

LENGTHS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
"""Fields that state the length."""

LARGEST = 2**53
"""What no length and no factor reaches."""

INCLUDED = ("su", "longrope", "llama3")
"""Scalings whose factor the length includes. That of yarn is times the length before it."""


def context_of(raw: Mapping[str, Any]) -> int | None:
    """Tokens of the longest sequence; None where the file states no length.

    Fields with values that make no sense are passed over: no estimate depends on them.

    Arguments:
        raw: the part of a config.json about the language model.
    """
    stated = [length for key in LENGTHS if (length := _positive(raw.get(key))) is not None]
    if not stated:
        return None
    length = min(stated)
    if "gemma3" in str(raw.get("model_type")):
        return int(length)
    for scaling in _scalings(raw):
        kind, times = (
            scaling.get("rope_type", scaling.get("type")),
            _positive(scaling.get("factor")),
        )
        if kind in INCLUDED or times is None:
            continue
        before = _positive(scaling.get("original_max_position_embeddings"))
        length = times * (before if kind == "yarn" and before is not None else length)
    return int(length)


def _positive(value: Any) -> float | None:
    """The value where it is a positive number that a length or a factor may be."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and 0 < value < LARGEST else None


def _scalings(raw: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The scalings of the rotary embedding, or the first that layers of several kinds have."""
    for key in ("rope_scaling", "rope_parameters"):
        value = raw.get(key)
        if isinstance(value, Mapping):
            nested = [each for each in value.values() if isinstance(each, Mapping)]
            yield nested[0] if nested else value
            return
