"""`diffgenz routing place`, `group` and `simulate`, and `estimate --routing --placement`."""

import json

import numpy as np
import pytest

from diffgenz.routing.baselines import linear
from diffgenz.routing.placement_files import load_placement, save_placement
from diffgenz.routing.savings import Saved
from diffgenz.routing.synthetic import Synthetic, synthesize
from diffgenz.ui.cli.main import main
from diffgenz.ui.plots.routing_traffic import savings_plot

LITE = "deepseek-ai/DeepSeek-V2-Lite"
ON = ["--model", LITE, "--system", "h100_sxm", "--gpus", "16"]
SAME = [LITE, "--system", "h100_sxm", "--gpus", "16", "--tp", "1", "--attention-dp", "16"]
SAME += ["--ep", "16", "--batch", "1024"]


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    router = Synthetic(64, 6, tuple(range(1, 27)), ("code", "chat"), popularity=0.8, domain=0.8)
    path = tmp_path_factory.mktemp("traces") / "lite.npz"
    synthesize(router, 32, 6, 10).save(path)
    return str(path)


@pytest.fixture(scope="module")
def counts(tmp_path_factory):
    path = tmp_path_factory.mktemp("counts") / "loads.npy"
    np.save(path, np.random.default_rng(0).lognormal(5, 1, (26, 64)).round())
    return str(path)


def answer(arguments, capsys):
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_from_a_dump_to_a_placement_and_its_effect_in_two_commands(counts, tmp_path, capsys):
    """Of counts nothing can be held out, so that both commands see the same."""
    out = str(tmp_path / "placement.json")
    found = answer(["routing", "place", counts, *ON, "--out", out], capsys)
    assert not found["held_out"]
    effects = found["effects"]
    assert list(effects) == ["linear", "eplb", "best"]
    assert effects["best"]["layers"] <= effects["linear"]["layers"]
    for name, more in (("best", ["--placement", out]), ("linear", [])):
        told = answer(["estimate", *SAME, "--routing", counts, *more], capsys)
        assert told["tpot"] == pytest.approx(effects[name]["time"], rel=1e-6)
        assert told["routing"]["kind"] == "traced"


def test_requests_are_held_out_and_gains_told_apart(trace, capsys):
    assert main(["routing", "place", trace, *ON, "--slots", "64", "80", "--grouped"]) == 0
    text = capsys.readouterr().out
    assert "160 decode tokens, held out; 26 layers" in text
    for told in ("request structure", "co-activation", "skew (balance, replicas)", "together"):
        assert told in text
    found = answer(["routing", "place", trace, *ON, "--grouped"], capsys)
    for what in ("bytes", "time"):
        assert found["saved"][what]["coactivation"] == 0  # low-latency kernels gain nothing
    moved = found["effects"]
    saved = 1 - moved["best"]["inter"] / moved["linear"]["inter"]
    assert sum(found["saved"]["bytes"].values()) == pytest.approx(saved, abs=1e-6)


def test_matrices_are_of_equally_many_tokens_with_replicas_and_without(trace, capsys):
    """What leaves its node in them is in proportion to the bytes between nodes."""
    asked = ["routing", "place", trace, *ON, "--phase", "prefill", "--slots", "80"]
    found = answer(asked, capsys)
    away = {name: np.sum(m) - np.trace(m) for name, m in found["matrices"].items()}
    assert np.mean(found["matrices"]["linear"]) == pytest.approx(1)
    for name, each in found["effects"].items():
        expected = each["inter"] / found["effects"]["linear"]["inter"]
        assert away[name] / away["linear"] == pytest.approx(expected, rel=1e-6)


def test_engines_files_and_pictures_are_written(trace, tmp_path, capsys):
    sglang, vllm, picture = (tmp_path / name for name in ("s.json", "v.json", "p.png"))
    out = tmp_path / "p.npz"
    arguments = ["routing", "place", trace, *ON, "--slots", "80", "--method", "eplb"]
    arguments += ["--export", "sglang", str(sglang), "--export", "vllm", str(vllm)]
    assert main([*arguments, "--out", str(out), "--plot", str(picture)]) == 0
    assert "wrote" in capsys.readouterr().out
    own = load_placement(out)
    assert own.slots.shape == (26, 80)
    rows = json.loads(sglang.read_text())["physical_to_logical_map"]
    assert len(rows) == 27
    assert rows[1:] == own.slots.tolist()
    assert json.loads(vllm.read_text())["moe_layer_count"] == 26
    assert picture.stat().st_size > 5000


def test_what_is_in_use_is_a_candidate_and_moving_is_told(trace, tmp_path, capsys):
    present = str(tmp_path / "present.json")
    save_placement(linear(26, 64, 2, 8, 64), present)
    found = answer(["routing", "place", trace, *ON, "--present", present], capsys)
    assert next(iter(found["effects"])) == "present"
    assert found["moved"] > 0
    asked = ["routing", "place", trace, *ON, "--present", present]
    dear = answer([*asked, "--steps", "1"], capsys)
    assert dear["moved"] == 0  # for a single iteration nothing is worth moving
    assert dear["layers_by_method"] == {"present": 26}
    kept = answer([*asked, "--method", "present"], capsys)
    assert kept["moved"] == 0
    assert all(part == 0 for part in kept["saved"]["bytes"].values())


