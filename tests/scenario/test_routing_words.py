"""The word `routing`: names, files, and what is refused."""

import json

import pytest

from diffgenz import InputError, PerKind, PerPhase, PowerLaw, Traced, Uniform
from diffgenz.scenario.from_words import from_words
from diffgenz.scenario.routing_words import read_routing

EXPERTS = {"model": "Qwen/Qwen3-30B-A3B", "system": "h200_sxm", "gpus": 8, "fit": "none"}


def test_names():
    assert isinstance(read_routing("uniform"), Uniform)
    law = read_routing("power-law:0.5")
    assert isinstance(law, PowerLaw)
    assert float(law.spread) == 0.5


def test_files_of_numbers(tmp_path):
    told = {"rows": 1.75, "far": 0.5, "wire": 1, "note": "MMLU"}
    (tmp_path / "a.json").write_text(json.dumps(told))
    (tmp_path / "a.toml").write_text('rows = 1.75\nfar = 0.5\nwire = 1\nnote = "MMLU"\n')
    for name in ("a.json", "a.toml"):
        found = read_routing(str(tmp_path / name))
        assert isinstance(found, Traced)
        assert (float(found.rows), float(found.far), found.note) == (1.75, 0.5, "MMLU")
        assert found.wire is found.near is None
    (tmp_path / "kinds.json").write_text('{"rows": [1.5, 1.0], "far": 0.5}')
    kinds = read_routing(str(tmp_path / "kinds.json"))
    assert isinstance(kinds, PerKind)
    assert kinds.kinds[0].note == "kinds.json"
    (tmp_path / "even.toml").write_text("rows = 1\nfar = 1.0\n")
    assert isinstance(read_routing(str(tmp_path / "even.toml")), Uniform)


def test_files_of_both_phases(tmp_path):
    path = tmp_path / "phases.toml"
    path.write_text("[prefill]\nrows = 1.75\nslots = 1.5\n[decode]\nfar = 0.5\nslots = 1.5\n")
    found = read_routing(str(path))
    assert isinstance(found, PerPhase)
    assert float(found.prefill.rows) == 1.75
    assert float(found.decode.far) == 0.5
    for text, message in (
        ("[prefill]\nrows = 1.75\n", "has prefill; write tables prefill and decode"),
        ("rows = 1\n[prefill]\n[decode]\n", "write tables prefill and decode, and nothing else"),
        ("decode = 1.5\n[prefill]\nrows = 1.75\n", "holds no numbers by name"),
        ("[decode]\nslots = 2\n[prefill]\nslots = 1.5\n", "slots: 2 in decode are not the 1.5"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_routing(str(path))


def test_a_scenario_has_the_routing_of_its_words(tmp_path):
    path = tmp_path / "numbers.toml"
    path.write_text("rows = 1.75\n")
    assert isinstance(from_words(EXPERTS).scenario.routing, Uniform)
    case = from_words(EXPERTS | {"routing": str(path)}).scenario
    assert float(case.routing.rows) == 1.75


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mmlu", "--routing: 'mmlu' is neither uniform, power-law:SPREAD nor a file"),
        ("power-law", "--routing: 'power-law' has no exponent; write power-law:0.5"),
        ("power-law:much", "has no exponent"),
        ("power-law:-1", "spread: -1 is not allowed"),
        ("power-law:nan", "spread: nan is not allowed"),
        ("missing.toml", "neither uniform, .* nor a file"),
    ],
)
def test_other_names_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        read_routing(text)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.toml", "rows = ", "not valid TOML"),
        ("a.json", "{", "not valid JSON"),
        ("a.json", "[1.2]", "holds no numbers by name; write, for example, rows = 1.8"),
        ("a.json", "{}", "holds no numbers by name"),
        ("a.json", '{"row": 1.2}', "routing: 'row' is not known; did you mean rows"),
        ("a.json", '{"rows": "1.2"}', "rows: '1.2' is no number"),
        ("a.json", '{"rows": true}', "rows: True is no number"),
        ("a.json", '{"rows": [1.2, null]}', "rows: None is no number"),
        ("a.json", '{"rows": [[1.2]]}', r"rows: \[1.2\] is no number"),
        ("a.json", '{"rows": []}', r"rows: \[\] is no number"),
        ("a.json", '{"rows": 0.2}', "rows: 0.2 is not allowed"),
        ("a.json", '{"rows": NaN}', "rows: nan is not allowed"),
        ("a.json", '{"rows": [1.2, 1.3], "far": [1, 0.9, 0.8]}', "do not fit 2 layers or kinds"),
        ("a.json", b"\xff\xfe\x00", "not valid JSON"),
        ("a.npz", "rows = 1.2", "neither uniform, .* nor a file"),
    ],
)
def test_other_files_are_refused(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        read_routing(str(path))


def test_a_model_without_experts_has_no_routing():
    words = {"model": "meta-llama/Llama-3.1-8B", "system": "h200_sxm", "fit": "none"}
    with pytest.raises(InputError, match="routing: meta-llama/Llama-3.1-8B has no experts"):
        from_words(words | {"routing": "power-law:0.5"})
