"""Tables on screens of any width: what they look like, and that nothing is left out."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffgenz.ui.tables import bar, number, table
from diffgenz.ui.terminal import PIPED, columns, wrapped

SPEEDS = ("system", "tok/s/GPU", "TTFT ms", "fits", "kernels")
ROWS = [
    ("a", "1,000", "12.5", "yes", "vllm for fp8; roofline: attention"),
    ("bb", "900", "8", "yes", "vllm"),
]


def lines_of(within, **more):
    return table(SPEEDS, ROWS, "lrrrl", within=within, **more).splitlines()


def test_where_it_fits_nothing_is_broken():
    assert lines_of(80) == [
        "system  tok/s/GPU  TTFT ms  fits  kernels",
        "------  ---------  -------  ----  ---------------------------------",
        "a           1,000     12.5   yes  vllm for fp8; roofline: attention",
        "bb            900        8   yes  vllm",
    ]
    assert table(("a", "b"), []).splitlines() == ["a  b", "-  -"]


def test_headers_are_broken_first():
    assert lines_of(61)[:3] == [
        "        tok/s/  TTFT",
        "system     GPU    ms  fits  kernels",
        "------  ------  ----  ----  ---------------------------------",
    ]


def test_then_what_is_the_same_everywhere_is_said_once():
    assert lines_of(58) == [
        "        tok/s/  TTFT",
        "system     GPU    ms  kernels",
        "------  ------  ----  ---------------------------------",
        "a        1,000  12.5  vllm for fp8; roofline: attention",
        "bb         900     8  vllm",
        "all rows: fits yes",
    ]
    header, rows = ("index", "memory, GB", "kernels"), [("1", "80", "a b c"), ("2", "80", "d")]
    assert table(header, rows, within=17).endswith("\nall rows: memory 80 GB")
    header = ("index", "memory GB of 85.5", "kernels")
    assert table(header, rows, within=17).endswith("\nall rows: memory 80 GB of 85.5")
    alone = table(SPEEDS, ROWS[:1], "lrrrl", within=58)
    assert "all rows" not in alone  # a single row says nothing twice


def test_then_text_is_broken():
    lines = lines_of(45)
    assert lines[2:] == [
        "------  ------  ----  ----  -----------------",
        "a        1,000  12.5   yes  vllm for fp8;",
        "                            roofline:",
        "                            attention",
        "bb         900     8   yes  vllm",
    ]


def test_then_it_becomes_two():
    header = ("row", *(f"number{i}" for i in range(6)))
    rows = [[str(row), *(f"{row}{i}" for i in range(6))] for row in range(2)]
    assert table(header, rows, within=40).splitlines() == [
        "row  number0  number1  number2  number3",
        "---  -------  -------  -------  -------",
        "  0       00       01       02       03",
        "  1       10       11       12       13",
        "",
        "row  number4  number5",
        "---  -------  -------",
        "  0       04       05",
        "  1       14       15",
    ]


def test_bars_take_the_room_there_is():
    bars = [(1.0, "knee"), (0.5, "")]
    wide, narrow = (lines_of(within, bars=bars) for within in (150, 76))
    assert wide[2].endswith(" " + "█" * 30 + " knee")
    assert wide[3].endswith(" " + "█" * 15)
    assert narrow[3].endswith(" " + "█" * 8 + " knee")
    assert narrow[4].endswith(" " + "█" * 4)


WORDS = st.text("abc defg/hij,.0123456789 ", min_size=0, max_size=30).map(
    lambda text: " ".join(text.split())
)


@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(
            st.lists(WORDS, min_size=n, max_size=n),
            st.lists(st.lists(WORDS, min_size=n, max_size=n), max_size=4),
            st.text("lr", max_size=n),
        )
    ),
    st.integers(40, 120),
)
def test_no_line_is_too_wide_and_nothing_is_lost(content, within):
    header, rows, align = content
    text = table(header, rows, align, within=within)
    assert all(len(line) <= within for line in text.splitlines() if not line.startswith("all rows"))
    for letters in (header, *rows):
        for cell in letters:
            # broken cells stand in several lines: their letters are all there
            assert all(text.count(letter) >= cell.count(letter) for letter in set(cell) - {" "})


def test_wide_letters_count_twice():
    lines = table(("name", "x"), [("模型", "1"), ("abcd", "2")], "l", within=40).splitlines()
    assert lines[2:] == ["模型  1", "abcd  2"]


def test_the_width_of_the_screen(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "123")
    assert columns() == 123
    monkeypatch.setenv("COLUMNS", "7")
    assert columns() == 40
    monkeypatch.delenv("COLUMNS")
    assert columns() == PIPED  # nothing here is a terminal


def test_sentences_are_broken_at_words_and_commands_are_not(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    path = "/a" * 40
    text = f"short\n  {'word ' * 12}\n# {'remark ' * 8}\nserve {path} \\\n    --flag {path}\n{path}"
    assert wrapped(text).splitlines() == [
        "short",
        "  word word word word word word word",
        "    word word word word word",
        "# remark remark remark remark remark",
        "# remark remark remark",
        f"serve {path} \\",
        f"    --flag {path}",
        path,
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (12345.4, "12,345"),
        (999.5, "1,000"),
        (1.234, "1.23"),
        (1.2e-6, "1.2e-06"),
        (0.0, "0"),
        (-1500.0, "-1,500"),
    ],
)
def test_numbers(value, text):
    assert number(value) == text


@given(st.floats(0, 1))
def test_a_bar_is_as_long_as_its_share(share):
    full = bar(share).count("█")
    assert abs(full - 30 * share) <= 1
    assert re.fullmatch("█*[▏▎▍▌▋▊▉]?", bar(share))
