"""Number formats: bytes per element, and the peak that multiplies them."""

import pytest

from diffgenz.errors import InputError
from diffgenz.formats import FORMATS
from diffgenz.precision import Precision
from diffgenz.specs import PEAK_FORMATS

BITS = {  # per element, scales included
    "fp32": 32,
    "tf32": 32,
    "bf16": 16,
    "fp16": 16,
    "fp8": 8,
    "fp8_block": 8 + 32 / (128 * 128),
    "int8": 8,
    "fp6": 6,
    "mxfp8": 8 + 8 / 32,
    "mxfp6": 6 + 8 / 32,
    "mxfp4": 4 + 8 / 32,
    "nvfp4": 4 + 8 / 16,
    "int4": 4 + 16 / 128,
    "int2": 2 + 32 / 64,
}


@pytest.mark.parametrize("name", FORMATS)
def test_size_by_hand(name):
    precision = Precision(name)
    sizes = (precision.dtype_size, precision.weight_size, precision.activation_size, precision.kv_cache_size)
    assert FORMATS[name].size == BITS[name] / 8
    assert [float(size) for size in sizes] == pytest.approx([BITS[name] / 8] * 4, rel=1e-7)


@pytest.mark.parametrize("name", FORMATS)
def test_peak_is_one_that_accelerator_files_can_state(name):
    assert FORMATS[name].peak in PEAK_FORMATS


@pytest.mark.parametrize(
    ("weights", "activations", "peak"),
    [
        (None, None, "bf16"),
        ("int4", None, "bf16"),  # W4A16
        ("nvfp4", None, "bf16"),
        ("int8", None, "bf16"),  # W8A16
        ("fp8", "fp8", "fp8"),  # W8A8
        ("fp8_block", "fp8_block", "fp8"),
        ("fp8_block", "fp8", "fp8"),
        ("int8", "int8", "int8"),
        ("mxfp4", "fp8", "fp8"),  # W4A8
        ("mxfp4", "mxfp8", "fp8"),
        ("nvfp4", "nvfp4", "nvfp4"),  # W4A4
        ("mxfp6", "mxfp4", "fp6"),
        ("mxfp4", "mxfp6", "fp6"),
        (None, "fp8", "bf16"),  # wide weights, narrow activations
    ],
)
def test_linear_layers_multiply_in_the_wider_format(weights, activations, peak):
    precision = Precision("bf16", weights, activations)
    assert precision.linear_peak == peak
    assert precision.attention_peak == "bf16"


def test_everything_follows_dtype_unless_said():
    precision = Precision("fp16", kv_cache="fp8")
    assert (precision.weights, precision.activations, precision.kv_cache) == ("fp16", "fp16", "fp8")
    assert float(precision.kv_cache_size) == 1


@pytest.mark.parametrize("field", ["dtype", "weights", "activations", "kv_cache"])
def test_an_unknown_name_is_refused_with_the_nearest(field):
    with pytest.raises(InputError, match=f"{field}: 'fp8_blok' is not known; did you mean fp8_block"):
        Precision(**{field: "fp8_blok"})
