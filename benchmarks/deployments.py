"""How long a deployment search takes, and whether its rows equal single estimates.

    python benchmarks/deployments.py [--quick] [--json OUT]

A search tries every plan on all accelerators x 13 batch sizes x 5 combinations of formats. The
column "first" is the time to trace, compile and run it; "again" is that of another question of the
same shape in the same process.
"""

import statistics
from operator import attrgetter

from report import Report, parser_of, seconds_of

import diffgenz as dgz
from diffgenz.ui.tables import number, table

CASES = (("Qwen/Qwen3-32B", 32, 1.0), ("deepseek-ai/DeepSeek-V3", 64, 2.0))
"""Model, accelerators, and the seconds that a search may take."""


def question(name: str, accelerators: int, input_tokens: float = 4000) -> dgz.Scenario:
    """The scenario that is searched from; the search replaces its plan and its formats."""
    model = dgz.load_model(name)
    platform = dgz.load_platform("h200_sxm", accelerators, fit="none")
    return dgz.Scenario(model, platform, dgz.Workload(1, input_tokens, 1000), dgz.Parallelism())


def disagreement(found: dgz.Search, count: int) -> float:
    """The largest relative difference of a row from the estimate of its scenario.

    Arguments:
        found: the search.
        count: rows to compare, about; they are spread evenly over all rows.
    """
    worst = 0.0
    for row in found.deployments[:: max(1, len(found.deployments) // count)]:
        single = dgz.estimate(row.scenario)
        for name in ("ttft", "tpot", "throughput", "memory.total"):
            ours, theirs = row.metrics[name], float(attrgetter(name)(single))
            assert ours is not None
            worst = max(worst, abs(theirs / ours - 1))
    return worst


def main() -> None:
    """Measure, print, write."""
    options = parser_of(__doc__, "fewer runs").parse_args()
    repeats = 3 if options.quick else 9
    report = Report()
    for name, accelerators, target in CASES:
        case = question(name, accelerators)
        first = seconds_of(lambda case=case: dgz.search(case))
        again = []
        for run in range(repeats):
            other = question(name, accelerators, 4000 + run)
            again.append(seconds_of(lambda other=other: dgz.search(other, tpot=0.05)))
        found = dgz.search(case)
        seconds = statistics.median(again)
        row = {"name": f"{name} on {accelerators}", "deployments": found.tried}
        spread = {"fastest": min(again), "slowest": max(again)}
        report.rows.append(row | {"first": first, "again": seconds} | spread)
        report.check(f"search, {name} on {accelerators}", seconds, "s", target)
        error = disagreement(found, 5 if options.quick else 50)
        report.check(f"search, {name}: rows against single estimates", error, "relative", 1e-5)
    shown = ("first", "again", "fastest", "slowest")
    cells = [
        (row["name"], f"{row['deployments']:,}", *(number(row[key]) for key in shown))
        for row in report.rows
    ]
    print(table(("search", "deployments", "first s", "again s", "fastest", "slowest"), cells, "l"))
    report.finish(options.json)


if __name__ == "__main__":
    main()
