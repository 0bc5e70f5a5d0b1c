"""`diffgenz technology` from end to end."""

import pytest
from ui_cases import run, run_json

from diffgenz.ui.cli.main import main


def test_one_accelerator_shows_its_parts_which_add_up(capsys):
    text = run(capsys, "technology", "h100_sxm")
    for part in ("die area, mm2", "814 (", "TDP: compute", "unit cost: memory", "stacks of memory"):
        assert part in text
    (data,) = run_json(capsys, "technology", "h100_sxm")
    for total, parts in (("die_area", "areas"), ("tdp", "powers"), ("unit_cost", "costs")):
        assert sum(data[parts].values()) == pytest.approx(data[total], rel=1e-5)
    assert data["published"] == {"die_area": 814, "stacks": 5, "unit_cost": 3320, "tdp": 700}


def test_several_stand_side_by_side_and_settings_and_files_count(capsys, tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text("markup = 2\n")
    one, other = run_json(capsys, "technology", "h100_sxm", "h200_sxm", "--technology", str(mine))
    assert one["unit_price"] == pytest.approx(2 * one["unit_cost"], rel=1e-6)
    assert other["whole_stacks"] == 6
    (faster,) = run_json(capsys, "technology", "h100_sxm", "--set", "memory_bandwidth=6 TB/s")
    assert faster["whole_stacks"] == 8  # 6 TB/s at 819 GB/s a stack
    assert faster["die_area"] > one["die_area"]
    assert faster["published"] == {}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["gb10"], "design: the file of NVIDIA GB10 (DGX Spark, 128GB) does not say how it is"),
        (["h100_sxm", "--technology", "none.toml"], "technology: cannot read none.toml"),
        (["h100_sxm", "--set", "clock=fast"], "--set design.clock: 'fast' is not a quantity"),
        (["tpu_v9"], "system: 'tpu_v9' is not known"),
    ],
)
def test_bad_input_is_one_line(capsys, words, complaint):
    assert main(["technology", *words]) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
