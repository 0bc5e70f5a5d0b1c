"""`diffgenz replay`."""

import json

import numpy as np
import pytest

import diffgenz as dgz
from diffgenz.ui.cli.main import main

MODEL = ["meta-llama/Llama-3.1-8B", "--system", "h100_sxm"]
LOG = "arrival,prompt_tokens,output_tokens\n" + "".join(
    f"{at},{prompt},{output}\n"
    for at, prompt, output in ((0, 2000, 40), (0, 300, 1), (0.5, 9000, 20), (60, 100, 30))
)


def test_the_figures_are_those_of_replay(capsys, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(LOG)
    assert main(["replay", str(path), *MODEL, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    case = dgz.Scenario(dgz.load_model(MODEL[0]), dgz.load_platform("h100_sxm"))
    own = dgz.replay(case, *dgz.read_requests(path))
    assert found["requests"] == 4
    assert found["ttft_mean"] == pytest.approx(own.ttft.mean())
    assert found["ttft_p99"] == pytest.approx(np.percentile(own.ttft, 99))
    assert found["tpot_p50"] == pytest.approx(np.median(own.tpot[[0, 2, 3]]))  # one has no TPOT
    assert found["makespan"] == pytest.approx(own.makespan) == pytest.approx(60, abs=1)
    assert found["throughput"] == pytest.approx(91 / own.makespan)
    assert main(["replay", str(path), *MODEL, "--requests", "2"]) == 0
    text = capsys.readouterr().out
    assert "2 requests arrived at once" in text
    assert "TTFT ms" in text


def test_bad_input_is_one_line(capsys, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(LOG.replace("9000", "many"))
    assert main(["replay", str(path), *MODEL]) == 2
    assert capsys.readouterr().err == (
        f"diffgenz: error: {path}, line 4: prompt tokens: 'many' is no whole number of at least 1; "
        "leave out requests that failed\n"
    )
    path.write_text(LOG.replace("9000", "9000000"))
    assert main(["replay", str(path), *MODEL]) == 2
    assert "the cache has room for" in capsys.readouterr().err
