"""Technology files: what is left out is as shipped, and what is wrong is named."""

import re

import numpy as np
import pytest

import diffgenz as dgz
from diffgenz.technology.coefficients import coefficients_of


def loaded(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return dgz.load_technology(path)


def test_what_is_saved_is_loaded(tmp_path):
    shipped, path = dgz.load_technology(), tmp_path / "copy.toml"
    dgz.save_technology(shipped, path)
    again = coefficients_of(dgz.load_technology(path))
    for name, each in coefficients_of(shipped).items():
        assert float(again[name].value) == pytest.approx(float(each.value), rel=1e-5)
        assert (again[name].unit, again[name].source) == (each.unit, each.source)
    copy = dgz.load_technology(path)
    assert copy.uncertain == shipped.uncertain
    assert np.asarray(copy.covariance) == pytest.approx(np.asarray(shipped.covariance), abs=1e-5)


def test_a_file_changes_what_it_states_and_nothing_else(tmp_path):
    mine = loaded(
        tmp_path,
        'markup = 2.5\n[leakage]\nprior = 0.2\nwidth = 0.3\nunit = "W/mm2"\nsource = "ours"\n'
        "[memories.HBM3e]\nprice = 30\n",
    )
    shipped = coefficients_of(dgz.load_technology())
    changed = {name for name, each in coefficients_of(mine).items() if each is not shipped[name]}
    assert changed == {"markup", "leakage", "memories.HBM3e.price"}
    assert (float(mine.markup.value), float(mine.markup.deviation)) == (2.5, 0)
    assert float(mine.leakage.deviation) == pytest.approx(0.3)  # no fit: the prior's width
    assert not {"markup", "leakage", "memories.HBM3e.price"} & set(mine.uncertain)
    assert len(mine.uncertain) == np.shape(mine.covariance)[0]


def test_a_process_of_ones_own(tmp_path):
    mine = loaded(
        tmp_path,
        "[processes.A14]\ndensity = 2.2\nsram_cell = 0.019\nenergy = 0.5\n"
        "wafer_price = 30000\ndefects = 0.15\n",
    )
    platform = dgz.load_platform("h100_sxm", fit="none")
    chip = dgz.chip_of(platform, mine)
    numbers = {name: getattr(chip, name) for name in type(chip).__dataclass_fields__}
    smaller = dgz.technology_of(dgz.Chip(**numbers | {"process": "A14"}), mine)
    assert float(smaller.die_area) < 0.75 * float(dgz.technology_of(platform).die_area)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("markupp = 3", "technology: key: 'markupp' is not known; did you mean markup"),
        ("markup = 0", "markup.value: 0 is not allowed; it must be above 0"),
        ("markup = -2", "markup.value: -2 is not allowed"),
        ("markup = nan", "markup.value: nan is not allowed"),
        ("markup = true", "markup: True is not a table"),
        ("[markup]\nwidth = 1", "markup: has no value; write prior = NUMBER"),
        ("[markup]\nprior = 'much'", "markup.prior: 'much' is not a number"),
        ("[markup]\nprior = 1\nwidth = -1", "markup: width: -1 is not allowed"),
        (
            "[leakage]\nprior = 1\nunit = 'W'",
            "leakage.unit: 'W' is not its unit",
        ),
        ("[processes.N9]\ndensity = 3", "processes.N9.sram_cell: is missing; a new one needs"),
        ("[processes.N5]\nmood = 3", "processes.N5: key: 'mood' is not known"),
        ("processes = 3", "processes: 3 is not a table"),
        ("[covariance]\nof = ['leakage']\nrows = [[1, 2]]", "covariance.rows: are not the lower"),
        ("markup = [", "not valid TOML"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path, text, complaint):
    with pytest.raises(dgz.InputError, match=re.escape(complaint)) as error:
        loaded(tmp_path, text)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("mine.toml") or "mine.toml" in str(error.value)
