"""The command line as people and scripts use it."""

import json
import subprocess
import sys

import pytest

from diffgenz.core.formats import FORMATS
from diffgenz.hardware.specs import system_ids
from diffgenz.models.files import model_ids
from diffgenz.scenario.use_case_figures import USE_CASES
from diffgenz.ui.cli.main import main

LLAMA = ["meta-llama/Llama-3.1-8B", "--system", "h100_sxm"]
ROOFLINE = ["--fit", "none"]
"""Where kernels are not the subject: programs of the roofline compile in half the time."""
KEYS = {
    "ttft", "tpot", "end_to_end", "throughput", "tokens_per_second_per_user", "tokens_per_second_per_accelerator", "memory", "energy_per_output_token",
    "cost_per_million_output_tokens", "bound_by", "breakdown",
}  # fmt: skip


def run(capsys, *arguments):
    assert main(list(arguments)) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


@pytest.mark.parametrize(
    ("what", "ids"),
    [
        ("models", model_ids()),
        ("systems", system_ids()),
        ("use-cases", list(USE_CASES)),
        ("formats", list(FORMATS)),
    ],
)
def test_list(what, ids, capsys):
    text, data = run(capsys, "list", what), json.loads(run(capsys, "list", what, "--json"))
    assert [entry["id"] for entry in data] == ids
    assert all(any(line.startswith(f"{name} ") for line in text.splitlines()) for name in ids)


def test_estimate_json_is_si_and_adds_up(capsys):
    data = json.loads(
        run(
            capsys,
            "estimate",
            *LLAMA,
            "--gpus",
            "2",
            "--isl",
            "500",
            "--osl",
            "50",
            "--batch",
            "4",
            "--json",
        )
    )
    assert set(data) >= KEYS
    assert data["tensor"] == data["accelerators"] == 2
    assert data["end_to_end"] == pytest.approx(data["ttft"] + 49 * data["tpot"], rel=1e-6)
    for phase in ("ttft", "tpot"):
        assert sum(sum(row.values()) for row in data["breakdown"][phase].values()) == pytest.approx(
            data[phase], rel=1e-6
        )
        assert data["bound_by"][phase] in ("compute", "memory", "communication", "launch")
    memory = data["memory"]
    assert memory["fits"] is True
    assert memory["total"] == pytest.approx(
        sum(memory[name] for name in ("weights", "kv_cache", "activations", "reserve")), rel=1e-6
    )
    assert memory["total"] < memory["capacity"]


def test_context_and_sequence_parallel_ranks(capsys):
    flags = (*ROOFLINE, "--gpus", "8", "--cp", "4", "--sp", "--isl", "3000")
    text, data = (
        run(capsys, "estimate", *LLAMA, *flags),
        json.loads(run(capsys, "estimate", *LLAMA, *flags, "--json")),
    )
    assert "tp 2, cp 4, pp 1, dp 1, sequence parallel;" in text
    assert (data["tensor"], data["context"], data["sequence"], data["accelerators"]) == (
        2,
        4,
        True,
        8,
    )
    assert data["breakdown"]["ttft"]["context_all_gather"]["communication"] > 0
    assert sum(sum(row.values()) for row in data["breakdown"]["tpot"].values()) == pytest.approx(
        data["tpot"], rel=1e-6
    )


def test_serving_options(capsys):
    options = (
        "--chunk",
        "256",
        "--prefix-hit",
        "0.5",
        "--drafts",
        "3",
        "--acceptance",
        "0.5",
        "--beams",
        "2",
    )
    plain, served = (
        json.loads(run(capsys, "estimate", *LLAMA, *ROOFLINE, "--batch", "4", *flags, "--json"))
        for flags in ((), options)
    )
    assert plain["mixed_tpot"] is None
    assert served["serving"] == {
        "chunk": 256, "prefix_hit": 0.5, "drafts": 3, "acceptance": 0.5, "tokens_per_verification": 1.875, "draft_system": None, "draft_model": None, "beams": 2,
        "offload": None,
    }  # fmt: skip
    assert served["ttft"] < plain["ttft"]
    assert served["tpot"] < served["mixed_tpot"]
    assert "serving: chunks of 256 tokens; 50 % of prompts cached; 3 drafts" in run(
        capsys, "estimate", *LLAMA, *ROOFLINE, *options
    )


