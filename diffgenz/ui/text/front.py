"""A front between objectives as text for people."""

from diffgenz.core.units import show
from diffgenz.serving.load_metrics import EVERY_METRIC
from diffgenz.studies.optimize.front import Front
from diffgenz.ui.tables import number, table

_ROWS = 24
"""Points of the table, at most."""


def front_text(found: Front) -> str:
    """The points of a front, the best of the first objective first.

    Arguments:
        found: by `front`.
    """
    goals = ", ".join(
        f"{'most' if more else 'least'} {name}"
        for name, more in zip(found.objectives, found.more, strict=True)
    )
    count = len(found.points)
    lines = [
        f"{goals}: {count} points that no other beats (with smooth batches and maxima), of "
        f"{found.lanes} optimizations",
        f"hypervolume {number(found.hypervolume, 5)} in natural logarithms, up to "
        + ", ".join(_shown(found, k, value) for k, value in enumerate(found.reference)),
        "",
    ]
    names = list(found.points[0].numbers)
    places = sorted({round(k * (count - 1) / max(_ROWS - 1, 1)) for k in range(_ROWS)})
    rows = [
        [
            *(_shown(found, k, value) for k, value in enumerate(point.values)),
            point.plan,
            *(_number(point.numbers[name], found.number_units[name]) for name in names),
        ]
        for point in (found.points[place] for place in places if place < count)
    ]
    head = [*found.objectives, "plan", *names]
    aligned = "r" * len(found.objectives) + "l" + "r" * len(names)
    lines.append(table(head, rows, aligned))
    if count > len(rows):
        lines.append(f"{count - len(rows)} points between them are in --out")
    return "\n".join(lines)


def _number(value: float, unit: str) -> str:
    return number(value, 4) if unit in ("", "1") else show(value, unit, 4)


def _shown(found: Front, place: int, value: float) -> str:
    """An objective with its unit."""
    name = found.objectives[place]
    if name in EVERY_METRIC:
        metric = EVERY_METRIC[name]
        return f"{number(value * metric.factor, 4)} {metric.label.rsplit(' ', 1)[-1]}"
    unit = found.units[place]
    return f"{number(value, 4)} {unit if unit not in ('', '1') else ''}".rstrip()