def test_groups_and_their_regret(trace, tmp_path, capsys):
    out = tmp_path / "nodes.json"
    found = answer(["routing", "group", trace, *ON, "--out", str(out)], capsys)
    own = found["own_node"]
    assert own["random"] < own["prompts"] <= own["oracle"]
    nodes = json.loads(out.read_text())
    assert sorted(nodes.values()) == [0] * 8 + [1] * 8
    assert found["saved"]["bytes"]["structure"] > 0.05
    assert main(["routing", "group", trace, *ON]) == 0
    text = capsys.readouterr().out
    assert "groups learned from 16 requests, tested on 16 held out" in text
    assert "regret" in text


def test_traffic_with_and_without_deduplication(trace, tmp_path, capsys):
    where = str(tmp_path / "p.json")
    save_placement(linear(26, 64, 2, 8, 64), where)
    found = answer(["routing", "simulate", trace, *ON, "--placement", where], capsys)
    one, other = found["placements"].values()
    assert one == other  # the placement is linear, too
    once, each = one["once to a node"], one["for each expert"]
    assert np.array(each["to_nodes"]).sum((1, 2)) == pytest.approx([6] * 26)
    assert np.array(once["to_nodes"]).sum((1, 2)).max() <= 2
    assert np.array(each["rows"]).sum(1) == pytest.approx([6] * 26)
    assert all(np.array(one["iterations"]["straggler"]) >= np.array(each["rank_straggler"]) * 0.9)
    assert main(["routing", "simulate", trace, *ON, "--nodes", "4"]) == 0
    text = capsys.readouterr().out
    assert "4 nodes of 4 expert-parallel ranks" in text
    assert "to 3" in text


def test_a_preset_is_a_trace(capsys):
    told = answer(["estimate", *SAME, "--routing", "deepseek-v2-lite"], capsys)
    assert told["routing"]["kind"] == "per_phase"
    assert told["routing"]["decode"]["note"] == "deepseek-v2-lite"
    plain = answer(["estimate", *SAME], capsys)
    assert told["tpot"] > plain["tpot"]


def refused(arguments, message, capsys):
    """The command line refuses, in one line that has `message`."""
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["place", "no.npz", *ON], "there is no file no.npz; give a trace, or a preset: deepseek"),
        (["place", "olmoe", *ON], "its tokens choose 8 experts, those of"),
        (["place", "mixtral", *ON], "has 8 experts per layer"),
        (["place", "TRACE", *ON, "--slots", "60"], "60 cannot hold 64 experts"),
        (["place", "TRACE", *ON, "--slots", "65"], "65 do not divide by the 2 nodes"),
        (["place", "TRACE", *ON, "--slots", "4096"], "take more memory than there is"),
        (["place", "TRACE", *ON, "--ep", "3"], "expert: 3"),
        (["place", "TRACE", *ON[:-1], "128"], "expert: 128"),
        (["place", "TRACE", *ON, "--nodes", "3"], "do not divide over 3 nodes"),
        (["place", "TRACE", *ON, "--train-share", "1"], "--train-share: 1 is not allowed"),
        (["place", "TRACE", *ON, "--out", "p.txt"], "is neither .json nor .npz"),
        (["place", "TRACE", *ON, "--method", "present"], "no --present placement is given"),
        (["place", "TRACE", *ON, "--export", "trt", "p.json"], "choose from sglang, vllm"),
        (["place", "TRACE", *ON, "--present", "none.json"], "cannot read none.json"),
        (["place", "TRACE", *ON, "--steps", "9"], "--steps: there is no placement to move from"),
        (["place", "TRACE", *ON, "--slots", "72", "--export", "sglang", "p.txt"], "end in .json"),
        (["place", "COUNTS", *ON, "--grouped"], "counts do not tell requests"),
        (["group", "COUNTS", *ON], "counts do not tell requests"),
        (["group", "TRACE", *ON[:-1], "8"], "nodes: there is one"),
        (["simulate", "TRACE", *ON, "--placement", "TRACE"], "is no placement"),
        (["simulate", "TRACE", *ON, "--seed", "-1"], "--seed: -1 is not allowed"),
    ],
)
def test_bad_input_is_one_line(arguments, message, trace, counts, capsys):
    named = {"TRACE": trace, "COUNTS": counts}
    refused(["routing", *(named.get(each, each) for each in arguments)], message, capsys)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--placement", "p.json"], "says nothing without a trace"),
        (["--routing", "uniform", "--placement", "p.json"], "says nothing without a trace"),
        (["--routing", "TRACE", "--imbalance", "2"], "contradicts --routing"),
        (["--routing", "TRACE", "--placement", "none.json"], "cannot read none.json"),
        (["--routing", "mixtral"], "has 8 experts per layer"),
        (["--routing", "no.npz"], "there is no file no.npz"),
    ],
)
def test_bad_routing_of_estimates_is_one_line(more, message, trace, capsys):
    asked = ["estimate", *SAME, *(trace if each == "TRACE" else each for each in more)]
    refused(asked, message, capsys)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--placement", "p.json"], "says nothing without a trace"),
        (["--routing", "TRACE", "--imbalance", "2"], "contradicts --routing"),
        (["--routing", "mixtral"], "has 8 experts per layer"),
        (["--routing", "no.npz"], "there is no file no.npz"),
    ],
)
def test_bad_routing_of_searches_is_one_line(more, message, trace, capsys):
    asked = ["search", *SAME[:5], *(trace if each == "TRACE" else each for each in more)]
    refused(asked, message, capsys)


def test_what_is_saved_is_drawn(tmp_path):
    saved = {2: {64: Saved(0.1, 0.05), 66: Saved(0.2, 0.1)}, 4: {64: Saved(0.3, -0.1)}}
    savings_plot(saved, 64, tmp_path / "gain.png", "a model")
    assert (tmp_path / "gain.png").stat().st_size > 1000
