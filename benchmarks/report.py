"""The report that every benchmark prints and writes: machine, versions, rows and checks."""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from diffgenz.ui.tables import number, table


@dataclass(frozen=True)
class Check:
    """One figure that has a target.

    Arguments:
        name: what the figure is.
        value: the figure, as measured in this run.
        unit: of `value` and `target`; "" where they are plain numbers.
        target: the largest value that is good enough.
        at_least: whether `target` is the smallest such value instead.
    """

    name: str
    value: float
    unit: str
    target: float
    at_least: bool = False

    @property
    def ok(self) -> bool:
        """Whether the target is reached."""
        return self.value >= self.target if self.at_least else self.value <= self.target


@dataclass
class Report:
    """The rows of a benchmark and the checks on them.

    Arguments:
        rows: the measurements, each a dictionary that JSON can hold.
        checks: the figures that have a target.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)

    def check(
        self, name: str, value: float, unit: str, target: float, *, at_least: bool = False
    ) -> None:
        """Add a check; the arguments are those of `Check`."""
        self.checks.append(Check(name, float(value), unit, target, at_least))

    def finish(self, out: str | None) -> None:
        """Print the checks and the machine, and write everything as JSON.

        Arguments:
            out: path of the JSON file, which is replaced at once when it is complete; None: no
                file is written.
        """
        if self.checks:
            cells = [_cells(check) for check in self.checks]
            print("\n" + table(("check", "value", "target", ""), cells, "lrrl"))
        print(f"\n{machine()}; {', '.join(f'{name} {text}' for name, text in versions().items())}")
        if out:
            written = {
                "machine": machine(),
                "versions": versions(),
                "date": datetime.date.today().isoformat(),
                "commit": commit(),
                "rows": self.rows,
                "checks": [asdict(check) | {"ok": check.ok} for check in self.checks],
            }
            aside = Path(out + ".part")
            aside.write_text(json.dumps(written, indent=1) + "\n")
            aside.replace(out)


def _cells(check: Check) -> tuple[str, ...]:
    sign = ">=" if check.at_least else "<="
    value, target = f"{number(check.value)} {check.unit}", f"{sign} {number(check.target)}"
    return check.name, value, target, "ok" if check.ok else "MISSED"


def machine() -> str:
    """The name of the processor, and the number of cores that this process may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    allowed = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if allowed else os.cpu_count()
    return f"{name}, {cores} cores"


def commit() -> str | None:
    """The commit that ran, marked where the tree differs from it; None outside a checkout."""
    here = str(Path(__file__).parent)
    command = ["git", "-C", here, "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that ran, by name."""
    found = {"python": platform.python_version()}
    for name in ("diffgenz", "jax", "equinox", "numpy", "genz-llm"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def parser_of(
    description: str | None, quick: str = "the same checks on less data, in under 45 s"
) -> argparse.ArgumentParser:
    """The flags of every benchmark.

    Arguments:
        description: the script's docstring.
        quick: what `--quick` leaves out, for the help.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", metavar="OUT", help="write rows and checks there")
    parser.add_argument("--quick", action="store_true", help=quick)
    return parser


@dataclass(frozen=True)
class Timing:
    """Seconds of repeated runs: their median, the fastest and the slowest."""

    median: float
    fastest: float
    slowest: float


def timed(run: Callable[[], Any], repeats: int) -> Timing:
    """The seconds of `run`, called once without measuring and then `repeats` times."""
    run()
    seconds = [seconds_of(run) for _ in range(repeats)]
    return Timing(statistics.median(seconds), min(seconds), max(seconds))


def seconds_of(run: Callable[[], Any]) -> float:
    """The seconds that one call of `run` takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
