"""Fits in words: what holds, what does not, and what is not known."""

import dataclasses

import pytest

from diffgenz.kernels.forms.attention_decode import Decode
from diffgenz.ui.text.fits import fit_json, fit_line, fits_table, remarks, warning

NAN = float("nan")


def test_a_fit_that_holds_is_not_warned_of(found):
    assert warning(dataclasses.replace(found, mean_error=0.3)) is None
    assert fit_json(found)["warning"] is None
    assert not [line for line in remarks([found]) if line.startswith("warning")]


def test_a_fit_that_does_not_hold_says_what_to_check(found):
    bad = dataclasses.replace(found, mean_error=1.4)
    words = remarks([found, bad])[0]
    assert words == (
        "warning: gemm bf16 vllm-1.0: 140 % off on average, so do not trust it; check the units "
        "of times and shapes, and that rows of one name are of one kernel, one software and one "
        "accelerator"
    )
    attention = dataclasses.replace(bad, form=Decode)
    assert "the window (empty or 0 is none)" in str(warning(attention))
    assert fit_json(bad)["warning"] == words


@pytest.mark.parametrize(("rows", "words"), [(3, "3 rows"), (1, "1 row")])
def test_too_few_rows_are_words(rows, words, found):
    few = dataclasses.replace(
        found, rows=rows, held_out=0, mean_error=NAN, median_error=NAN, coverage=NAN
    )
    assert f"{words}: too few to hold some out" in str(warning(few))
    for text in (fits_table([few]), fit_line(few), *remarks([few])):
        assert "nan" not in text
    assert fits_table([few]).split()[-5:] == ["not", "known", "not", "known", "-"]
