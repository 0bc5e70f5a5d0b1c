"""The command line as a whole: its lists, its errors, and how quick it is."""

import re
import subprocess
import sys

import pytest
from ui_cases import LLAMA, run, run_json

from diffgenz.core.formats import FORMATS
from diffgenz.hardware.specs import list_systems
from diffgenz.models.files import list_models
from diffgenz.scenario.use_case_figures import USE_CASES
from diffgenz.scenario.words import WORDS
from diffgenz.ui.cli.flags import SYNONYMS
from diffgenz.ui.cli.main import COMMANDS, main

LISTS = {
    "models": list_models(),
    "systems": list_systems(),
    "use-cases": list(USE_CASES),
    "formats": list(FORMATS),
}


@pytest.mark.parametrize("what", LISTS)
def test_list(what, capsys):
    text, data = run(capsys, "list", what), run_json(capsys, "list", what)
    assert [entry["id"] for entry in data] == LISTS[what]
    lines = text.splitlines()
    assert all(any(line.startswith(f"{name} ") for line in lines) for name in LISTS[what])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert "--json" in capsys.readouterr().out


def test_estimate_knows_every_word(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["estimate", "--help"])
    told = set(re.findall(r"(?<=--)[a-z][a-z-]+", capsys.readouterr().out))
    assert set(WORDS) - {"model"} <= told


