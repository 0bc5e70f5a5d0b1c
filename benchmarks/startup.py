"""How long the command line takes to answer, measured as whole processes.

    python benchmarks/startup.py [--quick] [--json OUT]

Each is a new process without any cache of compiled programs: commands about one deployment compile
nothing.
"""

import os
import statistics
import subprocess
import sys
import tempfile

from report import Report, parser_of, seconds_of

from diffgenz.ui.tables import number, table

REQUESTS = ["--isl", "2048", "--osl", "256", "--batch", "64"]
DENSE = [
    *("meta-llama/Llama-3.1-70B", "--system", "h100_sxm", "--gpus", "8", "--tp", "8"),
    *REQUESTS,
]
EXPERTS = [
    *("deepseek-ai/DeepSeek-V3", "--system", "b200_sxm", "--gpus", "8", "--ep", "8"),
    *("--attention-dp", "8", "--weights", "checkpoint", *REQUESTS),
]
CASES = (
    ("--help", ["--help"], 0.5),
    ("list models", ["list", "models"], 0.5),
    ("list systems", ["list", "systems"], 0.5),
    ("estimate, Llama-3.1-70B", ["estimate", *DENSE], 2.0),
    ("estimate, DeepSeek-V3", ["estimate", *EXPERTS], 2.0),
    ("estimate --uncertainty, Llama-3.1-70B", ["estimate", "--uncertainty", *DENSE], 2.5),
    ("sensitivity, Llama-3.1-70B", ["sensitivity", *DENSE], 2.0),
)
"""Name, arguments of the command line, and the seconds that it should take at most."""


def run(arguments: list[str]) -> float:
    """The seconds of one `diffgenz` process.

    Arguments:
        arguments: of the command line.
    """
    command = [sys.executable, "-m", "diffgenz", *arguments]
    with tempfile.TemporaryDirectory() as fresh:
        environment = os.environ | {"XDG_CACHE_HOME": fresh}
        return seconds_of(
            lambda: subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
        )


def main() -> None:
    """Measure, print, write."""
    options = parser_of(__doc__, "fewer runs").parse_args()
    repeats = 1 if options.quick else 7
    report = Report()
    run(["list", "models"])  # reads the files of the package once
    for name, arguments, target in CASES:
        seconds = [run(arguments) for _ in range(repeats)]
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
