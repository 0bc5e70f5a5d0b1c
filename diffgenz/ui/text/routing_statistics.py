"""Statistics of traces, for people: tables of at most 80 columns."""

import textwrap
from collections.abc import Iterator

import numpy as np

from diffgenz.routing.statistics.measured import Measured
from diffgenz.routing.statistics.statistics import RoutingStatistics
from diffgenz.ui.tables import number, table

MOST_PAIRS = 10
"""Pairs of domains that are shown, at most: the most unlike."""


def statistics_text(found: RoutingStatistics, layers: bool = False) -> str:
    """The statistics as tables.

    Arguments:
        found: the statistics.
        layers: whether every layer is shown, too.
    """
    header = ("statistic", "mean", "95 %", "null", "layers")
    parts = [_what(found), table(header, [*_rows(found)], "l")]
    if found.batches:
        header = ("batch of tokens", "max/mean", "null", "Gini", "null", "active", "null")
        parts.append(table(header, [*_batches(found)], "l"))
    if found.similarity:
        parts.append(_domains(found))
    if layers:
        parts.append(_layers(found))
    parts.append(_notes(found))
    return "\n\n".join(parts)


def _what(found: RoutingStatistics) -> str:
    """What the trace is of."""
    chosen = "" if found.k is None else f"top-{found.k} of "
    lines = [
        f"{found.model or 'model not known'}: {chosen}{found.experts} experts, "
        f"{len(found.layers)} layers ({found.layers[0]} to {found.layers[-1]})"
    ]
    tokens = [f"{count:,} {phase}" for phase, count in found.tokens.items() if count is not None]
    tokens = [each.replace(" all", "") for each in tokens]
    line = f"{' and '.join(tokens)} tokens" if tokens else "choices counted, tokens not known"
    if found.requests is not None:
        line += f" of {found.requests:,} request{'s' if found.requests > 1 else ''}"
    lines.append(line)
    if found.domains:
        lines += textwrap.wrap(f"domains: {', '.join(found.domains)}", 80)
    return "\n".join(lines)


def _rows(found: RoutingStatistics) -> Iterator[tuple[str, ...]]:
    """The rows of the table."""
    for phase, load in found.load.items():
        for name, each in load.items():
            yield _row(f"load{'' if phase == 'all' else f', {phase}'}: {name}", each)
    if "pooled" in found.phases:
        yield _row("prefill/decode, pooled", found.phases["pooled"])
    if "request" in found.phases:
        yield _row("prefill/decode, by request", found.phases["request"])
    if "within" in found.coactivation:
        yield _row("lift of pairs, same layer", found.coactivation["within"])
    if "next" in found.coactivation:
        yield _row("lift of pairs, next layer", found.coactivation["next"])
    if found.windows:
        yield _row("windows of time: max/mean", found.windows["max/mean"])
        yield _row("successive windows: cosine", found.windows["successive"])
        yield _row("first/last window: cosine", found.windows["ends"])


def _row(name: str, each: Measured) -> tuple[str, ...]:
    """A row: mean over layers, its interval, its null, and the least and most of any layer."""
    low, high = _ends(each.value)
    return (
        name,
        _short(each.mean),
        _range(each.mean_low, each.mean_high),
        _short(each.mean_null),
        _range(low, high),
    )


def _batches(found: RoutingStatistics) -> Iterator[tuple[str, ...]]:
    """Rows of batches."""
    for size, measures in found.batches.items():
        shown = [measures[name] for name in ("max/mean", "Gini", "active")]
        yield (f"{size:,}", *(_short(v) for each in shown for v in (each.mean, each.mean_null)))


def _domains(found: RoutingStatistics) -> str:
    """Pairs of domains, the most unlike first."""
    pairs = sorted(found.similarity.items(), key=lambda item: item[1]["cosine"].mean)
    rows = []
    for (one, two), each in pairs[:MOST_PAIRS]:
        cosine, divergence = each["cosine"], each["JS"]
        rows.append(
            (
                _cut(f"{one} - {two}", 28),
                _short(cosine.mean),
                _range(cosine.mean_low, cosine.mean_high),
                _short(cosine.mean_null),
                _short(divergence.mean),
                _short(divergence.mean_null),
            )
        )
    text = table(("domains", "cosine", "95 %", "null", "JS", "null"), rows, "l")
    more = len(pairs) - MOST_PAIRS
    return text if more <= 0 else f"{text}\n{more} more pairs are more alike (--json has all)"


def _layers(found: RoutingStatistics) -> str:
    """A row for each layer."""
    phase, load = list(found.load.items())[-1]
    columns: list[tuple[str, np.ndarray]] = [
        (name, load[name].value) for name in ("max/mean", "Gini", "entropy")
    ]
    if "pooled" in found.phases:
        columns.append(("pre/dec", found.phases["pooled"].value))
    if "within" in found.coactivation:
        columns.append(("lift", found.coactivation["within"].value))
    if "next" in found.coactivation:
        columns.append(("lift next", np.append(found.coactivation["next"].value, np.nan)))
    counts = found.counts[phase]
    hottest = counts.argmax(axis=1)
    rows = [
        (
            str(layer),
            *(_short(values[i]) for _, values in columns),
            str(hottest[i]),
            f"{counts[i].max() / max(counts[i].sum(), 1):.1%}",
        )
        for i, layer in enumerate(found.layers)
    ]
    header = ("layer", *(name for name, _ in columns), "hottest", "share")
    return f"{phase}\n{table(header, rows)}" if phase != "all" else table(header, rows)


def _notes(found: RoutingStatistics) -> str:
    """What the numbers mean."""
    lines = [
        "mean: over layers; 95 %: of that mean, with requests drawn again; null: without",
        "that structure; layers: least and most of any layer (docs/routing.md).",
    ]
    if found.lengths is not None:
        prompt, made = (number(value) for value in found.lengths)
        lines.append(
            f"by request: grows with length; on average {prompt} prefill, {made} decode tokens."
        )
    if found.sampled:
        lines.append(f"batches and lifts: from a sample of {found.sampled:,} tokens.")
    return "\n".join(lines)


def _short(value: float) -> str:
    """A number of three figures; "-" for none."""
    if not np.isfinite(value):
        return "-"
    return f"{value:.3f}" if abs(value) < 10 else number(float(value))


def _range(low: float, high: float) -> str:
    """Two numbers."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return "-"
    return f"{_short(low)} to {_short(high)}"


def _ends(values: np.ndarray) -> tuple[float, float]:
    """The least and the greatest number."""
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if len(known) else (np.nan, np.nan)


def _cut(text: str, width: int) -> str:
    """At most so many characters."""
    return text if len(text) <= width else f"{text[: width - 3]}..."
