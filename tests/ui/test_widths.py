"""On a screen of 80 columns no command prints a line that is wider, whatever is named."""

import pytest
from fit_cases import planted
from space_cases import TINY
from ui_cases import ROOFLINE

from diffgenz.hardware.specs import specs_folder
from diffgenz.ui.cli.main import COMMANDS, main

WIDTH = 80
LONG = "an_accelerator_of_our_own_with_a_name_that_says_all_there_is_to_say_of_it"
EIGHT = ("--gpus", "8")
MODELS = (
    "meta-llama/Llama-3.1-8B",
    "nvidia/Llama-3_3-Nemotron-Super-49B-v1",
    "deepseek-ai/DeepSeek-V3",
    "Qwen/Qwen3-VL-30B-A3B-Instruct",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with what commands read: an accelerator, measurements, a sweep, a search."""
    here = tmp_path_factory.mktemp("a_folder_with_a_rather_long_name_in_a_deep_place")
    text = (specs_folder() / "h200_sxm.toml").read_text()
    (here / f"{LONG}.toml").write_text(text.replace("NVIDIA H200 SXM 141GB", LONG))
    shape, seconds = (planted(60).shape, planted(60).seconds)
    rows = [
        f"gemm,bf16,{LONG}-1.0,{m},{n},{k},{1e6 * t}"
        for m, n, k, t in zip(shape.m, shape.n, shape.k, seconds, strict=True)
    ]
    (here / "mine.csv").write_text("\n".join(["family,format,source,m,n,k,latency_us", *rows]))
    space = TINY.replace('"h100_sxm"\n', '"h100_sxm"\nfit = "none"\n', 1).replace(
        "[axes]", f'[axes]\nsystem = {{ systems = ["h100_sxm", "{LONG}.toml"] }}'
    )
    (here / "space.toml").write_text(space)
    assert main(["sweep", str(here / "space.toml"), "--out", str(here / "swept")]) == 0
    asked = ("--system", str(here / f"{LONG}.toml"), *EIGHT, "--batch", "4", "64", *ROOFLINE)
    out = ("--out", str(here / "found.json"))
    assert main(["search", "meta-llama/Llama-3.1-8B", *asked, *out]) == 0
    return here


def check(capsys, monkeypatch, *arguments, width=WIDTH):
    """Run a command and look at its lines; words that are wider, as paths are, stand alone."""
    capsys.readouterr()
    monkeypatch.setenv("COLUMNS", str(width))
    assert main([str(each) for each in arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines
    wide = [line for line in lines if len(line) > width and not line.endswith("\\")]
    assert not [line for line in wide if " " in line.strip().removeprefix("--")]
    return lines


@pytest.mark.parametrize("what", ["models", "systems", "use-cases", "formats"])
@pytest.mark.parametrize("width", [80, 100, 60])
def test_lists(what, width, capsys, monkeypatch):
    check(capsys, monkeypatch, "list", what, width=width)


def test_the_schema(capsys, monkeypatch):
    check(capsys, monkeypatch, "list", "systems", "--schema")


SERVED = [
    (),
    ("--chunk", "512", "--drafts", "3", "--acceptance", "0.5", "--prefix-hit", "0.25"),
    ("--weights", "fp8", "--activations", "fp8", "--kv-cache", "gear-int4:0.02:4"),
    ("--isl", "1000000", "--batch", "100000"),
]


@pytest.mark.parametrize(
    ("model", "served"),
    [*((model, ()) for model in MODELS), *((MODELS[2], served) for served in SERVED[1:])],
)
def test_estimates(model, served, folder, capsys, monkeypatch):
    system = folder / f"{LONG}.toml"
    words = (model, "--system", system, *EIGHT, "--osl", "2000")
    check(capsys, monkeypatch, "estimate", *words, *ROOFLINE, *served)
    if "--batch" not in served:
        several = ("--batch", "1", "7", "4096")
        check(capsys, monkeypatch, "estimate", *words, *ROOFLINE, *served, *several)


def test_estimates_with_deviations(capsys, monkeypatch):
    words = ("meta-llama/Llama-3.1-70B", "--system", "h100_sxm", *EIGHT, "--uncertainty")
    check(capsys, monkeypatch, "estimate", *words)


def test_exports(folder, capsys, monkeypatch):
    for engine in ("vllm", "sglang"):
        check(capsys, monkeypatch, "export", engine, folder / "found.json")


@pytest.mark.slow
def test_searches(folder, capsys, monkeypatch):
    words = ("deepseek-ai/DeepSeek-V3", "--system", folder / f"{LONG}.toml", "--gpus", "16")
    targets = ("--ttft", "20000", "--tpot", "500", "--batch", "8", "64", "--chunk", "whole", "512")
    lines = check(capsys, monkeypatch, "search", *words, *targets, *ROOFLINE)
    assert any(line.startswith("all rows: ") for line in lines)


@pytest.mark.parametrize("keep", ["front", "map", "slow"])
def test_what_sweeps_kept(keep, folder, capsys, monkeypatch):
    lines = check(capsys, monkeypatch, "pareto", folder / "swept", "--keep", keep)
    assert not any(f"{LONG}.toml" in line for line in lines)  # its name, not its path


def test_sweeps_and_merged_ones(folder, tmp_path, capsys, monkeypatch):
    space = folder / "space.toml"
    parts = [tmp_path / "1", tmp_path / "2"]
    for number, part in enumerate(parts, 1):
        check(capsys, monkeypatch, "sweep", space, "--out", part, "--shard", f"{number}/2")
    check(capsys, monkeypatch, "merge", *parts, "--out", tmp_path / "whole")


def test_calibrations(folder, capsys, monkeypatch):
    words = (folder / "mine.csv", "--system", folder / f"{LONG}.toml", "--starts", "4")
    check(capsys, monkeypatch, "calibrate", *words, "--out", folder / "fit.toml")


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS[:3])
def test_what_compiles_for_long(model, folder, capsys, monkeypatch):
    words = (model, "--system", folder / f"{LONG}.toml", *EIGHT, *ROOFLINE)
    check(capsys, monkeypatch, "requirements", *words, "--use-case", "chat")
    check(capsys, monkeypatch, "sensitivity", *words, "--metric", "tpot", "ttft", "--all")


def test_suggestions(capsys, monkeypatch):
    words = ("--system", "h100_sxm", "--suggest", "3", "--model", "meta-llama/Llama-3.1-8B")
    check(capsys, monkeypatch, "calibrate", *words)


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= WIDTH


def test_json_is_never_broken(capsys, monkeypatch):
    """Lines of JSON are as long as they are."""
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["list", "systems", "--json"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) > 40
