"""The names in formulas of an optimization, each of which must mean something."""

from collections.abc import Collection, Sequence

from diffgenz.core.errors import InputError, unknown
from diffgenz.core.leaves import called, leaf_names
from diffgenz.scenario.mix import Question, paths_named
from diffgenz.serving.load_metrics import EVERY_METRIC
from diffgenz.serving.under_load import demand_sensible
from diffgenz.studies.expressions import Expression
from diffgenz.studies.optimize.variables import Variable, full_names
from diffgenz.technology.build import QUANTITIES


def check_names(
    question: Question,
    formulas: Sequence[tuple[str, Expression]],
    quantities: Collection[str],
    metrics: Collection[str],
    variables: Sequence[Variable],
) -> None:
    """Raise `InputError` for a name that means nothing.

    Arguments:
        question: whose numbers formulas may name.
        formulas: each with the field in which it is written.
        quantities: names of formulas.
        metrics: names of what is estimated.
        variables: what is free, for what the message offers.
    """
    for field, formula in formulas:
        for name in formula.names:
            if name in quantities:
                continue
            demand_sensible(question, name, field)
            if name in metrics:
                continue
            if name in EVERY_METRIC:
                raise InputError(f"{field}: {name} needs {EVERY_METRIC[name].needs}")
            if not any(called(full, name) for full in leaf_names(question)):
                leaves = [full for variable in variables for full in full_names(variable)]
                known = [key for key in metrics if not key.startswith("_")]
                raise unknown(field, name, {*known, *QUANTITIES, *quantities, *leaves})
            paths_named(question, name)  # which of several it is must be clear
