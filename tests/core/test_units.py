"""Text with units: what is read, what is refused, what is shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffgenz.core.errors import InputError
from diffgenz.core.units import parse, show


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("989.4 TFLOP/s", "FLOP/s", 989.4e12),
        ("1.979 PFLOP/s", "FLOP/s", 1.979e15),
        ("624 TOP/s", "FLOP/s", 624e12),
        ("3.35 TB/s", "B/s", 3.35e12),
        ("21 PB/s", "B/s", 21e15),
        ("64 GiB/s", "B/s", 64 * 2**30),
        ("80 GB", "B", 80e9),
        ("80 GiB", "B", 80 * 2**30),
        ("81559 MiB", "B", 81559 * 2**20),
        ("512", "1", 512.0),
        ("1_024", "1", 1024.0),
        ("2.37 us", "s", 2.37e-6),
        ("2.37 µs", "s", 2.37e-6),
        ("12 ms", "s", 12e-3),
        ("700 W", "W", 700.0),
        ("1.2 kW", "W", 1200.0),
        ("3.6 USD/h", "USD/s", 1e-3),
        ("  4us ", "s", 4e-6),
        ("1e3 GB/s", "B/s", 1e12),
        (".5 s", "s", 0.5),
        ("-1 W", "W", -1.0),
    ],
)
def test_reads(text, unit, value):
    assert parse(text, unit) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "unit", "why"),
    [
        ("3.35", "B/s", "no unit"),
        ("400 Gb/s", "B/s", "Gb/s"),
        ("400 Gbps", "B/s", "Gbps"),
        ("3.35 TB", "B/s", "TB"),
        ("80 GB/s", "B", "GB/s"),
        ("80 gb", "B", "gb"),
        ("80 W", "s", "'W'"),
        ("5 h", "s", "'h'"),
        ("8 GPUs", "1", "count"),
        ("989 TFLOPS", "FLOP/s", "TFLOPS"),
        ("4 Ms", "s", "Ms"),
        ("fast", "B/s", "not a quantity"),
        ("", "1", "not a quantity"),
        ("nan GB", "B", "not a quantity"),
        ("inf GB", "B", "not a quantity"),
        ("1 2 GB", "B", "2"),
        (80e9, "B", "not a quantity"),
        (None, "B", "not a quantity"),
    ],
)
def test_refuses(text, unit, why):
    with pytest.raises(InputError, match=why) as refusal:
        parse(text, unit, field="memory.size")
    assert str(refusal.value).startswith("memory.size: ")
    assert repr(text) in str(refusal.value)


@given(st.floats(1, 9.99e20), st.sampled_from(["FLOP/s", "B/s", "B"]))
def test_what_is_shown_reads_back(value, unit):
    text = show(value, unit, digits=17)
    assert parse(text, unit) == pytest.approx(value, rel=1e-14)
    assert 1 <= float(text.split()[0]) < 1000


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (3.35e12, "B/s", "3.35 TB/s"),
        (2.5e-6, "s", "2.5 us"),
        (700.0, "W", "700 W"),
        (1500.0, "s", "1.5e+03 s"),
        (0.0, "B", "0 B"),
        (4e-13, "J/FLOP", "0.4 pJ/FLOP"),
        (float("inf"), "s", "inf s"),
    ],
)
def test_shows(value, unit, text):
    assert show(value, unit) == text
