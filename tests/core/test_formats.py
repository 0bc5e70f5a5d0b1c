"""Number formats: bytes per element by hand, and the peak that multiplies them."""

import pytest

from diffgenz.core.formats import FORMATS, PEAKS

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
    assert FORMATS[name].size == BITS[name] / 8


@pytest.mark.parametrize("name", FORMATS)
def test_peak_is_one_that_accelerator_files_can_state(name):
    assert FORMATS[name].peak in PEAKS
