"""Serving under load against measurements, and its mean field against an event simulator.

    pip install '.[calibration]'
    python benchmarks/serving.py [--quick] [--json OUT] [--data DIR]

1. The silicon sample of aiconfigurator-core: TTFT and TPOT of runs at a fixed concurrency, repeats
   merged, beside `estimate` of the same requests as one batch. Nothing is fitted on them. Rows
   whose repeats differ by more than 1.3 are left out, and so are those that `serve` refuses.
2. NVIDIA's published figures of Llama-3.3-70B on eight A100, beside GenZ's predictions.
3. The mean field against stored runs of `tests/serving_simulator.py`, with the same times of
   iterations on both sides: chunks beside decodes, prompts first, speculation, full caches.
4. Fixed points and their gradients per second in float32, checked against float64.

`--data DIR` is a folder that holds `aiconfigurator_silicon_sample.csv`, and for the second table
`rapidllm_8xA100_bf16_Llama3_3-70B.csv` and `baseline_genz_on_nim_8xA100.csv`.
"""

import csv
import importlib
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from report import Report, parser_of
from serving_speed import speeds

import diffgenz as dgz
from diffgenz.calibrating.comparing import question_of
from diffgenz.calibrating.predicting import predict
from diffgenz.core.errors import InputError
from diffgenz.ui.tables import number, table

SILICON = "aiconfigurator_silicon_sample.csv"
NIM, GENZ = "rapidllm_8xA100_bf16_Llama3_3-70B.csv", "baseline_genz_on_nim_8xA100.csv"
TESTS = Path(__file__).parent.parent / "tests"
SPREAD = 1.3
"""Repeats of one configuration that differ by more are left out."""

RESERVED = re.compile("minimax|kimi|glm|llama-3.1-8b", re.IGNORECASE)
"""Models whose rows are kept for acceptance."""

QUICK = 40
"""Configurations of the sample in a quick run."""

MOST_SLOTS = 4096.0


def main() -> None:
    """Measure, print, write."""
    parser = parser_of(__doc__, quick="some rows of the sample, three loads, three repeats")
    parser.add_argument(
        "--data", type=Path, help="a folder with the measurements (see above; default: none)"
    )
    options = parser.parse_args()
    report = Report()
    if options.data is None or not (options.data / SILICON).is_file():
        print(f"no {SILICON} without --data DIR; measurements are left out")
    else:
        silicon(options.data / SILICON, report, options.quick)
        if (options.data / NIM).is_file():
            nim(options.data, report)
    mean_field(report, options.quick)
    speeds(report, options.quick)
    report.finish(options.json)


# ---- against measurements


def engine_for(concurrency: float) -> dgz.Engine:
    """An engine with slots for all requests."""
    return dgz.Engine(max_num_seqs=max(256.0, min(concurrency, MOST_SLOTS)))


