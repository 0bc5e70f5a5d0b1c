"""What more of a number is worth, and the limits that follow each other, as text for people."""

from collections.abc import Sequence

from diffgenz.serving.load_metrics import EVERY_METRIC
from diffgenz.studies.optimize.bottlenecks import Bottleneck
from diffgenz.studies.optimize.study_file import Study
from diffgenz.studies.optimize.what_if import Prediction
from diffgenz.studies.optimize.worth import Worth
from diffgenz.technology.build import QUANTITIES
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
    factor, unit = _unit(study)
    rows = []
    for row in found.rows:
        solved, off = "-", "-"
        if row.solved is not None:
            solved = number(row.solved * factor, 4)
            off = f"{100 * (row.predicted / row.solved - 1):+.2f}"
        broken = ", ".join(f"{name} by {100 * (by - 1):.3g} %" for name, by in row.broken)
        told = number(row.predicted * factor, 4)
        kept = number(row.kept * factor, 4)
        rows.append([f"{row.factor:g}", told, solved, off, row.plan, kept, broken or "none"])
    head = ["x", "by elasticity", "solved again", "off, %", "plan", "as it is", "and then breaks"]
    said = f"; below in {unit}" if unit else ""
    return "\n".join(
        (
            f"{goal} {study.objective}: {_value(found.now, study)}, {found.plan} (with smooth "
            "batches and maxima)",
            f"one percent more of {found.name}: {found.elasticity:+.3f} %; x times as much of it",
            f"gives, by that elasticity, all solved again, and with the design as it is{said}:",
            "",
            table(head, rows, "rrrrlrl"),
        )
    )


def _value(value: float, study: Study) -> str:
    factor, unit = _unit(study)
    return f"{number(value * factor, 4)} {unit}".rstrip()


def _unit(study: Study) -> tuple[float, str]:
    """The factor from SI to the unit in which people see the objective, and that unit."""
    if study.objective in EVERY_METRIC:
        metric = EVERY_METRIC[study.objective]
        return metric.factor, metric.label.rsplit(" ", 1)[-1]
    unit = "" if study.objective in study.quantities else QUANTITIES.get(study.objective, "")
    return 1.0, unit if unit != "1" else ""
