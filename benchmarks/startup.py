"""How long the command line takes to answer, measured as whole processes.

    python benchmarks/startup.py [--quick] [--json OUT]

`estimate` is run with an empty compilation cache (cold), and with the cache that a previous run
left (warm).
"""

import os
import statistics
import subprocess
import sys
import tempfile

from report import Report, parser_of, seconds_of

from diffgenz.ui.tables import number, table

ESTIMATE = [
    *("estimate", "meta-llama/Llama-3.1-70B", "--system", "h100_sxm", "--gpus", "8", "--tp", "8"),
    *("--isl", "2048", "--osl", "256", "--batch", "64"),
]


def run(arguments: list[str], cache: str) -> float:
    """The seconds of one `diffgenz` process.

    Arguments:
        arguments: of the command line.
        cache: the folder that holds its compilation cache.
    """
    command = [sys.executable, "-m", "diffgenz", *arguments]
    environment = os.environ | {"XDG_CACHE_HOME": cache}
    return seconds_of(
        lambda: subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    )


def main() -> None:
    """Measure, print, write."""
    options = parser_of(__doc__, "fewer runs").parse_args()
    repeats = 1 if options.quick else 7
    report = Report()
    with tempfile.TemporaryDirectory() as kept:
        run(ESTIMATE, kept)
        cases = [
            ("--help", ["--help"], False, 0.5),
            ("list models", ["list", "models"], False, 0.5),
            ("list systems", ["list", "systems"], False, 0.5),
        ]
        cases += [
            ("estimate, cold", ESTIMATE, True, 4.0),
            ("estimate, warm cache", ESTIMATE, False, 2.5),
        ]
        for name, arguments, cold, target in cases:
            seconds = []
            for _ in range(repeats):
                with tempfile.TemporaryDirectory() as fresh:
                    seconds.append(run(arguments, fresh if cold else kept))
            median = statistics.median(seconds)
            row = {"name": f"diffgenz {name}", "seconds": median}
            report.rows.append(row | {"fastest": min(seconds), "slowest": max(seconds)})
            report.check(f"diffgenz {name}", median, "s", target)
    shown = ("seconds", "fastest", "slowest")
    cells = [(row["name"], *(number(row[key]) for key in shown)) for row in report.rows]
    print(table(("", "median s", "fastest", "slowest"), cells, "l"))
    report.finish(options.json)


if __name__ == "__main__":
    main()
