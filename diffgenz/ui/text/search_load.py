"""What a search under load found, as text for people and as rows of JSON and CSV files."""

from collections.abc import Sequence
from typing import Any

from diffgenz.studies.search.under_load import LoadSearch, ServedDeployment
from diffgenz.ui.tables import number, table
from diffgenz.ui.text.scenario import kernel_lines, kernels_word
from diffgenz.ui.text.search import FORMATS, SHOWN_RANKS

_OF = {"mean": "mean", "p50": "P50", "p90": "P90", "p99": "P99"}


def load_row(each: ServedDeployment) -> dict[str, Any]:
    """A deployment as one flat row in SI: ranks, formats, chunk and the figures of `serve`."""
    case = each.scenario
    formats = case.precision.names
    chunk = case.serving.chunk
    ranks = {name: _rank(each, name) for name in SHOWN_RANKS}
    return {
        **ranks,
        **{name: formats[name] for name in FORMATS},
        "chunk": None if chunk is None else int(chunk),
        **{name: value.item() for name, value in each.result.to_dict().items()},
        "kernels": kernels_word(each.kernels, case.precision.linear_format),
    }


def search_load_text(
    found: LoadSearch, best: Sequence[ServedDeployment], asked: str, of: str
) -> str:
    """What timed the kernels, the counts, and the best deployments.

    Arguments:
        found: by the search.
        best: of its deployments.
        asked: the load and the objectives, for people.
        of: which statistic of latencies has its column.
    """
    kernels: dict[str, dict[str, str]] = {}
    for each in best:
        kernels.setdefault(each.scenario.precision.linear_format, {}).update(each.kernels)
    counts = (
        f"{found.tried:,} deployments tried, {found.sustaining:,} sustain the load, "
        f"{len(found.deployments) + len(found.apart):,} with {asked}"
    )
    lines = [*kernel_lines(kernels), counts]
    lines += [f"left out: {count:,}: {why}" for why, count in found.refused.items()]
    lines += ["", _rows(best, of)]
    if found.apart:
        firsts = {each.scenario.precision.summary: each for each in found.apart[::-1]}
        lines += [
            "",
            "Not ranked with these, since the roofline times what is measured in other formats; "
            "the best of each format:",
            "",
            _rows(list(firsts.values())[::-1], of),
        ]
    return "\n".join(lines)


def _rank(each: ServedDeployment, name: str) -> int:
    ranks = getattr(each.scenario.plan, name)
    return 1 if ranks is None else int(ranks)


def _rows(found: Sequence[ServedDeployment], of: str) -> str:
    """A table of deployments, numbered from 1."""
    rows = []
    for row, each in enumerate(found, 1):
        r, values = each.result, load_row(each)
        rows.append(
            (
                str(row),
                "" if r.goodput is None else number(float(r.goodput)),
                number(float(r.requests_per_second)),
                number(float(r.throughput / each.scenario.plan.ranks)),
                *(number(1e3 * float(getattr(x, of))) for x in (r.ttft, r.tpot, r.end_to_end)),
                number(float(r.saturation_rate)),
                f"{100 * float(r.cache_use):.0f} %",
                *(str(values[name]) for name in (*SHOWN_RANKS, *FORMATS, "chunk")),
                values["kernels"],
            )
        )
    header = (
        "row",
        "goodput",
        "req/s",
        "tok/s/GPU",
        *(f"{_OF[of]} {name} ms" for name in ("TTFT", "TPOT", "E2E")),
        "at most req/s",
        "cache",
        *SHOWN_RANKS.values(),
        *FORMATS.values(),
        "chunk",
        "kernels",
    )
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    cells = [[row[i] for i in kept] for row in rows]
    return table([header[i] for i in kept], cells, "r" * (len(kept) - 1) + "l")
