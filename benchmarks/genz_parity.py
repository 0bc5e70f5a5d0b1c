"""Parity with GenZ: its goldens against the library's primitives, and its models rebuilt from them.

    python benchmarks/genz_parity.py OPERATORS.jsonl ESTIMATES.jsonl [--json OUT] [--quick]

Primitives (GEMM, attention scores and values, convolutions, einsums, collectives; any residency, format and efficiency) must agree to 1e-6,
whole models in every phase to 1e-5: the algebra is GenZ's. Where DiffGenZ's estimates differ from GenZ's, it is by the compositions in
`benchmarks/genz`, rule by rule. Everything takes seconds, so that --quick changes nothing.
"""

import argparse
import importlib.metadata
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from genz.parity import Malformed, Outcome, compare, read_rows

PRIMITIVE_TOLERANCE, MODEL_TOLERANCE = 1e-6, 1e-5

Check = dict[str, Any]
Line = Sequence[object]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("operators", type=Path, help="genz_operators.jsonl, or others in its format")
    parser.add_argument("estimates", type=Path, help="genz_estimates.jsonl, or others in its format")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write rows and checks there")
    parser.add_argument("--quick", action="store_true", help="the same: all rows take seconds")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    try:
        outcomes = compare([*read_rows(options.operators), *read_rows(options.estimates)])
        checks = all_checks(outcomes)
        print(report(outcomes, checks))
        print(f"\n{len(outcomes)} rows in {time.perf_counter() - started:.1f} s")
        if options.json:
            write_json(options.json, outcomes, checks)
    except (Malformed, OSError) as error:
        sys.exit(f"genz_parity: {error}")


REQUIRED = ("primitives", "dense models", "all models")
"""Groups of rows without which there is no parity to speak of; the others are checked where there are any."""


def all_checks(outcomes: Sequence[Outcome]) -> list[Check]:
    """Two per group of rows: its largest relative error, and how many of it are covered."""
    groups: dict[str, tuple[list[Outcome], float]] = {
        "primitives": ([o for o in outcomes if o.kind == "primitive"], PRIMITIVE_TOLERANCE),
        "dense models": ([o for o in outcomes if is_ok_model(o) and o.family == "dense"], MODEL_TOLERANCE),
        "all models": ([o for o in outcomes if is_ok_model(o)], MODEL_TOLERANCE),
        "models that do not fit": ([o for o in outcomes if o.kind == "estimate" and o.status == "does_not_fit"], MODEL_TOLERANCE),
        "operators in models": ([o for o in outcomes if o.kind == "op_in_model"], MODEL_TOLERANCE),
        "searches": ([o for o in outcomes if o.kind == "search"], MODEL_TOLERANCE),
    }
    checks = []
    for name, (group, tolerance) in groups.items():
        if not group and name not in REQUIRED:
            continue
        error, covered = largest(group), sum(o.covered for o in group)
        ok = error is not None and error <= tolerance
        checks.append({"name": f"{name}: largest relative error", "value": error, "unit": "1", "target": f"<= {tolerance:g}", "ok": ok})
        ok = covered == len(group) > 0
        checks.append({"name": f"{name}: rows covered", "value": covered, "unit": "rows", "target": f"== {len(group)}", "ok": ok})
    return checks


def is_ok_model(outcome: Outcome) -> bool:
    """Whether it is a whole-model row that GenZ has an estimate for."""
    return outcome.kind == "estimate" and outcome.status == "ok"


def largest(outcomes: Iterable[Outcome], error: Callable[[Outcome], float] = lambda o: o.headline) -> float | None:
    """The largest error of the covered ones; None where there are none."""
    return max((error(outcome) for outcome in outcomes if outcome.covered), default=None)


def report(outcomes: Sequence[Outcome], checks: Sequence[Check]) -> str:
    """All tables."""
    models = [o for o in outcomes if o.kind == "estimate" and o.status != "error"]
    parts = [
        section("Primitives, and other rows of operators", by_group([o for o in outcomes if o.kind != "estimate"])),
        section("Whole models: largest relative error", model_lines(models)),
        section("Quirks: rows of whole models that have them", quirk_lines(models)),
        section("Not covered", reason_lines(outcomes)),
        section("Largest disagreements", disagreement_lines(outcomes)),
        section("Checks", check_lines(checks)),
    ]
    return "\n\n".join(part for part in parts if part)


def by_group(outcomes: Sequence[Outcome]) -> list[Line]:
    keys = sorted({(o.kind, o.group if o.kind != "op_in_model" else o.family) for o in outcomes}, key=lambda key: (key[0] != "primitive", key))
    lines: list[Line] = [("kind", "of", "rows", "covered", "largest error")]
    for kind, group in keys:
        chosen = [o for o in outcomes if o.kind == kind and group in (o.group, o.family)]
        lines.append((kind, group, len(chosen), sum(o.covered for o in chosen), shown(largest(chosen))))
    return lines


