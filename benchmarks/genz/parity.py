"""Golden rows -> outcomes, which compare our numbers with GenZ's; all rows run together."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from genz.evaluation import measure, run
from genz.layers import Shape
from genz.subject import NotCovered, Pairs, Result, Row, Subject
from genz.subjects import subject_of

HEADLINE = ("latency", "throughput", "weights", "kv", "fits", "expected_tokens")
"""The quantities that a whole-model row must match.

The rest of its summary is compared, too, and reported in a column of its own.
"""


class Outcome(NamedTuple):
    """The result of comparing a row with GenZ.

    Arguments:
        row: its id.
        kind: of golden.
        group: the primitive, combination, search or phase.
        family: of the model; "" where there is none.
        status: ok, does_not_fit or error, as GenZ says.
        quirks: as the row lists them.
        errors: relative, by quantity; empty where the row is not covered.
        reason: why the row is not covered; None where it is.
    """

    row: str
    kind: str
    group: str
    family: str
    status: str
    quirks: tuple[str, ...]
    errors: dict[str, float]
    reason: str | None = None

    @property
    def covered(self) -> bool:
        """Whether the row was compared with GenZ."""
        return self.reason is None

    def worst(self, quantities: Iterable[str] | None = None) -> float:
        """The largest of its relative errors, or of those of `quantities` where they are given."""
        asked = self.errors if quantities is None else quantities
        return max((self.errors[name] for name in asked if name in self.errors), default=0.0)

    @property
    def headline(self) -> float:
        """The largest relative error that counts.

        In a whole-model row that is of the headline quantities, in other rows of all quantities.
        """
        return self.worst(HEADLINE if self.kind == "estimate" else None)


class Malformed(Exception):
    """A file that holds no golden rows."""


def read_rows(path: Path) -> list[Row]:
    """The rows of a file of JSON lines.

    Raises:
        Malformed: it cannot be read, or a line is not an object.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Malformed(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise Malformed(f"{path}:{number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise Malformed(f"{path}:{number}: {type(row).__name__} where an object is expected")
        rows.append(row)
    if not rows:
        raise Malformed(f"{path}: no rows")
    return rows


def relative_error(ours: Any, theirs: Any) -> float:
    """The relative error |ours - theirs| / |theirs|.

    GenZ's None is NaN, which NaN matches; a mismatch of zero, NaN or infinity counts as 1.
    """
    ours, theirs = float(ours), math.nan if theirs is None else float(theirs)
    if ours == theirs or (math.isnan(ours) and math.isnan(theirs)):
        return 0.0
    error = abs(ours - theirs) / abs(theirs) if theirs else math.inf
    return error if math.isfinite(error) else 1.0


def compare(rows: Sequence[Row]) -> list[Outcome]:
    """The outcome of every row; none is left out.

    Rows on which GenZ crashed are not covered, nor are rows that GENZ.md does not describe.
    """
    subjects: list[Subject | str] = []
    for row in rows:
        try:
            subjects.append(_subject(row))
        except NotCovered as reason:
            subjects.append(str(reason))
    known = [subject for subject in subjects if isinstance(subject, Subject)]
    graphs = [graph for subject in known for graph in subject.graphs]
    measured = measure(graphs)
    placements, start = [], 0
    for subject in known:
        placements += subject.place(measured.footprints[start : start + len(subject.graphs)])
        start += len(subject.graphs)
    timings = run(measured, [placement.bandwidth for placement in placements])
    results = map(Result, measured.footprints, placements, timings)
    return [
        _outcome(row, subject, [next(results) for _ in getattr(subject, "graphs", ())])
        for row, subject in zip(rows, subjects, strict=True)
    ]


def _subject(row: Row) -> Subject:
    out = row.get("out")
    if isinstance(out, dict) and out.get("status") == "error":
        raise NotCovered(f"GenZ crashed: {str(out.get('error', '')).partition(':')[0]}")
    return subject_of(row)


def _outcome(row: Row, subject: Subject | str, results: Sequence[Result]) -> Outcome:
    outcome = _labelled(row)
    if isinstance(subject, str):
        return outcome._replace(reason=subject)
    try:
        pairs: Pairs = subject.compare(results)
        return outcome._replace(
            errors={name: relative_error(*pair) for name, pair in pairs.items()}
        )
    except (KeyError, TypeError, ValueError, IndexError, ArithmeticError, AttributeError) as error:
        return outcome._replace(reason=f"{type(error).__name__}: {error}")


def _labelled(row: Row) -> Outcome:
    kind = str(row.get("kind", "estimate"))
    keys = {
        "primitive": "op_type",
        "op_in_model": "combo",
        "search": "what",
        "estimate": "phase",
    }
    out, quirks = row.get("out"), row.get("quirks", ())
    try:
        family = Shape.of(row["model"]).family if "model" in row else ""
    except (KeyError, TypeError):
        family = "?"
    name = row.get("id") or row.get("combo") or f"{row.get('what')} of {row.get('total_nodes')}"
    return Outcome(
        row=str(name),
        kind=kind,
        group=str(row.get(keys.get(kind, ""), "?")),
        family=family,
        status=str(out.get("status", "ok")) if isinstance(out, dict) else "ok",
        quirks=tuple(map(str, quirks)) if isinstance(quirks, list) else (),
        errors={},
    )