def test_offload_says_what_lives_where(capsys):
    arguments = (
        "estimate",
        "meta-llama/Llama-3.1-405B",
        "--system",
        "h100_sxm",
        "--gpus",
        "8",
        "--offload",
        "weights",
        *ROOFLINE,
    )
    memory = json.loads(run(capsys, *arguments, "--json"))["memory"]
    assert memory["fits"] is True
    assert memory["offloaded"]["host"] == pytest.approx(
        memory["total"] - memory["capacity"], rel=1e-5
    )
    assert "GB of it in host memory" in run(capsys, *arguments)


def test_several_batches_are_a_list_and_a_row_each(capsys):
    arguments = ("estimate", *LLAMA, *ROOFLINE, "--batch", "1", "8", "64")
    assert [entry["batch"] for entry in json.loads(run(capsys, *arguments, "--json"))] == [1, 8, 64]
    assert (
        len(
            [
                line
                for line in run(capsys, *arguments).splitlines()
                if line.lstrip().startswith(("1 ", "8 ", "64 "))
            ]
        )
        == 3
    )


def test_what_does_not_fit_says_what_would(capsys):
    arguments = (
        "estimate",
        "meta-llama/Llama-3.1-405B",
        "--system",
        "h100_sxm",
        "--gpus",
        "8",
        "--batch",
        "16",
        *ROOFLINE,
    )
    data = json.loads(run(capsys, *arguments, "--json"))
    assert data["memory"]["fits"] is False
    assert data["ttft"] is data["tpot"] is data["breakdown"] is None
    assert data["accelerators_needed"] == 16
    text = run(capsys, *arguments)
    assert "does not fit" in text
    assert "fits on 16" in text
    enough = (
        "estimate",
        "meta-llama/Llama-3.1-405B",
        "--system",
        "h100_sxm",
        "--gpus",
        "16",
        "--batch",
        "16",
        "--json",
        *ROOFLINE,
    )
    assert json.loads(run(capsys, *enough))["memory"]["fits"] is True


def test_narrow_formats_shrink_memory(capsys):
    wide, narrow = (
        json.loads(run(capsys, "estimate", *LLAMA, *ROOFLINE, "--json", *formats))
        for formats in (
            [],
            [
                "--weights",
                "fp8",
                "--activations",
                "fp8",
                "--kv-cache",
                "gear-fp8:0:0.5",
                "--messages",
                "int8",
            ],
        )
    )
    assert narrow["memory"]["kv_cache"] == pytest.approx(
        wide["memory"]["kv_cache"] * (0.5 + 0.5 / 128), rel=1e-3
    )
    assert narrow["memory"]["weights"] < 0.6 * wide["memory"]["weights"]
    assert narrow["precision"] == {
        "dtype": "bf16", "weights": "fp8", "activations": "fp8", "kv_cache": "gear-fp8:0:0.5", "messages": "int8", "experts_only": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    "metric",
    [
        "tpot",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("throughput", "cost_per_million_output_tokens")
        ),
    ],
)
def test_sensitivity(metric, capsys):
    data = json.loads(
        run(
            capsys,
            "sensitivity",
            *LLAMA,
            "--fit",
            "none",
            "--batch",
            "4",
            "--metric",
            metric,
            "--json",
        )
    )
    assert data["metric"] == metric
    assert data["value"] > 0
    assert any(value != 0 for value in data["elasticities"].values())


@pytest.mark.slow
def test_requirements_json_is_si_and_says_what_bounds(capsys):
    data = json.loads(
        run(
            capsys,
            "requirements",
            *LLAMA,
            "--use-case",
            "chat",
            "--tp",
            "2",
            "--tpot",
            "0.5",
            "--json",
        )
    )
    assert data["tpot"] == pytest.approx(0.0005)
    assert data["prefill"]["compute"]["bound"] == "at least"
    assert data["prefill"]["NVLink 4 / NVSwitch latency"]["bound"] == "at most"
    assert data["decode"]["memory_bandwidth"] == {"value": None, "bound": "out of reach"}
    assert data["now"]["memory_bandwidth"] == pytest.approx(3.35e12)


def test_requirements_without_a_system_are_of_ideal_accelerators(capsys):
    data = json.loads(
        run(capsys, "requirements", LLAMA[0], "--use-case", "assistant", "--batch", "2", "--json")
    )
    assert data["system"] is data["now"] is data["ttft"] is None
    assert data["batch"] == 2
    assert data["beams"] == 4
    assert data["serving"]["chunk"] is None
    assert data["prefill"]["compute"] == {"value": 0, "bound": "any"}
    assert data["decode"]["compute"]["value"] > 1e12
    assert "out of reach" in run(
        capsys, "requirements", *LLAMA, "--use-case", "chat", "--tpot", "0.1"
    )


