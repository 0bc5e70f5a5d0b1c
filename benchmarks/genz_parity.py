"""Parity with GenZ: its goldens against the library's primitives, and its models rebuilt from them.

    python benchmarks/genz_parity.py OPERATORS.jsonl ESTIMATES.jsonl [--json OUT] [--quick]

Primitives are GEMM, attention scores and values, convolutions, einsums and collectives, in any
residency, format and efficiency. They must agree to 1e-6, and whole models in every phase to 1e-5,
which shows that the algebra is GenZ's. Where DiffGenZ's estimates differ from GenZ's, the reason is
one of the compositions in `benchmarks/genz`, which state GenZ's rules one by one. Everything takes
seconds, so that --quick changes nothing.
"""

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from genz.parity import Malformed, Outcome, compare, read_rows
from report import Report, parser_of

from diffgenz.ui.tables import table

PRIMITIVE_TOLERANCE, MODEL_TOLERANCE = 1e-6, 1e-5
REQUIRED = ("primitives", "dense models", "all models")
"""Groups of rows that parity needs; the others are checked where there are any."""

Line = tuple[object, ...]


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare, print, write."""
    parser = parser_of(__doc__, "the same: all rows take seconds")
    parser.add_argument(
        "operators", type=Path, help="genz_operators.jsonl, or others in its format"
    )
    parser.add_argument(
        "estimates", type=Path, help="genz_estimates.jsonl, or others in its format"
    )
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    try:
        outcomes = compare([*read_rows(options.operators), *read_rows(options.estimates)])
        print_tables(outcomes)
        print(f"\n{len(outcomes)} rows in {time.perf_counter() - started:.1f} s")
        report_of(outcomes).finish(options.json)
    except (Malformed, OSError) as error:
        sys.exit(f"genz_parity: {error}")


def report_of(outcomes: Sequence[Outcome]) -> Report:
    """All rows, and two checks of each group: its largest relative error, and its rows covered."""
    report = Report([as_row(outcome) for outcome in outcomes])
    models = [o for o in outcomes if o.kind == "estimate"]
    ok = [o for o in models if o.status == "ok"]
    groups: dict[str, tuple[list[Outcome], float]] = {
        "primitives": ([o for o in outcomes if o.kind == "primitive"], PRIMITIVE_TOLERANCE),
        "dense models": ([o for o in ok if o.family == "dense"], MODEL_TOLERANCE),
        "all models": (ok, MODEL_TOLERANCE),
        "models that do not fit": (
            [o for o in models if o.status == "does_not_fit"],
            MODEL_TOLERANCE,
        ),
        "operators in models": ([o for o in outcomes if o.kind == "op_in_model"], MODEL_TOLERANCE),
        "searches": ([o for o in outcomes if o.kind == "search"], MODEL_TOLERANCE),
    }
    for name, (group, tolerance) in groups.items():
        error = largest(group)
        if error is not None:
            report.check(f"{name}: largest relative error", error, "", tolerance)
        if group or name in REQUIRED:
            report.check(
                f"{name}: rows covered",
                sum(o.covered for o in group),
                "rows",
                max(len(group), 1),
                at_least=True,
            )
    return report


def as_row(outcome: Outcome) -> dict[str, Any]:
    """An outcome as JSON.

    Operators in models have a hundred quantities; of those the largest error alone is kept.
    """
    row = outcome._asdict() | {
        "covered": outcome.covered,
        "error": outcome.headline if outcome.covered else None,
    }
    return row | ({"errors": {}} if outcome.kind == "op_in_model" else {})


def largest(
    outcomes: Iterable[Outcome], error: Callable[[Outcome], float] = lambda o: o.headline
) -> float | None:
    """The largest error of the covered outcomes; None where there are none.

    Arguments:
        outcomes: of which it is taken.
        error: of one outcome.
    """
    return max((error(outcome) for outcome in outcomes if outcome.covered), default=None)


def print_tables(outcomes: Sequence[Outcome]) -> None:
    """Print all tables; the checks follow them."""
    models = [o for o in outcomes if o.kind == "estimate" and o.status != "error"]
    print_table(
        "Primitives, and other rows of operators",
        "ll",
        by_kind([o for o in outcomes if o.kind != "estimate"]),
    )
    print_table("Whole models: largest relative error", "lll", by_phase(models))
    print_table("Quirks: whole models that have them", "l", by_quirk(models))
    print_table("Not covered", "llrl", by_reason(outcomes))
    print_table("Largest disagreements beyond tolerance", "lllll", disagreements(outcomes))


def print_table(title: str, align: str, lines: Sequence[Line]) -> None:
    """Print a table under its title; nothing where it has no lines below the header.

    Arguments:
        title: of the table.
        align: "l" for each column that is aligned to the left, from the first.
        lines: the header and the rows.
    """
    if len(lines) > 1:
        header, *cells = [[str(cell) for cell in line] for line in lines]
        print(f"\n{title}\n{table(header, cells, align)}")


def by_kind(outcomes: Sequence[Outcome]) -> list[Line]:
    """Lines of operators' rows, by their kind; operators in whole models by the model's family."""
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for o in outcomes:
        groups.setdefault((o.kind, o.family if o.kind == "op_in_model" else o.group), []).append(o)
    lines = [
        (*key, *counts(group))
        for key, group in sorted(
            groups.items(), key=lambda item: (item[0][0] != "primitive", item[0])
        )
    ]
    return [("kind", "of", "rows", "covered", "largest error"), *lines]


def by_phase(outcomes: Sequence[Outcome]) -> list[Line]:
    """Lines of whole models, with a column for each headline quantity."""
    quantities = ("latency", "throughput", "weights", "kv")
    order = ("ok", "dense", "MoE", "Mamba", "prefill", "decode", "chunked", "spec")
    groups: dict[tuple[str, str, str], list[Outcome]] = {}
    for o in outcomes:
        groups.setdefault((o.status, o.family, o.group), []).append(o)
    lines: list[Line] = [
        ("phase", "family", "status", "rows", "covered", *quantities, "rest of summary")
    ]
    for key in sorted(
        groups,
        key=lambda key: [
            (order.index(part) if part in order else len(order), part) for part in key
        ],
    ):
        group = groups[key]
        errors = [
            largest((o for o in group if quantity in o.errors), lambda o, q=quantity: o.errors[q])
            for quantity in quantities
        ]
        rest = largest(group, lambda o: o.worst(set(o.errors) - set(quantities)))
        lines.append(
            (
                *key[::-1],
                len(group),
                sum(o.covered for o in group),
                *map(shown, errors),
                shown(rest),
            )
        )
    return lines


def by_quirk(outcomes: Sequence[Outcome]) -> list[Line]:
    """Lines of whole models, by the quirks that their rows list."""
    quirks = sorted({quirk for o in outcomes for quirk in o.quirks})
    return [
        ("quirk", "rows", "covered", "largest error"),
        *((quirk, *counts([o for o in outcomes if quirk in o.quirks])) for quirk in quirks),
    ]


def by_reason(outcomes: Sequence[Outcome]) -> list[Line]:
    """Lines of the rows that are not covered, by the reason."""
    reasons = [(o.kind, o.group, o.reason) for o in outcomes if o.reason is not None]
    return [
        ("kind", "of", "rows", "why"),
        *(
            (kind, of, reasons.count((kind, of, why)), why)
            for kind, of, why in sorted(set(reasons))
        ),
    ]


def disagreements(outcomes: Sequence[Outcome], most: int = 10) -> list[Line]:
    """Lines of the rows that disagree most, each with its worst quantity; `most` at most."""
    beyond = [
        o
        for o in outcomes
        if o.worst() > (PRIMITIVE_TOLERANCE if o.kind == "primitive" else MODEL_TOLERANCE)
    ]
    worst = [
        (max(o.errors, key=o.errors.__getitem__), o)
        for o in sorted(beyond, key=lambda o: (-o.headline, -o.worst()))[:most]
    ]
    header = ("row", "kind", "of", "family", "quantity", "error")
    return [
        header,
        *(
            (o.row, o.kind, o.group, o.family, quantity, shown(o.errors[quantity]))
            for quantity, o in worst
        ),
    ]


def counts(outcomes: Sequence[Outcome]) -> Line:
    """The number of rows, the number of those covered, and the largest error of those."""
    return len(outcomes), sum(o.covered for o in outcomes), shown(largest(outcomes))


def shown(error: float | None) -> str:
    """A relative error for people; "-" where there is none."""
    return "-" if error is None else f"{error:.1e}"


if __name__ == "__main__":
    main()
