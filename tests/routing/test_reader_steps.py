"""Lists of steps in JSON, and damaged twins of them."""

import json

import numpy as np
import pytest
from routing_cases import IDS, lines, refused

from diffgenz.routing.source import load_trace
from diffgenz.routing.trace import DECODE, PREFILL


def steps(ids=IDS, prompt=3, name="{}"):
    blocks = [ids[:prompt], *(ids[i : i + 1] for i in range(prompt, len(ids)))]
    return [
        {name.format(2 * i + 1): block[:, i].tolist() for i in range(ids.shape[1])}
        for block in blocks
    ]


@pytest.mark.parametrize("name", ["{}", "layer_{}", "model.layers.{}.mlp"])
@pytest.mark.parametrize("around", [lambda s: s, lambda s: [s], lambda s: {"r": s}])
def test_lists_of_steps(tmp_path, name, around):
    text = json.dumps(around(steps(name=name)), indent=1)
    (tmp_path / "t.json").write_text(text, encoding="utf-8-sig")  # as some editors save it
    trace = load_trace(tmp_path / "t.json", experts=8)
    np.testing.assert_array_equal(trace.chosen, IDS)
    assert trace.layers == (1, 3, 5)
    assert list(trace.phase) == [PREFILL] * 3 + [DECODE] * 2


def test_a_request_with_other_things_beside_its_steps(tmp_path):
    record = {"prompt": "2 + 2?", "subject": "algebra", "trace": steps()}
    for step in record["trace"]:
        step["0"] = []  # a layer without experts
    trace = load_trace(lines(tmp_path / "t.jsonl", record, record | {"subject": "law"}))
    np.testing.assert_array_equal(trace.chosen, [*IDS, *IDS])
    assert trace.domains == ("algebra", "law")
    assert trace.layers == (1, 3, 5)


def test_a_folder_of_steps_has_a_domain_for_each_folder(tmp_path):
    for domain in ("math", "chat"):
        (tmp_path / domain).mkdir()
        for number in range(2):
            (tmp_path / domain / f"{number}.json").write_text(json.dumps(steps()))
    trace = load_trace(tmp_path)
    assert trace.domains == ("chat", "math")
    assert len(trace.requests) == 4
    np.testing.assert_array_equal(trace.counts("domain")[0], trace.counts("domain")[1])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s[1].pop("3"), "request 0, from line 1: step 1: has 2 layers, .* layer 3"),
        (lambda s: s[0]["1"].pop(), "step 0: has no .tokens, k. whole numbers"),
        (lambda s: s[1]["1"][0].pop(), "step 1: has no .tokens, k."),
        (lambda s: s[2].update({k: [[0]] for k in s[2]}), "step 2: has 1 experts per token"),
        (lambda s: s[2]["1"][0].__setitem__(0, -3), "expert -3 is out of range"),
        (lambda s: s[2]["1"][0].__setitem__(0, 99), "expert 99 is out of range; 8 experts"),
        (lambda s: s[2]["1"].__setitem__(0, [4, 4]), "has expert 4 twice"),
        (lambda s: s.append([]), "step 3: is list"),
    ],
)
def test_damaged_steps(tmp_path, damage, message):
    broken = steps()
    damage(broken)
    (tmp_path / "t.json").write_text(json.dumps(broken))
    refused(tmp_path / "t.json", message, experts=8)


def test_json_that_ends_too_early(tmp_path):
    (tmp_path / "t.json").write_text(json.dumps(steps())[:-30])
    refused(tmp_path / "t.json", "is not JSON .* may end too early")
    lines(tmp_path / "t.jsonl", steps(), steps())
    text = (tmp_path / "t.jsonl").read_text()
    (tmp_path / "t.jsonl").write_text(text[:-30])
    refused(tmp_path / "t.jsonl", "line 2 is not JSON")
