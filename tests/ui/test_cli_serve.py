"""`diffgenz serve`."""

import json

import numpy as np
import pytest

from diffgenz.ui.cli.main import main

ASKED = ["serve", "meta-llama/Llama-3.1-8B", "--system", "h100_sxm", "--isl", "512", "--osl", "64"]


def test_a_table_of_rates_with_goodput_and_the_highest(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*ASKED, "--rate", "2", "--ttft", "200", "--tpot", "20"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "goodput" in text
    assert "saturates at" in text
    assert "mean TTFT <= 200 ms and TPOT <= 20 ms: up to" in text


def test_json_of_a_closed_loop(capsys):
    assert main([*ASKED, "--concurrency", "4", "--requests", "40", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (row,) = found["loads"]
    assert row["load"] == {"concurrency": 4.0}
    assert 0 < row["ttft_p50"] <= row["ttft_p90"] <= row["ttft_p99"] < 1
    assert row["requests_per_second"] < found["saturation_rate"]


def test_replicas_and_the_probability_that_they_keep_the_promise(capsys):
    flags = ["--rate", "100", "--tpot", "9", "--replicas", "--draws", "4", "--of", "p90"]
    assert main([*ASKED, *flags, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (row,) = found["loads"]
    assert row["load"] == {"rate": 100.0}
    assert row["replicas"] == np.ceil(100 / found["highest_load"])
    assert np.isclose(row["requests_per_second"] * row["replicas"], 100)
    assert row["probability_of_meeting"]["draws"] == 4
    assert 0 <= row["probability_of_meeting"]["value"] <= 1


def test_pools_and_their_split(capsys):
    pools = ["--decode-system", "h200_sxm", "--link", "25 GB/s"]
    assert main([*ASKED, *pools, "--workers", "1", "2", "--rate", "20"]) == 0
    text = capsys.readouterr().out
    assert "decode: 2 of 1 x NVIDIA H200 SXM 141GB, tp 1" in text
    assert "requests/s that each stage sustains: prefill" in text
    split = ["--split", "3", "--ttft", "100", "--tpot", "9", "--json"]
    assert main([*ASKED, *pools, *split]) == 0
    found = json.loads(capsys.readouterr().out)["splits"]
    assert found[0]["rate"] == max(each["rate"] for each in found)
    assert all(each["prefill"] + each["decode"] == each["accelerators"] <= 3 for each in found)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--rate", "1e6"], "saturates at"),
        (["--concurrency", "4", "--plot", "x.png"], "leave out --concurrency"),
        (["--rate", "1", "--concurrency", "4"], "not allowed with"),
        (["--concurrency", "4", "--burstiness", "2"], "leave out --concurrency, or --burstiness"),
        (["--rate", "1", "--requests", "40"], "requests: needs a concurrency"),
        (["--lockstep"], "lockstep: needs a concurrency"),
        (["--rate", "1", "--chunk", "whole"], "chunk: whole prompts"),
        (["--rate", "1", "--replicas"], "--replicas: needs objectives"),
        (["--rate", "1", "--link", "1 GB/s"], "--link: is of pools; give --workers or --split"),
        (["--rate", "1", "--workers", "1", "1"], "--link: is missing"),
        (["--workers", "1", "0", "--link", "1 GB/s"], "workers: 0 is not allowed"),
        (["--workers", "1", "1", "--link", "1 GB/s", "--rate", "1e4"], "stage saturates at"),
    ],
)
def test_refused(flags, said, capsys):
    assert main([*ASKED, *flags]) == 2
    assert said in capsys.readouterr().err


def test_a_routing_trace_and_a_placement_slow_experts_down(capsys, tmp_path):
    popular = np.random.default_rng(0).lognormal(5, 1, (26, 64)).round()
    np.save(tmp_path / "loads.npy", popular)
    asked = ["serve", "deepseek-ai/DeepSeek-V2-Lite", "--system", "h100_sxm", "--gpus", "16"]
    asked += ["--tp", "1", "--attention-dp", "16", "--ep", "16", "--concurrency", "1024"]

    def answer(*flags):
        assert main([*asked, "--json", *flags]) == 0
        return json.loads(capsys.readouterr().out)

    plain, traced = answer(), answer("--routing", str(tmp_path / "loads.npy"))
    assert plain["routing"]["kind"] == "uniform"
    assert traced["routing"]["kind"] == "traced"
    assert traced["loads"][0]["tpot_mean"] > 1.02 * plain["loads"][0]["tpot_mean"]
    assert main([*asked, "--placement", "p.json"]) == 2
    assert "says nothing without a trace" in capsys.readouterr().err
