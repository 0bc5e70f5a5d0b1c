"""What a search found, as text for people and as rows of JSON and CSV files."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from diffgenz.inference.breakdown import Breakdown
from diffgenz.inference.metrics import METRICS
from diffgenz.scenario.words import WORDS
from diffgenz.studies.search.deployment import RANKS, Deployment
from diffgenz.studies.search.search import Search, knee
from diffgenz.ui.labels import SCALARS
from diffgenz.ui.tables import number, table
from diffgenz.ui.text.scenario import kernel_lines, kernels_word

_WORDS = {word.number: word.name for word in WORDS.values()} | {"attention_data": "adp"}
SHOWN_RANKS = {name: _WORDS[name] for name in RANKS}
"""What people call the ranks of a plan."""

_SPEEDS = (
    "tokens_per_second_per_accelerator",
    "tokens_per_second_per_user",
    "ttft",
    "tpot",
)
_PRICE = "cost_per_million_output_tokens"
FORMATS = {"weights": "weights", "activations": "act.", "kv_cache": "KV"}
"""What people call the formats of a deployment, in headers."""


def deployment_row(deployment: Deployment) -> dict[str, Any]:
    """A deployment as one flat row in SI, as `--json` and `--out` have it."""
    d = deployment.as_dict()
    return {
        **{name: d[name] for name in (*SHOWN_RANKS, "batch", *FORMATS, "chunk", *SCALARS)},
        "memory": d["memory.total"],
        "kernels": kernels_word(deployment.kernels, deployment.precision.linear_format),
    }


def rows_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as the lines of a CSV file."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows(row.values() for row in rows)
    return lines.getvalue()


def search_text(
    found: Search, best: Sequence[Deployment], targets: str, chunked: bool, bound: str = ""
) -> str:
    """What timed the kernels, the counts, the best layouts, and the Pareto front.

    Arguments:
        found: by the search.
        best: of its layouts.
        targets: what was asked of times, for people; "" for nothing.
        chunked: whether chunk sizes, and iterations that carry them, are shown.
        bound: what bounds the best one (`bound_text`); "" for nothing to say.
    """
    meeting = f", {len(found.deployments) + len(found.apart):,} with {targets}" if targets else ""
    counts = f"{found.tried:,} deployments tried, {found.fitting:,} fit{meeting}"
    front = found.pareto()
    text = [*kernel_lines(found.kernels), counts, *([bound] if bound else []), ""]
    text += [_rows(best, chunked), "", "Pareto front:", "", _front(front, chunked)]
    if found.apart:
        firsts = {deployment.precision.summary: deployment for deployment in found.apart[::-1]}
        text += [
            "",
            "Not ranked with these, since the roofline times what is measured in other formats; "
            "the best of each format:",
            "",
            _rows(list(firsts.values())[::-1], chunked),
        ]
    return "\n".join(text)


def bound_text(best: Deployment, where: Breakdown, next_batch: str) -> str:
    """Why the best is best: what takes most of its times, and what a larger batch would do.

    Arguments:
        best: the deployment.
        where: its breakdown.
        next_batch: what becomes of it at the next larger batch; "" where none was tried.
    """
    parts = []
    for phase in ("ttft", "tpot"):
        seconds = where.by_resource(phase)
        resource = where.bound_by(phase)
        share = 100 * seconds[resource] / sum(seconds.values())
        parts.append(f"{phase.upper()} is bound by {resource} ({share:.0f} %)")
    return f"row 1: {', '.join(parts)}" + (f"; {next_batch}" if next_batch else "")


def _rows(deployments: Sequence[Deployment], chunked: bool) -> str:
    """A table of deployments, numbered from 1."""
    ranked = [(str(row), *_cells(d, chunked)) for row, d in enumerate(deployments, 1)]
    header = ("row", *_header(chunked))
    return table(header, ranked, _align(header))


def targets_text(ttft: float | None, tpot: float | None, mixed: bool) -> str:
    """What was asked of times, for people; in ms, "" for nothing.

    Arguments:
        ttft: ms until the first token, at most.
        tpot: ms between tokens, at most.
        mixed: whether iterations carry chunks of prompts.
    """
    asked = {"TTFT": ttft, "TPOT": tpot}
    text = " and ".join(f"{name} <= {ms:g} ms" for name, ms in asked.items() if ms is not None)
    if tpot is not None and mixed:
        text += " (while each iteration carries a chunk, where there are chunks)"
    return text


def _header(chunked: bool) -> tuple[str, ...]:
    chunks = ("chunk", METRICS["mixed_tpot"].label) if chunked else ()
    return (
        *(METRICS[name].label for name in _SPEEDS),
        "batch",
        "GB",
        METRICS[_PRICE].label,
        *SHOWN_RANKS.values(),
        *FORMATS.values(),
        *chunks,
        "kernels",
    )


def _align(header: Sequence[str]) -> str:
    """Numbers and formats to the right, and what times the kernels, which is text, to the left."""
    return "r" * (len(header) - 1) + "l"


def _cells(deployment: Deployment, chunked: bool) -> tuple[str, ...]:
    d = deployment.as_dict()
    chunks = ()
    if chunked:
        mixed = "" if d["mixed_tpot"] is None else _shown(deployment, "mixed_tpot")
        chunks = ("whole" if deployment.chunk is None else str(deployment.chunk), mixed)
    return (
        *(_shown(deployment, name) for name in _SPEEDS),
        str(deployment.batch),
        f"{d['memory.total'] * METRICS['memory.total'].factor:.1f}",
        _shown(deployment, _PRICE),
        *(str(d[name]) for name in (*SHOWN_RANKS, *FORMATS)),
        *chunks,
        kernels_word(deployment.kernels, deployment.precision.linear_format),
    )


def _shown(deployment: Deployment, name: str) -> str:
    """A metric in the units of people."""
    value = deployment.metrics[name]
    return number(None if value is None else value * METRICS[name].factor)


def _front(front: Sequence[Deployment], chunked: bool) -> str:
    speed = "tokens_per_second_per_accelerator"
    speeds = [d.metrics[speed] or 0.0 for d in front]
    header, most, bend = _header(chunked), max(speeds), knee(front)
    bars = [
        (each / most, "knee" if d is bend else "") for d, each in zip(front, speeds, strict=True)
    ]
    rows = [_cells(d, chunked) for d in front]
    return table(header, rows, _align(header), keys=2, bars=bars)
