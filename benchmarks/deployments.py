"""How long a deployment search takes, and that its rows are those of single estimates.

    python benchmarks/deployments.py [--quick] [--json OUT]

Every plan on all accelerators x 13 batch sizes x 5 combinations of formats. First: trace, compile and run; again: another question of the same
shape, in the same process.
"""

import statistics

from report import Report, parser_of, seconds_of

import diffgenz as dgz
from diffgenz.ui.tables import number, table

CASES = (("Qwen/Qwen3-32B", 32, 1.0), ("deepseek-ai/DeepSeek-V3", 64, 2.0))
ASKED = dgz.Workload(1, 4000, 1000)


def disagreement(model: dgz.Model, platform: dgz.Platform, found: dgz.Search, count: int) -> float:
    """The largest relative difference between rows of `found` and single estimates of the same deployments."""
    worst = 0.0
    for d in found.deployments[:: max(1, len(found.deployments) // count)]:
        plan = dgz.Parallelism(
            d.tensor,
            d.pipeline,
            d.data,
            expert=d.expert,
            attention_data=d.attention_data,
            context=d.context,
        )
        precision = dgz.Precision("bf16", d.weights, d.activations, d.kv_cache)
        single = dgz.estimate(model, platform, ASKED.replace(batch=d.batch), plan, precision)
        pairs = (
            (single.ttft, d.ttft),
            (single.tpot, d.tpot),
            (single.throughput, d.throughput),
            (single.memory.total, d.memory),
        )
        worst = max(worst, *(abs(float(one) / other - 1) for one, other in pairs))
    return worst


def main() -> None:
    """Measure, print, write."""
    options = parser_of(__doc__, "fewer runs").parse_args()
    repeats = 3 if options.quick else 9
    report = Report()
    for name, accelerators, target in CASES:
        model, platform = (
            dgz.load_model(name),
            dgz.load_platform("h200_sxm", accelerators, fit="none"),
        )
        first = seconds_of(lambda m=model, p=platform: dgz.search(m, p, ASKED))
        again = [
            seconds_of(
                lambda m=model, p=platform, run=run: dgz.search(
                    m, p, ASKED.replace(input_tokens=4000 + run), tpot=0.05
                )
            )
            for run in range(repeats)
        ]
        found = dgz.search(model, platform, ASKED)
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
            disagreement(model, platform, found, 5 if options.quick else 50),
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
