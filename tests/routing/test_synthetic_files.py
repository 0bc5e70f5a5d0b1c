import dataclasses

import numpy as np
import pytest

from diffgenz.core.errors import InputError
from diffgenz.routing.synthetic import synthesize
from diffgenz.routing.synthetic_files import load_synthetic, preset_names, text_of

PRESETS = preset_names()


def test_six_models_are_shipped():
    assert PRESETS == [
        "deepseek-v2-lite",
        "deepseek-v3",
        "llama-4-maverick",
        "mixtral",
        "olmoe",
        "qwen3-235b",
    ]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_where_it_comes_from_and_draws_traces(name):
    preset = load_synthetic(name)
    assert len(preset.source) > 80
    assert preset.basis
    assert "assumed" in preset.source.lower()
    few = preset.select(preset.layers[::20])
    trace = synthesize(few, 8, 3, 5)
    assert trace.tokens == 64
    assert trace.model == preset.model


@pytest.mark.parametrize("name", PRESETS)
def test_the_text_of_parameters_gives_them_back(name, tmp_path):
    preset = load_synthetic(name)
    path = tmp_path / "mine.toml"
    path.write_text(text_of(preset), encoding="utf-8")
    assert load_synthetic(path) == preset


GOOD = 'experts = 4\nk = 1\nlayers = [0, 1]\nsource = "mine"\n'
BAD = [
    ("k = 1\n", "mine.toml: experts: is missing"),
    (GOOD.replace('"mine"', '" "'), "mine.toml: source: is empty"),
    (GOOD.replace('source = "mine"', ""), "mine.toml: source: is missing"),
    (GOOD + "popularty = 1\n", "popularty.*did you mean popularity"),
    (GOOD + 'popularity = "high"\n', "popularity: 'high' is not a number"),
    (GOOD + "popularity = [1, true]\n", "popularity: True is not a number"),
    (GOOD + "popularity = [1, 2, 3]\n", "mine.toml: popularity: has 3 values for 2 layers"),
    (GOOD.replace("[0, 1]", "[0.5]"), "layers: 0.5 is not a whole number"),
    (GOOD.replace("k = 1", "k = 9"), "mine.toml: k: 9 is not allowed"),
    (GOOD + '[basis]\nprivate = "guessed"\n', "basis.private: 'guessed' is not known"),
    (GOOD + '[basis]\nprivat = "fitted"\n', "basis: key: 'privat' is not known"),
    ("experts = ", "not valid TOML"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[message for _, message in BAD])
def test_a_file_that_breaks_the_format_is_refused_by_name(text, message, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_synthetic(path)


def test_unknown_presets_and_missing_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="did you mean deepseek-v3"):
        load_synthetic("deepseek_v3")
    with pytest.raises(InputError, match="cannot read"):
        load_synthetic(tmp_path / "none.toml")
    with pytest.raises(InputError, match="source: is empty"):
        text_of(dataclasses.replace(load_synthetic("olmoe"), source=""))


def test_layers_may_differ():
    olmoe = load_synthetic("olmoe")
    assert len(np.unique(olmoe.domain)) == len(olmoe.layers) == 16
    assert olmoe.select([3]).domain == (olmoe.domain[3],)