def model_lines(outcomes: Sequence[Outcome]) -> list[Line]:
    quantities = ("latency", "throughput", "weights", "kv")
    lines: list[Line] = [("phase", "family", "status", "rows", "covered", *quantities, "rest of summary")]
    order = ("ok", "dense", "MoE", "Mamba", "prefill", "decode", "chunked", "spec")
    groups = {(o.group, o.family, o.status) for o in outcomes}
    for phase, family, status in sorted(groups, key=lambda key: [(order.index(part) if part in order else len(order), part) for part in key[::-1]]):
        chosen = [o for o in outcomes if (o.group, o.family, o.status) == (phase, family, status)]
        errors = [largest((o for o in chosen if quantity in o.errors), lambda o, q=quantity: o.worst((q,))) for quantity in quantities]
        rest = largest(chosen, lambda o: o.worst(set(o.errors) - set(quantities)))
        lines.append((phase, family, status, len(chosen), sum(o.covered for o in chosen), *map(shown, errors), shown(rest)))
    return lines


def quirk_lines(outcomes: Sequence[Outcome]) -> list[Line]:
    lines: list[Line] = [("quirk", "rows", "covered", "largest error")]
    for quirk in sorted({quirk for o in outcomes for quirk in o.quirks}):
        chosen = [o for o in outcomes if quirk in o.quirks]
        lines.append((quirk, len(chosen), sum(o.covered for o in chosen), shown(largest(chosen))))
    return lines


def reason_lines(outcomes: Sequence[Outcome]) -> list[Line]:
    reasons = [(o.kind, o.group, str(o.reason)) for o in outcomes if not o.covered]
    return [("kind", "of", "rows", "why"), *((*reason[:2], reasons.count(reason), reason[2]) for reason in sorted(set(reasons)))]


def disagreement_lines(outcomes: Sequence[Outcome], most: int = 10) -> list[Line]:
    """The worst rows beyond tolerance, each with its worst quantity."""
    beyond = [o for o in outcomes if o.worst() > (PRIMITIVE_TOLERANCE if o.kind == "primitive" else MODEL_TOLERANCE)]
    lines: list[Line] = [("row", "kind", "of", "family", "quantity", "error")]
    for o in sorted(beyond, key=lambda o: (-o.headline, -o.worst()))[:most]:
        quantity = max(o.errors, key=o.errors.__getitem__)
        lines.append((o.row, o.kind, o.group, o.family, quantity, shown(o.errors[quantity])))
    return lines


def check_lines(checks: Sequence[Check]) -> list[Line]:
    return [("check", "value", "target", ""), *((c["name"], shown(c["value"]), c["target"], "ok" if c["ok"] else "MISSED") for c in checks)]


def section(title: str, lines: Sequence[Line]) -> str:
    """A table under its title; nothing where it has no lines but the head. Numbers are set to the right."""
    if len(lines) < 2:
        return ""
    cells = [[str(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [not isinstance(cell, str) or cell[:1].isdigit() for cell in lines[1]]
    rows = ("  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)).rstrip() for line in cells)
    return "\n".join([title, "-" * len(title), *rows])


def shown(value: float | int | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.1e}"


def write_json(out: Path, outcomes: Sequence[Outcome], checks: Sequence[Check]) -> None:
    """The benchmarks' contract, written aside and renamed."""
    content = {"machine": machine(), "versions": versions(), "rows": [as_row(o) for o in outcomes], "checks": [finite(check) for check in checks]}
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=out.parent, prefix=f".{out.name}.", delete=False) as aside:
        json.dump(content, aside, indent=1, allow_nan=False)
    os.chmod(aside.name, 0o644)
    os.replace(aside.name, out)


def as_row(outcome: Outcome) -> dict[str, Any]:
    """An outcome as JSON; of operators in models, which have a hundred quantities, the largest error only."""
    fields = outcome._asdict() | {"covered": outcome.covered, "error": outcome.headline if outcome.covered else None}
    if outcome.kind == "op_in_model":
        del fields["errors"]
    else:
        fields["errors"] = finite(outcome.errors)
    return finite(fields)


def finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: None instead."""
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in values.items()}


def machine() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    return {"cpu": model, "cores": os.cpu_count(), "system": platform.platform()}


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("diffgenz", "jax", "jaxlib", "equinox", "numpy"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "source"
    return found


if __name__ == "__main__":
    main()
