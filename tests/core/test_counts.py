"""Numbers as people type them."""

import subprocess
import sys

import pytest

from diffgenz import InputError
from diffgenz.core.counts import real, whole


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("4096", 4096),
        (" 7 ", 7),
        ("-2", -2),
        ("1e3", 1000),
        ("2.5e2", 250),
        ("32,768", 32768),
        ("1,048,576", 1048576),
        ("128_000", 128000),
        ("16.0", 16),
        (str(10**38), 10**38),
        ("123456789012345678", 123456789012345678),
    ],
)
def test_whole_numbers(text, number):
    assert whole(text) == number
    assert whole(text, tokens=True) == number
    assert real(text) == float(number)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("4k", 4096),
        ("4K", 4096),
        ("128k", 131072),
        ("1.5k", 1536),
        ("1M", 2**20),
        ("1,000k", 1024000),
    ],
)
def test_k_of_tokens_is_1024_and_of_anything_else_ambiguous(text, tokens):
    assert whole(text, tokens=True) == tokens
    for read in (whole, real):
        with pytest.raises(InputError, match=f"'{text}' is ambiguous: . may count in thousands"):
            read(text)


@pytest.mark.parametrize(
    "text",
    ["", "k", "long", "1.5", "0.3k", "nan", "inf", "1e400", "3,27", "1,00", "0x10", "4 kB", "4kk"],
)
def test_what_is_no_whole_number(text):
    with pytest.raises(InputError, match="invalid int value"):
        whole(text, tokens=True)


@pytest.mark.parametrize("text", ["half", "0,5", "1,00", "", "k"])
def test_what_is_no_number(text):
    with pytest.raises(InputError, match="invalid float value"):
        real(text)


def test_fractions():
    assert real("0.25") == 0.25
    assert real("1,500.5") == 1500.5


def test_counts_do_not_import_jax():
    code = "import sys, diffgenz.core.counts; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