DRAFTS = ["--drafts", "3", "--acceptance", "0.5"]
CHAT = ["--use-case", "chat"]
BAD = [
    (
        ["estimate", "meta-llama/Llama-3.1-9B", "--system", "h100_sxm"],
        "did you mean meta-llama/Llama-3.1-8B",
    ),
    (
        ["estimate", "meta-llama/Llama-3.1-8B", "--system", "h100"],
        "did you mean h100_pcie or h100_sxm",
    ),
    (["estimate", *LLAMA, "--gpus", "0"], "--gpus: 0 is not allowed"),
    (["estimate", *LLAMA, "--cp", "0"], "--cp: 0 is not allowed; it must be at least 1"),
    (
        ["estimate", *LLAMA, "--gpus", "4", "--tp", "8"],
        "--gpus: tp 8 x cp 1 x attention-dp 1 x pp 1 x dp 1 = 8 ranks exceed 4",
    ),
    (["estimate", *LLAMA, "--gpus", "8", "--dp", "3"], "8 accelerators do not divide"),
    (["estimate", *LLAMA, "--tp", "64"], "tensor: 64 exceeds 32"),
    (["estimate", *LLAMA, "--batch", "1.5"], "argument --batch: invalid int value: '1.5'"),
    (["estimate", "meta-llama/Llama-3.1-8B"], "the following arguments are required: --system"),
    (
        ["estimate", *LLAMA, "--ep", "2", "--tp", "2"],
        "expert: 2 exceeds 1, since meta-llama/Llama-3.1-8B has no experts",
    ),
    (["estimate", *LLAMA, "--batch", "-2"], "batch: -2 is not allowed"),
    (["estimate", *LLAMA, "--batch", "1", "-2"], "batch: -2 is not allowed"),
    (["estimate", *LLAMA, "--isl", "-7"], "input_tokens: -7 is not allowed"),
    (["estimate", *LLAMA, "--images", "1"], "images: 1 exceeds 0"),
    (["estimate", *LLAMA, "--weights", "fp9"], "weights: 'fp9' is not known; did you mean fp8"),
    (["estimate", *LLAMA, "--kv-cache", "gear-int9"], "core: 'int9' is not known"),
    (["estimate", *LLAMA, "--messages", "fp9"], "messages: 'fp9' is not known"),
    (
        ["search", *LLAMA, "--gpus", "1", "--weights", "fp9"],
        "weights: 'fp9' is not known",
    ),
    (["estimate", *LLAMA, "--overlap", "2"], "overlap: 2 is not allowed"),
    (["estimate", *LLAMA, "--sharpness", "3"], "--sharpness: '3' is not available"),
    (
        [
            *("estimate", "meta-llama/Llama-3.1-8B", "--system", "a100_sxm"),
            *("--activations", "fp8", "--weights", "fp8"),
        ],
        "has no fp8 arithmetic",
    ),
    (["estimate", "missing/config.json", "--system", "h100_sxm"], "there is no file"),
    (
        ["requirements", LLAMA[0], "--use-case", "chats"],
        "use case: 'chats' is not known; did you mean chat?",
    ),
    (["requirements", LLAMA[0]], "--ttft, --tpot: no objective is given; give one of them in ms"),
    (["requirements", LLAMA[0], "--isl", "0", "--ttft", "9"], "input_tokens: 0 is not allowed"),
    (
        ["requirements", LLAMA[0], *CHAT, "--tpot", "0"],
        "--tpot: 0 is not allowed; it must be finite and above 0 ms",
    ),
    (["requirements", LLAMA[0], *CHAT, "--batch", "0"], "batch: 0 is not allowed"),
    (["requirements", LLAMA[0], *CHAT, "--beams", "0"], "beams: 0 is not allowed"),
    (
        ["requirements", *LLAMA, *CHAT, "--gpus", "4", "--tp", "8"],
        "--gpus: tp 8 x cp 1 x attention-dp 1 x pp 1 x dp 1 = 8 ranks exceed 4",
    ),
    (
        ["estimate", *LLAMA, "--imbalance", "2"],
        "routing: meta-llama/Llama-3.1-8B has no exp",
    ),
    (["estimate", *LLAMA, "--batch", "4k"], "argument --batch: '4k' is ambiguous: k may count"),
    (["estimate", *LLAMA, "--set", "speed=1 TB/s"], "--set: 'speed' is not known"),
    (["requirements", LLAMA[0], "--ttft", "9", "--set", "tdp=1 W"], "changes nothing without a"),
    (["estimate", *LLAMA, "--chunk", "0"], "chunk: 0 is not allowed"),
    (["estimate", *LLAMA, "--prefix-hit", "1.5"], "prefix_hit: 1.5 is not allowed"),
    (["estimate", *LLAMA, "--drafts", "3"], "--drafts: 3 drafts need --acceptance"),
    (
        ["estimate", *LLAMA, "--drafts", "3", "--acceptance", "1.2"],
        "acceptance: 1.2 is not allowed",
    ),
    (
        ["estimate", *LLAMA, "--acceptance", "0.5"],
        "--acceptance: 0.5 is of no use without --drafts",
    ),
    (
        ["estimate", *LLAMA, "--draft-model", "meta-llama/Llama-3.2-1B"],
        "--draft-model: meta-llama/Llama-3.2-1B is of no use without --drafts",
    ),
    (
        ["estimate", *LLAMA, *DRAFTS, "--draft-system", "h200_sxm"],
        "--draft-system: h200_sxm is of no use without the",
    ),
    (
        ["estimate", *LLAMA, *DRAFTS, "--draft-model", "mtp"],
        "Llama-3.1-8B has no multi-token-prediction module",
    ),
    (
        [
            *("estimate", LLAMA[0], "--system", "groq_lpu", "--dtype", "fp16"),
            *("--offload", "weights"),
        ],
        "has no slower memory to offload to",
    ),
    (["estimate", *LLAMA, "--offload", "all"], "argument --offload: invalid choice: 'all'"),
    (["estimate", *LLAMA, "--beams", "0"], "beams: 0 is not allowed"),
    (["sensitivity", *LLAMA, "--metric", "mixed_tpot"], "mixed_tpot needs mixed iterations"),
    (["sensitivity", *LLAMA, "--metric", "latency"], "metric: 'latency' is not known"),
    (["sensitivity", *LLAMA, "--images", "1"], "images: 1 exceeds 0"),
    (["search", *LLAMA, "--gpus", "1", "--top", "0"], "--top: 0 is not allowed"),
    (
        ["search", *LLAMA, "--gpus", "1", "--chunk", "some"],
        "--chunk: 'some' is neither a number of tokens nor whole",
    ),
    (["calibrate", "--system", "h100_sxm"], "FILE: no measurements are given"),
    (["calibrate", "--system", "h100_sxm", "--suggest", "2"], "--model: it is missing"),
    (["export", "tgi", "found.json"], "argument engine: invalid choice: 'tgi'"),
    (["export", "vllm", "missing.json"], "results: missing.json cannot be read"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_one_line_and_exit_2(arguments, message, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.startswith("diffgenz: error: ")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["estimate", "--help"],
        ["list", "models"],
        ["list", "systems", "--json"],
        ["list", "use-cases"],
    ],
    ids=" ".join,
)
def test_quick_commands_do_not_import_jax(arguments):
    called = f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass"
    heavy = "[m for m in sys.modules if m.split('.')[0] in ('jax', 'equinox', 'numpy')]"
    code = "\n".join(
        [
            "import sys, diffgenz",
            "from diffgenz.ui.cli.main import main",
            called if arguments else "",
            f"assert not {heavy}",
        ]
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_a_closed_pipe_is_no_error():
    process = subprocess.run(
        f"{sys.executable} -m diffgenz list systems --json | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout == "[\n"
    assert process.stderr == ""


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--concurrency", "64"], "(--concurrency is --batch here)"),
        (["--input-len=4096"], "(--input-len is --isl here)"),
        (["--tensor-parallel-size", "8"], "(--tensor-parallel-size is --tp here)"),
        (["--total-gpus", "8"], "(--total-gpus is --gpus here)"),
        (["--gpu", "8"], "(--gpu is --system here, which is given, too: keep one)"),
        (
            ["--chunk", "whole", "--max-num-batched-tokens", "4096"],
            "(--max-num-batched-tokens is --chunk here, which is given, too: keep one)",
        ),
        (["--model", "meta-llama/Llama-3.1-8B"], "(--model is MODEL, the first argument, here)"),
    ],
)
def test_flags_of_other_tools_are_hinted_at(words, hint, capsys):
    model = ["estimate", "meta-llama/Llama-3.1-8B", "--system", "h100_sxm"]
    assert main([*model, *words]) == 2
    assert hint in capsys.readouterr().err


def test_flags_of_other_tools_are_hinted_at_where_ours_are_missing(capsys):
    assert main(["estimate", "meta-llama/Llama-3.1-8B", "--hardware", "h100_sxm"]) == 2
    error = capsys.readouterr().err
    assert "are required: --system (--hardware is --system here); see `diffgenz est" in error


@pytest.mark.parametrize(
    "words",
    [
        ["search", "any", "--gpus", "8", "--system", "h100_sxm", "own.toml"],
        ["search", "--system", "h100_sxm", "own.toml", "any", "--gpus", "8"],  # a model's place
        ["serve", "any", "--system", "h100_sxm", "own.toml", "--gpus", "8"],
    ],
)
def test_commands_that_take_one_system_say_how_to_compare_several(words, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["diffgenz", *words])
    assert main() == 2
    error = capsys.readouterr().err
    assert f"takes one here: run {words[0]} once for each; `estimate --system h100_sxm own" in error


def test_a_stray_word_is_no_second_system(capsys):
    assert main(["search", "any", "--gpus", "8", "--system", "h100_sxm", "stray"]) == 2
    assert "takes one" not in capsys.readouterr().err


def test_synonyms_are_of_words_that_there_are():
    assert set(SYNONYMS) <= set(WORDS)
    ours = {f"--{name}" for name in WORDS} - {"--model"}  # which goes without a flag
    assert not ours & {f"--{each}" for text in SYNONYMS.values() for each in text.split()}