def test_sensitivity_draws_the_largest_first(capsys):
    bars = [
        line.count("█")
        for line in run(capsys, "sensitivity", *LLAMA, *ROOFLINE, "--batch", "4").splitlines()
        if "█" in line
    ]
    assert bars == sorted(bars, reverse=True)
    assert bars[0] == 30


BAD = [
    (
        ["estimate", "meta-llama/Llama-3.1-9B", "--system", "h100_sxm"],
        "did you mean meta-llama/Llama-3.1-8B",
    ),
    (["estimate", "meta-llama/Llama-3.1-8B", "--system", "h100"], "did you mean h100_sxm"),
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
    (["estimate", *LLAMA, "--isl", "-7"], "input_tokens: -7 is not allowed"),
    (["estimate", *LLAMA, "--weights", "fp9"], "weights: 'fp9' is not known; did you mean fp8"),
    (["estimate", *LLAMA, "--kv-cache", "gear-int9"], "core: 'int9' is not known"),
    (["estimate", *LLAMA, "--messages", "fp9"], "messages: 'fp9' is not known"),
    (
        ["search", *LLAMA, "--gpus", "1", "--weights", "fp8"],
        "argument --weights: invalid choice: 'fp8'",
    ),
    (["estimate", *LLAMA, "--overlap", "2"], "overlap: 2 is not allowed"),
    (["estimate", *LLAMA, "--sharpness", "3"], "--sharpness: '3' is not available"),
    (
        [
            "estimate",
            "meta-llama/Llama-3.1-8B",
            "--system",
            "a100_sxm",
            "--activations",
            "fp8",
            "--weights",
            "fp8",
        ],
        "has no fp8 arithmetic",
    ),
    (["estimate", "missing/config.json", "--system", "h100_sxm"], "there is no file"),
    (
        ["requirements", "meta-llama/Llama-3.1-8B", "--use-case", "chats"],
        "use case: 'chats' is not known; did you mean chat?",
    ),
    (
        ["requirements", "meta-llama/Llama-3.1-8B"],
        "the following arguments are required: --use-case",
    ),
    (
        ["requirements", "meta-llama/Llama-3.1-8B", "--use-case", "chat", "--tpot", "0"],
        "--tpot: 0 is not allowed; it must be finite and above 0 ms",
    ),
    (
        ["requirements", "meta-llama/Llama-3.1-8B", "--use-case", "chat", "--batch", "0"],
        "batch: 0 is not allowed",
    ),
    (
        ["requirements", *LLAMA, "--use-case", "chat", "--gpus", "4", "--tp", "8"],
        "--gpus: tp 8 x cp 1 x attention-dp 1 x pp 1 x dp 1 = 8 ranks exceed 4",
    ),
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
        ["estimate", *LLAMA, "--drafts", "3", "--acceptance", "0.5", "--draft-system", "h200_sxm"],
        "--draft-system: h200_sxm is of no use without the",
    ),
    (
        ["estimate", *LLAMA, "--drafts", "3", "--acceptance", "0.5", "--draft-model", "mtp"],
        "Llama-3.1-8B has no multi-token-prediction module",
    ),
    (
        ["estimate", LLAMA[0], "--system", "groq_lpu", "--offload", "weights"],
        "has no slower memory to offload to",
    ),
    (["estimate", *LLAMA, "--beams", "0"], "beams: 0 is not allowed"),
    (["sensitivity", *LLAMA, "--metric", "mixed_tpot"], "mixed_tpot needs chunked prefill"),
    (["sensitivity", *LLAMA, "--metric", "latency"], "metric: 'latency' is not known"),
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
    [[], ["--help"], ["list", "models"], ["list", "systems", "--json"], ["list", "use-cases"]],
    ids=" ".join,
)
def test_quick_commands_do_not_import_jax(arguments):
    run_main = (
        f"try:\n    sys.exit(main({arguments!r}))\nexcept SystemExit:\n    pass"
        if arguments
        else "import diffgenz"
    )
    code = f"import sys\nfrom diffgenz.ui.cli.main import main\n{run_main}\nassert not [m for m in sys.modules if m.split('.')[0] in ('jax', 'equinox', 'numpy')]"
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
