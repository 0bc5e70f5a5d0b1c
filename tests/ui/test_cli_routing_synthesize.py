"""`diffgenz routing synthesize`: draws a trace, writes it, and says what it drew from."""

import json

import pytest

from diffgenz.routing.source import load_trace
from diffgenz.routing.synthetic_files import load_synthetic
from diffgenz.ui.cli.main import main

FEW = ["--requests", "12", "--isl", "4", "--osl", "6"]


def test_a_preset_gives_a_trace_that_loads(tmp_path, capsys):
    out = tmp_path / "trace.npz"
    assert main(["routing", "synthesize", "olmoe", *FEW, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "120 tokens of 12 requests, 16 layers, 8 of 64 experts" in text
    assert f"written to {out}" in text
    trace = load_trace(out)
    assert (trace.tokens, trace.experts, trace.k, len(trace.layers)) == (120, 64, 8, 16)
    assert set(trace.domains) == set(load_synthetic("olmoe").domains)


def test_seeds_and_json(capsys):
    found = []
    for seed in ("1", "1", "2"):
        assert main(["routing", "synthesize", "mixtral", *FEW, "--seed", seed, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1] != found[2]
    assert found[0]["tokens"] == 120
    assert 0 < found[0]["moments"]["gini"] < 1
    assert found[0]["basis"]["private"] == "assumed"


def test_a_trace_is_fitted_first_and_its_parameters_can_be_kept(tmp_path, capsys):
    params, trace, again = (str(tmp_path / name) for name in ("a.toml", "a.npz", "b.npz"))
    own = tmp_path / "own.toml"
    own.write_text('experts = 8\nk = 1\nlayers = [0, 1]\nsource = "mine"\npopularity = 0.7\n')
    assert main(["routing", "synthesize", str(own), *FEW, "--out", trace]) == 0
    asked = ["routing", "synthesize", trace, *FEW, "--params-out", params, "--out", again]
    assert main(asked) == 0
    assert "Fitted to a.npz, 120 tokens" in capsys.readouterr().out
    fitted = load_synthetic(params)
    assert (fitted.experts, fitted.layers) == (8, (0, 1))
    assert fitted.basis["popularity"] == "fitted"
    assert load_trace(again).tokens == 120


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mixtrall"], "did you mean mixtral?"),
        (["none.toml"], "cannot read none.toml"),
        (["olmoe", "--out", "trace.npy"], "--out: trace.npy does not end in .npz"),
        (["olmoe", "--requests", "0"], "requests: 0 is not allowed"),
        (["olmoe", "--isl", "-1"], "prefill_tokens: -1 is not allowed"),
        (["olmoe", "--isl", "0", "--osl", "0"], "there are no tokens at all"),
        (["olmoe", "--requests", "4", "--out", "no/such/folder.npz"], "cannot be written"),
    ],
)
def test_bad_input_is_named(arguments, message, capsys):
    assert main(["routing", "synthesize", *arguments]) == 2
    assert message in capsys.readouterr().err
