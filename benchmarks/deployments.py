"""How long a deployment search takes, and that its rows are those of single estimates.

    python benchmarks/deployments.py [--quick] [--json OUT]

Every plan on all accelerators x 13 batch sizes x 5 combinations of formats. First: trace, compile and run; again: another question of the same
shape, in the same process.
"""

import statistics
from operator import attrgetter

from report import Report, parser_of, seconds_of

import diffgenz as dgz
from diffgenz.ui.tables import number, table

CASES = (("Qwen/Qwen3-32B", 32, 1.0), ("deepseek-ai/DeepSeek-V3", 64, 2.0))


def question(name: str, accelerators: int, input_tokens: float = 4000) -> dgz.Scenario:
    """What is searched; its plan and formats are for the search to say."""
    model = dgz.load_model(name)
    platform = dgz.load_platform("h200_sxm", accelerators, fit="none")
    return dgz.Scenario(model, platform, dgz.Workload(1, input_tokens, 1000), dgz.Parallelism())


def disagreement(found: dgz.Search, count: int) -> float:
    """The largest relative difference of rows of `found` from estimates of their scenarios."""
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
        row = {
            "name": f"{name} on {accelerators}",
            "deployments": found.tried,
            "first": first,
            "again": seconds,
        }
        report.rows.append(row | {"fastest": min(again), "slowest": max(again)})
        report.check(f"search, {name} on {accelerators}", seconds, "s", target)
        report.check(
            f"search, {name}: rows against single estimates",
            disagreement(found, 5 if options.quick else 50),
            "relative",
            1e-5,
        )
    cells = [
        (
            r["name"],
            f"{r['deployments']:,}",
            *(number(r[key]) for key in ("first", "again", "fastest", "slowest")),
        )
        for r in report.rows
    ]
    print(table(("search", "deployments", "first s", "again s", "fastest", "slowest"), cells, "l"))
    report.finish(options.json)


if __name__ == "__main__":
    main()
