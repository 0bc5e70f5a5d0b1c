"""What more of a number is worth, and the limits that follow each other, as text for people."""

from collections.abc import Sequence

from diffgenz.serving.load_metrics import EVERY_METRIC
from diffgenz.studies.optimize.improvement import Bottleneck, Worth
from diffgenz.studies.optimize.study_file import Study
from diffgenz.ui.tables import number, table


def worth_text(found: Worth, study: Study) -> str:
    """What a multiple is worth.

    Arguments:
        found: by `worth_of`.
        study: whose objective it is.
    """
    goal = "most" if study.maximise else "least"
    lines = [
        f"{goal} {study.objective}, all else adapting (with smooth batches and maxima):",
        f"  as it is: {_value(found.now, study)}, {found.plans[0]}",
        f"  {found.factor:g} x {found.name}: {_value(found.then, study)}, {found.plans[1]}",
        f"worth: {_value(found.gain, study)}, {100 * found.gain / found.now:.2f} %",
    ]
    if found.premium is not None:
        lines.append(
            f"at most {number(3600 * found.premium, 4)} USD/h may be paid for it, for each "
            "accelerator"
        )
    return "\n".join(lines)


def path_text(parts: Sequence[Bottleneck], name: str, study: Study) -> str:
    """The limits that are active along a path.

    Arguments:
        parts: by `bottlenecks`.
        name: of the number.
        study: whose objective it is.
    """
    rows = [
        [
            f"{part.low:.4g} to {part.high:.4g}",
            _value(part.value_low, study),
            "-" if part.elasticity is None else f"{part.elasticity:+.3f} %",
            part.plan,
            "; ".join(part.active) or "none",
        ]
        for part in parts
    ]
    head = [f"x {name}", study.objective, "for one percent", "plan", "active limits"]
    return table(head, rows, "lrrll")


def _value(value: float, study: Study) -> str:
    if study.objective in EVERY_METRIC:
        metric = EVERY_METRIC[study.objective]
        return f"{number(value * metric.factor, 4)} {metric.label.rsplit(' ', 1)[-1]}"
    return number(value, 4)
