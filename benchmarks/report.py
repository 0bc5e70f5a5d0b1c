"""What every benchmark here prints and writes: machine, versions, rows and checks."""

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
    """One figure that has a target: `value` must be at most (`at_least`: at least) `target`."""

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
    """The rows of a benchmark and the checks on them."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)

    def check(
        self, name: str, value: float, unit: str, target: float, *, at_least: bool = False
    ) -> None:
        """Add a check."""
        self.checks.append(Check(name, float(value), unit, target, at_least))

    def finish(self, out: str | None) -> None:
        """Print the checks and the machine, and write everything as JSON to `out`, aside first."""
        sign = {False: "<=", True: ">="}
        cells = [
            (
                c.name,
                f"{number(c.value)} {c.unit}",
                f"{sign[c.at_least]} {number(c.target)}",
                "ok" if c.ok else "MISSED",
            )
            for c in self.checks
        ]
        print("\n" + table(("check", "value", "target", ""), cells, "lrrl"))
        print(f"\n{machine()}; {', '.join(f'{name} {text}' for name, text in versions().items())}")
        if out:
            checks = [asdict(check) | {"ok": check.ok} for check in self.checks]
            when = {"date": datetime.date.today().isoformat(), "commit": commit()}
            aside = Path(out + ".part")
            aside.write_text(
                json.dumps(
                    {
                        "machine": machine(),
                        "versions": versions(),
                        **when,
                        "rows": self.rows,
                        "checks": checks,
                    },
                    indent=1,
                )
                + "\n"
            )
            aside.replace(out)


def machine() -> str:
    """The processor and its cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"


def commit() -> str | None:
    """The commit that ran, marked where the tree differs from it; None outside a checkout."""
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> dict[str, str]:
    """What ran."""
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
    """The flags of every benchmark; `quick` says what `--quick` leaves out."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", metavar="OUT", help="write rows and checks there")
    parser.add_argument("--quick", action="store_true", help=quick)
    return parser


@dataclass(frozen=True)
class Timing:
    """Seconds of repeated runs."""

    median: float
    fastest: float
    slowest: float


def timed(run: Callable[[], Any], repeats: int) -> Timing:
    """`run` once unmeasured, then `repeats` times."""
    run()
    seconds = [seconds_of(run) for _ in range(repeats)]
    return Timing(statistics.median(seconds), min(seconds), max(seconds))


def seconds_of(run: Callable[[], Any]) -> float:
    """Seconds that `run` takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