def silicon(path: Path, report: Report, quick: bool) -> None:
    """The first table."""
    groups: dict[tuple[Any, ...], list[dgz.Benchmark]] = defaultdict(list)
    for each in dgz.read_benchmarks(path):
        if not (each.unmodelled or RESERVED.search(each.model) or each.concurrency is None):
            ranks = tuple(sorted(each.ranks.items()))
            lengths = each.input_tokens, each.output_tokens, each.concurrency
            key = each.model, each.system, each.engine, each.precision, ranks, lengths
            groups[key].append(each)
    merged = [found for found in map(merge, groups.values()) if found is not None]
    if quick:
        merged = merged[:: max(1, len(merged) // QUICK)]
    refused, rows = 0, []
    for done, each in enumerate(merged):
        if sys.stderr.isatty():
            print(f"\r{done:,} of {len(merged):,} configurations", end="", file=sys.stderr)
        row = compared(each)
        refused += row is None
        rows += [] if row is None else [row]
    report.rows += rows
    print(f"{len(rows):,} configurations of the silicon sample, {refused:,} refused; errors in %\n")
    names = ("ttft", "tpot", "tpot as one batch")
    lines = []
    for label, chosen in parts(rows):
        cells = [f"{spread(chosen, name)}" for name in names]
        lines.append((label, str(len(chosen)), *cells))
    header = ("", "rows", *(f"{name}: median / mean / ratio" for name in names))
    print(table(header, lines, "lrrrr"))
    for label, chosen in parts(rows):
        target = 10 if label == "all" else 12
        report.check(f"silicon, TPOT, median, {label}", median_error(chosen, "tpot"), "%", target)


def merge(runs: list[dgz.Benchmark]) -> dgz.Benchmark | None:
    """One benchmark of several repeats; None where they differ too much."""
    medians = {}
    for name in ("ttft", "tpot"):
        values = [getattr(run, name).mean for run in runs]
        known = [value for value in values if value]
        if not known or max(known) > SPREAD * min(known):
            return None
        medians[name] = dgz.Latency(statistics.median(known))
    return dgz.Benchmark(**(vars(runs[0]) | medians))


def compared(each: dgz.Benchmark) -> dict[str, Any] | None:
    """Measured and predicted of one configuration, in s; None where `serve` refuses."""
    try:
        case = question_of(each, {}).scenario
    except InputError:
        return None
    found = predict(each, case, engine_for(each.concurrency or 1.0))
    if found.load is None:
        return None
    alone = dgz.estimate(case)
    return {
        "model": each.model,
        "system": each.system,
        "engine": each.engine,
        "precision": each.precision,
        "ranks": each.ranks,
        "input_tokens": each.input_tokens,
        "output_tokens": each.output_tokens,
        "concurrency": each.concurrency,
        "ttft": (each.ttft.mean, found.latencies["ttft"].mean),
        "tpot": (each.tpot.mean, found.latencies["tpot"].mean),
        "tpot as one batch": (each.tpot.mean, float(alone.tpot)),
    }


def parts(rows: list[dict[str, Any]]) -> Iterable[tuple[str, list[dict[str, Any]]]]:
    """All rows, those of each system and of each engine."""
    yield "all", rows
    for name in ("system", "engine"):
        for value in sorted({row[name] for row in rows}):
            yield value, [row for row in rows if row[name] == value]


def ratios(rows: list[dict[str, Any]], name: str) -> np.ndarray:
    """Predicted over measured."""
    return np.array([row[name][1] / row[name][0] for row in rows])


def median_error(rows: list[dict[str, Any]], name: str) -> float:
    """The median absolute error in %."""
    return float(np.median(100 * np.abs(ratios(rows, name) - 1)))


def spread(rows: list[dict[str, Any]], name: str) -> str:
    """Median and mean absolute error in %, and the median ratio."""
    mean = float(np.mean(100 * np.abs(ratios(rows, name) - 1)))
    middle = float(np.median(ratios(rows, name)))
    return f"{median_error(rows, name):.1f} / {mean:.1f} / {middle:.2f}"


def nim(data: Path, report: Report) -> None:
    """The second table."""
    genz = {}
    for row in csv.DictReader((data / GENZ).open()):
        if row["tp"] == "8" and not row["error"]:
            key = tuple(int(row[name]) for name in ("input_tokens", "output_tokens", "batch_size"))
            genz[key] = 1e3 * float(row["ttft_s"]), 1e3 * float(row["tpot_s"])
    platform = dgz.load_platform("a100_sxm", accelerators=8)
    model = dgz.load_model("meta-llama/Llama-3.3-70B-Instruct")
    lines, errors = [], defaultdict(list)
    for row in csv.DictReader((data / NIM).open()):
        names = ("Input Tokens", "Output Tokens", "Concurrency")
        asked = prompt, output, under_way = tuple(int(row[name]) for name in names)
        chat = dgz.Workload(input_tokens=float(prompt), output_tokens=float(output))
        case = dgz.Scenario(model, platform, chat, dgz.Parallelism(8))
        load = dgz.Load(concurrency=float(under_way), requests=10.0 * under_way)
        found = dgz.serve(case, load, engine_for(under_way))
        measured = float(row["TTFT (ms)"]), float(row["ITL (ms)"])
        ours = 1e3 * float(found.ttft.mean), 1e3 * float(found.tpot.mean)
        theirs = genz.get((prompt, output, under_way), (float("nan"), float("nan")))
        for name, at in (("ttft", 0), ("tpot", 1)):
            for who, value in (("ours", ours[at]), ("genz", theirs[at])):
                errors[name, who, under_way == 1].append(100 * abs(value / measured[at] - 1))
        cells = [number(x) for pair in zip(measured, ours, theirs, strict=True) for x in pair]
        lines.append((f"{prompt}/{output}", str(under_way), *cells))
        report.rows.append({"nim": asked, "measured": measured, "ours": ours, "genz": theirs})
    header = ("in/out", "requests", "TTFT ms", "ours", "GenZ", "TPOT ms", "ours", "GenZ")
    print("\n" + table(header, lines, "lrrrrrrr"))
    tpot = errors["tpot", "ours", True] + errors["tpot", "ours", False]
    report.check("NIM, TPOT, mean", float(np.mean(tpot)), "%", 8)
    alone = float(np.mean(errors["ttft", "ours", True]))
    report.check("NIM, TTFT of one request, mean", alone, "%", 15)
    for name in ("ttft", "tpot"):
        both = errors[name, "genz", True] + errors[name, "genz", False]
        print(f"GenZ, {name.upper()}, mean error: {np.nanmean(both):.1f} %")


# ---- against the simulator

OPEN = {
    "tpot": ("TPOT", ("0.1", "0.3", "0.5", "0.7", "0.8", "0.9"), 3.0),
    "ttft": ("TTFT", ("0.1", "0.3", "0.5", "0.7", "0.8"), 6.0),
    "ttft_p99": ("P99 TTFT", ("0.1", "0.3", "0.5", "0.7", "0.8"), 15.0),
}
CLOSED = {"throughput": ("throughput", 2.5), "tpot": ("TPOT", 3.0)}


def mean_field(report: Report, quick: bool) -> None:
    """The third table: mean absolute errors in %, by the share of the simulated saturation rate."""
    sys.path.insert(0, str(TESTS))
    cases: Any = importlib.import_module("mean_field_cases")
    rows = cases.rows()
    states = [cases.state_of(row["case"]) for row in rows]
    loads = ("0.3", "0.7", "0.9") if quick else OPEN["tpot"][1]
    for name, bound in (("unlimited cache", False), ("limited cache", True)):
        off = [
            100 * abs(float(state.most.rate) / row["saturation"] - 1)
            for row, state in zip(rows, states, strict=True)
            if np.isfinite(row["case"][6]) == bound
        ]
        report.check(f"mean field, saturation rate, {name}, mean", float(np.mean(off)), "%", 2)
    other_policies(cases, report)
    errors: dict[str, dict[str, float]] = {name: {} for name in OPEN}
    for load in loads:
        off = errors_of(
            rows,
            states,
            list(OPEN),
            lambda row, load=load: row["open"][load],
            lambda row, state, load=load: cases.found_for(
                state, dgz.Load(rate=float(load) * row["saturation"])
            ),
        )
        for name in OPEN:
            errors[name][load] = off[name]
    lines = [
        (label, *(f"{errors[name][load]:.1f}" for load in loads))
        for name, (label, _, _) in OPEN.items()
    ]
    print("\n" + table(("open loop, error %", *loads), lines, "l" + "r" * len(loads)))
    for name, (label, counted, target) in OPEN.items():
        worst = max(error for load, error in errors[name].items() if load in counted)
        report.check(f"mean field, {label} to u {counted[-1]}, worst mean", worst, "%", target)
    closed_loop(cases, rows, states, report, quick)


def other_policies(cases: Any, report: Report) -> None:
    """Full caches, prompts that go first, and speculation: checks on engines of their own."""
    for name, label in (
        ("full_caches", "full caches"),
        ("prefill_first", "prompts first"),
        ("speculation", "speculation"),
    ):
        rows = cases.rows(name)
        states = [cases.state_of(row["case"]) for row in rows]
        pairs = list(zip(rows, states, strict=True))
        off = [abs(float(state.most.rate) / row["saturation"] - 1) for row, state in pairs]
        report.check(f"{label}, saturation rate, mean", 100 * float(np.mean(off)), "%", 2)
        worst = {"tpot": 0.0, "ttft": 0.0}
        for load in rows[0]["open"]:
            found = [
                cases.means_for(state, dgz.Load(rate=float(load) * row["saturation"]))
                for row, state in pairs
            ]
            for each in worst:
                errors = [
                    abs(mine[each] / row["open"][load][each] - 1)
                    for mine, row in zip(found, rows, strict=True)
                ]
                worst[each] = max(worst[each], 100 * float(np.mean(errors)))
        report.check(f"{label}, TPOT to u 0.8, worst mean", worst["tpot"], "%", 3)
        report.check(f"{label}, TTFT to u 0.8, worst mean", worst["ttft"], "%", 6)


def closed_loop(
    cases: Any, rows: list[Any], states: list[Any], report: Report, quick: bool
) -> None:
    """The same of closed loops; requests of one length go in lockstep."""
    lines, worst = [], defaultdict(list)
    counts = ("4", "64") if quick else ("1", "4", "16", "64", "128")
    for count in counts:
        chosen = [pair for pair in zip(rows, states, strict=True) if count in pair[0]["closed"]]
        off = errors_of(
            [row for row, _ in chosen],
            [state for _, state in chosen],
            list(CLOSED),
            lambda row, count=count: row["closed"][count],
            lambda row, state, count=count: cases.found_for(
                state,
                dgz.Load(concurrency=float(count), lockstep=row["case"][1] == "constant"),
            ),
        )
        lines.append((count, *(f"{off[name]:.1f}" for name in CLOSED)))
        for name in CLOSED:
            worst[name].append(off[name])
    header = ("closed loop, error %", *(label for label, _ in CLOSED.values()))
    print("\n" + table(header, lines, "lrr"))
    for name, (label, target) in CLOSED.items():
        mean = float(np.mean(worst[name]))
        report.check(f"mean field, closed loop, {label}, mean", mean, "%", target)


def errors_of(
    rows: Iterable[Any],
    states: Iterable[Any],
    names: list[str],
    measured: Callable[[Any], Any],
    found: Callable[[Any, Any], Any],
) -> dict[str, float]:
    """Mean absolute errors in %, by figure."""
    off: dict[str, list[float]] = {name: [] for name in names}
    for row, state in zip(rows, states, strict=True):
        ours, its = found(row, state), measured(row)
        for name in names:
            off[name].append(100 * abs(ours[name] / its[name] - 1))
    return {name: float(np.mean(values)) for name, values in off.items()}


if __name__ == "__main__":
    main()
