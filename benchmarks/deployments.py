"""How long a deployment search takes, and whether its rows are the estimates of their scenarios.

    python benchmarks/deployments.py [--quick] [--json OUT]

A search tries every plan on all accelerators x 13 batch sizes x 5 combinations of formats, on
fitted kernels and, beside that, on the roofline. The column "first" is the time of the first search
of a process, "again" that of another question of the same shape. The command is timed as a whole
process. Nothing of it is compiled.

Six questions with targets then ask whether the first row keeps what it promises: `estimate` of its
scenario must say the same, and meet the targets.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from typing import NamedTuple

from report import Report, parser_of, seconds_of

import diffgenz as dgz
from diffgenz.inference.metrics import metrics_of
from diffgenz.ui.tables import number, table


class Timed(NamedTuple):
    """A search to time, on H200.

    Arguments:
        model: its Hugging Face id.
        accelerators: how many.
        first: s that the first search may take.
        again: s that a further one may take.
    """

    model: str
    accelerators: int
    first: float
    again: float


class Asked(NamedTuple):
    """A question with targets.

    Arguments:
        model: its Hugging Face id.
        system: the accelerator.
        accelerators: how many.
        ttft: s until the first token, at most.
        tpot: s between tokens, at most.
        precisions: the formats; None for the usual ones.
    """

    model: str
    system: str
    accelerators: int
    ttft: float
    tpot: float
    precisions: tuple[dgz.Precision, ...] | None = None


TIMED = (
    Timed("Qwen/Qwen3-32B", 32, 5.0, 0.5),
    Timed("deepseek-ai/DeepSeek-V3", 64, 12.0, 3.0),
)
ASKED = (
    Asked("Qwen/Qwen3-32B", "h200_sxm", 32, 4.0, 0.02),
    Asked("Qwen/Qwen3-235B-A22B", "h200_sxm", 16, 5.0, 0.05),
    Asked("meta-llama/Llama-3.3-70B-Instruct", "h100_sxm", 8, 2.0, 0.03),
    Asked(
        "deepseek-ai/DeepSeek-V3",
        "h200_sxm",
        64,
        5.0,
        0.05,
        (dgz.Precision(weights="fp8_block", activations="fp8_block"),),
    ),
    Asked("openai/gpt-oss-120b", "h100_sxm", 8, 2.0, 0.03),
    Asked("mistralai/Mixtral-8x7B-v0.1", "a100_sxm", 8, 2.0, 0.05),
)
FITS = {"fitted": {}, "roofline": {"fit": "none"}}
"""What times the kernels, and how a platform is loaded for it."""

COMMAND = "search Qwen/Qwen3-32B --system h200_sxm --gpus 32 --isl 4000 --osl 1000"


def question(
    name: str, accelerators: int, input_tokens: float = 4000, system: str = "h200_sxm", **fit: str
) -> dgz.Scenario:
    """The scenario that is searched from; the search replaces its plan and its formats."""
    platform = dgz.load_platform(system, accelerators, **fit)
    work = dgz.Workload(1, input_tokens, 1000)
    return dgz.Scenario(dgz.load_model(name), platform, work, dgz.Parallelism())


def disagreement(rows: list[dgz.Deployment]) -> float:
    """The largest relative difference of a row's metrics from the estimate of its scenario."""
    worst = 0.0
    for row in rows:
        for name, value in metrics_of(dgz.estimate(row.scenario)).items():
            ours = row.metrics[name]
            assert ours is not None
            worst = max(worst, abs(float(value) / ours - 1))
    return worst


def time_searches(report: Report, quick: bool) -> None:
    """First and further searches, and rows spread over all of each against their estimates."""
    cells = []
    for case in TIMED[:1] if quick else TIMED:
        for timing, fit in FITS.items():
            asked = question(case.model, case.accelerators, **fit)
            found: list[dgz.Search] = []
            first = seconds_of(lambda asked=asked, found=found: found.append(dgz.search(asked)))
            again = []
            for run in range(3 if quick else 9):
                other = question(case.model, case.accelerators, 4001 + run, **fit)
                again.append(seconds_of(lambda other=other: dgz.search(other, tpot=0.05)))
            name = f"{case.model} on {case.accelerators}, {timing}"
            tried, seconds = found[0].tried, statistics.median(again)
            times = {"first": first, "again": seconds, "least": min(again), "most": max(again)}
            report.rows.append({"name": name, "deployments": tried, **times})
            cells.append((name, f"{tried:,}", *map(number, times.values())))
            if timing == "fitted":
                report.check(f"search, {name}: first", first, "s", case.first)
                report.check(f"search, {name}: again", seconds, "s", case.again)
            rows = found[0].deployments
            error = disagreement(rows[:: len(rows) // (5 if quick else 50)])
            report.check(f"search, {name}: rows against estimates", error, "relative", 1e-5)
    header = ("search", "deployments", "first s", "again s", "fastest", "slowest")
    print(table(header, cells, "l"))


def time_command(report: Report, quick: bool) -> None:
    """The command as a whole process, which finds its programs compiled."""
    command = [sys.executable, "-m", "diffgenz", *COMMAND.split()]
    with tempfile.TemporaryDirectory() as cache:

        def run() -> None:
            environment = os.environ | {"XDG_CACHE_HOME": cache}
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)

        cold = seconds_of(run)
        warm = statistics.median(seconds_of(run) for _ in range(1 if quick else 5))
    report.rows.append({"name": f"diffgenz {COMMAND}", "cold": cold, "warm": warm})
    report.check("search command: whole process, programs compiled before", warm, "s", 4.0)
    print(f"\ndiffgenz {COMMAND}: {cold:.1f} s, with compiled programs {warm:.1f} s")


def keep_promises(report: Report, quick: bool) -> None:
    """Whether first rows meet by `estimate` the targets that they were chosen for."""
    cells, met, worst = [], 0, 0.0
    asked = ASKED[:2] if quick else ASKED
    for each in asked:
        case = question(each.model, each.accelerators, system=each.system)
        found = dgz.search(case, ttft=each.ttft, tpot=each.tpot, precisions=each.precisions)
        row = found.deployments[0]
        answer = dgz.estimate(row.scenario)
        ttft, tpot = float(answer.ttft), float(answer.tpot)
        keeps = bool(answer.memory.fits) and ttft <= each.ttft and tpot <= each.tpot
        met, worst = met + keeps, max(worst, disagreement([row]))
        speed = float(answer.tokens_per_second_per_accelerator)
        name = f"{each.model}, {each.accelerators} x {each.system}"
        cells.append((name, number(ttft * 1e3), number(tpot * 1e3), number(speed), str(keeps)))
        report.rows.append({"name": name, "ttft": ttft, "tpot": tpot, "tok/s/GPU": speed})
    header = ("first row, by estimate", "TTFT ms", "TPOT ms", "tok/s/GPU", "meets targets")
    print("\n" + table(header, cells, "l"))
    report.check("first rows against estimates", worst, "relative", 1e-5)
    report.check("first rows that miss their targets", len(asked) - met, "rows", 0)


def main() -> None:
    """Measure, print, write."""
    options = parser_of(__doc__, "fewer runs and questions").parse_args()
    report = Report()
    time_searches(report, options.quick)
    time_command(report, options.quick)
    keep_promises(report, options.quick)
    report.finish(options.json)


if __name__ == "__main__":
    main()
