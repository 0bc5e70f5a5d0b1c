"""Text with units: what is read, what is refused, what is shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffgenz.core.errors import InputError
from diffgenz.core.smooth import as_leaf
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
        # as datasheets spell them
        ("376 TFLOPS", "FLOP/s", 376e12),
        ("1,979 TFLOPS", "FLOP/s", 1979e12),
        ("1,978.9 TFLOPs", "FLOP/s", 1978.9e12),
        ("1.979 petaFLOPS", "FLOP/s", 1.979e15),
        ("989 teraFLOPS", "FLOP/s", 989e12),
        ("1035 tflops", "FLOP/s", 1035e12),
        ("989 TFLOPs/s", "FLOP/s", 989e12),
        ("989 TFLOPS dense", "FLOP/s", 989e12),
        ("752 TOPS", "FLOP/s", 752e12),
        ("5 POPS", "FLOP/s", 5e15),
        ("3.35TB/s", "B/s", 3.35e12),
        ("3.35 TB / sec", "B/s", 3.35e12),
        ("936.2 GByte/s", "B/s", 936.2e9),
        ("936 gigabytes per second", "B/s", 936e9),
        ("936 GBps", "B/s", 936e9),
        ("HBM3e 8 TB/s", "B/s", 8e12),
        ("8 TB/s HBM3E", "B/s", 8e12),
        ("GDDR6X 1,008 GB/s", "B/s", 1008e9),
        ("64 GB HBM2e", "B", 64e9),
        ("24 GiB GDDR6", "B", 24 * 2**30),
        ("128GB LPDDR5X", "B", 128e9),
        ("512 GB DDR4", "B", 512e9),
        ("6144 KB", "B", 6.144e6),
        ("400 Gbit/s", "B/s", 50e9),
        ("3.2 Tbit/s", "B/s", 400e9),
        ("400 gigabits per second", "B/s", 50e9),
        ("16 Gbit", "B", 2e9),
        ("350W", "W", 350.0),
        ("350 Watts", "W", 350.0),
        ("5us", "s", 5e-6),
        ("5 \u00b5s", "s", 5e-6),
        ("5 \u03bcs", "s", 5e-6),
        ("5 microseconds", "s", 5e-6),
        ("800 nsec", "s", 800e-9),
        ("$3.60/hr", "USD/s", 1e-3),
        ("3.6 $/hour", "USD/s", 1e-3),
        ("USD 3.6 per hour", "USD/s", 1e-3),
    ],
)
def test_reads(text, unit, value):
    assert parse(text, unit) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "unit", "why"),
    [
        ("3.35", "B/s", "no unit"),
        ("400 Gb/s", "B/s", 'write "400 Gbit/s" for bits, an eighth of "400 GB/s" for bytes'),
        ("400 Gbps", "B/s", 'write "400 Gbit/s" for bits, an eighth of "400 GB/s" for bytes'),
        ("8 Tb/s", "B/s", 'write "8 Tbit/s" for bits, an eighth of "8 TB/s" for bytes'),
        ("8 tbps", "B/s", 'write "8 Tbit/s" for bits, an eighth of "8 TB/s" for bytes'),
        ("80 gb", "B", 'write "80 Gbit" for bits, an eighth of "80 GB" for bytes'),
        ("HBM3e 8 Tb/s", "B/s", "bits"),
        ("32 GT/s", "B/s", "GT/s"),
        ("21 Gbit", "B/s", "Gbit"),
        ("3.35 TB", "B/s", "TB"),
        ("80 GB/s", "B", "GB/s"),
        ("141GB HBM3e at 4.8 TB/s", "B", "4.8 TB/s"),
        ("HBM3e", "B", "not a quantity"),
        ("8 x 36 GiB", "B", "x 36 GiB"),
        ("16-32 GB", "B", "-32 GB"),
        ("1,6 TB/s", "B/s", "decimal comma"),
        ("0,979 TB/s", "B/s", "decimal comma"),
        ("1,9795 TB/s", "B/s", "decimal comma"),
        ("1410 MHz", "FLOP/s", "'MHz'"),
        ("1410 MHz", "B/s", "'MHz'"),
        ("989 TFLOP", "FLOP/s", "counts operations"),
        ("3,958 TFLOPS*", "FLOP/s", "sparsity; write the dense one"),
        ("3,958 TFLOPS with sparsity", "FLOP/s", "sparsity; write the dense one"),
        ("376 TFLOPS", "B/s", "TFLOPS"),
        ("2.99 EUR/h", "USD/s", "EUR"),
        ("2.99 USD", "USD/s", "'USD'"),
        ("0.35 MW", "W", "MW"),
        ("80 W", "s", "'W'"),
        ("5 h", "s", "'h'"),
        ("8 GPUs", "1", "count"),
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
        (1500.0, "s", "1,500 s"),
        (0.0, "B", "0 B"),
        (4e-13, "J/FLOP", "0.4 pJ/FLOP"),
        (float("inf"), "s", "inf s"),
    ],
)
def test_shows(value, unit, text):
    assert show(value, unit) == text


@given(st.floats(1e-12, 1e20), st.sampled_from(["B/s", "FLOP/s", "s", "W"]), st.integers(2, 4))
def test_what_is_shown_has_no_exponent_where_there_is_a_prefix(value, unit, digits):
    assert "e+" not in show(value, unit, digits)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (999.6e-9, "s", "1 us"),
        (1e-6, "s", "1 us"),
        (999.4e-9, "s", "999 ns"),
        (999.51e9, "B/s", "1 TB/s"),
        (12_345.0, "s", "12,345 s"),
        (2.5e21, "B/s", "2,500 EB/s"),
    ],
)
def test_rounding_never_leaves_a_thousand(value, unit, text):
    assert show(value, unit) == text


@pytest.mark.parametrize("text", ["1 TFLOP/s", "64", ""])
def test_records_take_numbers_and_no_text(text):
    with pytest.raises(InputError, match="is text; a record takes a plain number in SI"):
        as_leaf(text)
