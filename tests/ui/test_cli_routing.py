"""`diffgenz routing`: tables, JSON, a picture, and what it says of bad input."""

import json

import numpy as np
import pytest
from routing_cases import drawn

from diffgenz.routing.trace import Trace
from diffgenz.ui.cli.main import main


@pytest.fixture
def trace(tmp_path):
    length = 20
    phase = np.tile(np.arange(length) >= 8, 40)
    Trace(
        16,
        (1, 3, 5),
        drawn(40 * length, 3, 16, 2),
        request=np.arange(40).repeat(length),
        phase=phase,
        domain=(np.arange(40) % 2).repeat(length),
        domains=("code", "a domain with a name that is rather long"),
        model="example/model",
    ).save(tmp_path / "t.npz")
    return str(tmp_path / "t.npz")


def test_tables_fit_a_terminal(trace, capsys):
    assert main(["routing", "stats", trace, "--layers"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "example/model: top-2 of 16 experts, 3 layers (1 to 5)" in text
    assert "320 prefill and 480 decode tokens of 40 requests" in text
    assert "on average 8 prefill, 12 decode tokens" in text


def test_json_and_a_picture(trace, tmp_path, capsys):
    picture = tmp_path / "load.png"
    assert main(["routing", "stats", trace, "--json", "--plot", str(picture)]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["layers"] == [1, 3, 5]
    assert len(data["load"]["decode"]["Gini"]["value"]) == 3
    assert np.sum(data["counts"]["prefill"]) == 320 * 3 * 2
    assert picture.stat().st_size > 1000
    assert main(["routing", "stats", trace, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == data


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.npz"], "cannot read none.npz"),
        (["TRACE", "--experts", "0"], "--experts: 0 is not allowed"),
        (["TRACE", "--experts", "8"], "8 are asked for, the file has 16"),
        (["TRACE", "--top-k", "3"], "3 is asked for, the trace has 2"),
        (["TRACE", "--seed", "-1"], "--seed: -1 is not allowed"),
        (["TRACE", "--plot", "load.doc"], "'load.doc' is of no known kind"),
    ],
)
def test_bad_input_is_one_line(trace, arguments, message, capsys):
    arguments = [trace if each == "TRACE" else each for each in arguments]
    assert main(["routing", "stats", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_command_is_demanded(capsys):
    assert main(["routing"]) == 2
    assert "COMMAND" in capsys.readouterr().err
