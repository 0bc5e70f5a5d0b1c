"""What more of a number is worth, and the limits that follow each other, as text for people."""

from collections.abc import Sequence

from diffgenz.inference.metrics import METRICS
from diffgenz.studies.optimize.bottlenecks import Bottleneck
from diffgenz.studies.optimize.study_file import Study
from diffgenz.studies.optimize.what_if import Prediction
from diffgenz.studies.optimize.worth import Worth
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


def what_if_text(found: Prediction, study: Study) -> str:
    """What an elasticity says of other values of a number, and what is true.

    Arguments:
        found: by `what_if`.
        study: whose objective it is.
    """
    goal = "most" if study.maximise else "least"
    rows = []
    for row in found.rows:
        solved, off = "-", "-"
        if row.solved is not None:
            solved = _value(row.solved, study)
            off = f"{100 * (row.predicted / row.solved - 1):+.2f}"
        broken = ", ".join(f"{name} by {100 * (by - 1):.3g} %" for name, by in row.broken)
        cells = [f"{row.factor:g}", _value(row.predicted, study), solved, off, row.plan]
        rows.append([*cells, _value(row.kept, study), broken or "none"])
    head = [f"x {found.name}", "by elasticity", "solved again", "off, %", "plan"]
    head += ["design kept", "limits it breaks"]
    return (
        f"{goal} {study.objective}: {_value(found.now, study)}, {found.plan} (with smooth batches "
        f"and maxima)\none percent more of {found.name}: {found.elasticity:+.3f} %\n\n"
        + table(head, rows, "lrrrlrl")
    )


def _value(value: float, study: Study) -> str:
    if study.objective in METRICS:
        metric = METRICS[study.objective]
        return f"{number(value * metric.factor, 4)} {metric.label.rsplit(' ', 1)[-1]}"
    return number(value, 4)
