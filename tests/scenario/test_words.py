"""The table of words: what each is read as, and that its number is there."""

import subprocess
import sys

import pytest

from diffgenz import InputError
from diffgenz.core.leaves import find, leaf_at, number_at, with_unset
from diffgenz.scenario.from_words import from_words
from diffgenz.scenario.words import WORDS, read_words

EVERYWHERE = {"model": "Qwen/Qwen3-VL-30B-A3B-Instruct", "system": "h200_sxm", "fit": "none"}
"""A model with experts and a vision tower: every word says something of it."""

NUMBERS = {
    "gpus": 8,
    "tp": 2,
    "pp": 2,
    "dp": 2,
    "ep": 2,
    "cp": 2,
    "sp": True,
    "attention-dp": 2,
    "overlap": 0.25,
    "chunk": 256,
    "prefix-hit": 0.5,
    "drafts": 3,
    "acceptance": 0.5,
    "beams": 2,
    "memory-utilization": 0.75,
    "isl": 300,
    "osl": 30,
    "images": 2,
    "batch": 4,
}
BESIDE = {"ep": {"tp": 2}, "drafts": {"acceptance": 0.9}, "acceptance": {"drafts": 3}}


def test_every_word_that_sets_a_number_is_tested():
    assert {name for name, word in WORDS.items() if word.leaf} == set(NUMBERS)


@pytest.mark.parametrize("name", NUMBERS)
def test_a_word_sets_its_number(name):
    word, words = WORDS[name], EVERYWHERE | {"tp": 1} | BESIDE.get(name, {})
    case = from_words(words | {name: NUMBERS[name]}).scenario
    (path,) = find(case, word.leaf)
    assert float(leaf_at(case, path)) == NUMBERS[name]


@pytest.mark.parametrize("name", [name for name, word in WORDS.items() if word.leaf])
def test_numbers_state_their_unit(name):
    words = {"prefix-hit": 0.5, "drafts": 3, "acceptance": 0.5, "beams": 2}
    case = from_words(EVERYWHERE | words).scenario
    case = with_unset(case, WORDS[name].leaf, 1.0)
    (path,) = find(case, WORDS[name].leaf)
    assert number_at(case, path) is not None


def test_values_are_read_as_what_they_are():
    read = read_words({"gpus": "8", "attention_dp": 2, "overlap": 1, "fit": None, "sharpness": 2})
    assert read["gpus"] == 8
    assert read["attention-dp"] == 2
    assert read["overlap"] == 1.0
    assert read["sharpness"] == "2"
    assert read["fit"] == WORDS["fit"].default
    assert read["isl"] == 1024
    assert read["chunk"] == 8192
    assert read_words({"chunk": "whole"})["chunk"] is None
    assert list(read) == list(WORDS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"isl": "long"}, "argument --isl: invalid int value: 'long'"),
        ({"isl": 1.5}, "argument --isl: invalid int value: '1.5'"),
        ({"overlap": "half"}, "argument --overlap: invalid float value: 'half'"),
        ({"chunk": "all"}, "argument --chunk: invalid int value: 'all', or whole"),
        ({"chunk": True}, "argument --chunk: expected one argument"),
        ({"sp": 1}, "argument --sp: 1 is neither true nor false"),
        ({"offload": "all"}, r"argument --offload: invalid choice: 'all' \(choose from 'weights'"),
        ({"olt": 3}, "word: 'olt' is not known; did you mean osl"),
    ],
)
def test_other_values_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        read_words(given)


def test_defaults_are_of_their_kind():
    for word in WORDS.values():
        assert word.default is None or type(word.default) is word.kind
        assert word.help


def test_words_do_not_import_jax():
    code = "import sys, diffgenz.scenario.words; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
