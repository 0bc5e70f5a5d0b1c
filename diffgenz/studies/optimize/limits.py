"""What must hold: formulas such as "tpot <= 0.02", each as ln(left / right) <= 0."""

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from diffgenz.core.errors import InputError
from diffgenz.inference.metrics import largest, smallest
from diffgenz.serving.load_metrics import EVERY_METRIC
from diffgenz.serving.open_loop import NEAR
from diffgenz.serving.under_load import SUSTAINED
from diffgenz.studies.expressions import Expression

NEEDED, ROOM = "_needed[{}]", "_room[{}]"
"""What each part of a question needs of its memory, and has: what "fits" compares."""


class Limit(NamedTuple):
    """One limit: left <= right, both above 0.

    Arguments:
        text: as people read it.
        left, right: its sides.
        value: the number that it is compared with; None where both sides vary.
        least: whether that number is the least that is allowed, not the most.
        unit: of that number, "" where it is not known.
        weight: how much heavier than others a violation counts: 10 where no metric is compared but
            the hardware alone, whose limits are physical.
    """

    text: str
    left: Expression
    right: Expression
    value: float | None
    least: bool
    unit: str
    weight: float


def limits_of(
    texts: Sequence[str],
    quantities: Mapping[str, Expression],
    parts: int,
    unit_of: Callable[[str], str],
) -> tuple[Limit, ...]:
    """The limits that formulas say.

    A limit on a metric of which the worst part of a mix counts becomes one limit for each part,
    which has no kink where the worst changes.

    Arguments:
        texts: comparisons, several of them joined by "and", or "fits", or "sustained".
        quantities: formulas that have names.
        parts: the scenarios of the question.
        unit_of: the unit of what is called by a name, "" where it is not known.

    Raises:
        InputError: what is no such comparison.
    """
    if isinstance(texts, str):
        raise InputError(f'subject_to: {texts!r} is one text; write ["{texts}"]')
    found: list[Limit] = []
    for text in texts:
        for left, right in _sides(ast.parse(Expression(text).text, mode="eval").body, text):
            if left == right == "fits":
                found += [_fits(part, parts) for part in range(parts)]
            elif left == right == SUSTAINED:
                most = Expression(f"{NEAR} * saturation_rate")
                found.append(Limit(SUSTAINED, Expression("load.rate"), most, None, False, "", 1.0))
            else:
                for one, other in _each_part(left, right, parts):
                    found.append(_limit(one, other, quantities, unit_of))
    return tuple(found)


def _sides(node: ast.AST, text: str) -> list[tuple[str, str]]:
    """The pairs (left, right) of a condition, of which left <= right."""
    match node:
        case ast.BoolOp(op=ast.And(), values=parts):
            return [pair for part in parts for pair in _sides(part, text)]
        case ast.Name(id=("fits" | "sustained") as name):
            return [(name, name)]
        case ast.Compare(left=first, ops=ops, comparators=others) if all(
            isinstance(op, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for op in ops
        ):
            sides = [ast.unparse(side) for side in (first, *others)]
            return [
                (a, b) if isinstance(op, ast.Lt | ast.LtE) else (b, a)
                for op, a, b in zip(ops, sides, sides[1:], strict=False)
            ]
    raise InputError(
        f"subject_to: {text!r} is no limit; compare two numbers by <= or >=, such as "
        '"tpot <= 0.02", or write "fits"'
    )


def _fits(part: int, parts: int) -> Limit:
    text = "fits" if parts == 1 else f"fits[{part}]"
    needed, room = (Expression(name.format(part)) for name in (NEEDED, ROOM))
    return Limit(text, needed, room, None, False, "", 10.0)


def _each_part(left: str, right: str, parts: int) -> list[tuple[str, str]]:
    if parts > 1:
        if left in EVERY_METRIC and EVERY_METRIC[left].mix is largest and not _metrics_in(right):
            return [(f"{left}[{part}]", right) for part in range(parts)]
        if right in EVERY_METRIC and EVERY_METRIC[right].mix is smallest and not _metrics_in(left):
            return [(left, f"{right}[{part}]") for part in range(parts)]
    return [(left, right)]


def _metrics_in(text: str) -> bool:
    return bool(Expression(text).names & EVERY_METRIC.keys())


def _limit(
    left: str,
    right: str,
    quantities: Mapping[str, Expression],
    unit_of: Callable[[str], str],
) -> Limit:
    one, other = Expression(left), Expression(right)
    least = not one.names
    constant, varied = (one, other) if least else (other, one)
    if not varied.names:
        raise InputError(f'subject_to: "{left} <= {right}" has no name in it; name a number')
    value = None
    if not constant.names:
        value = float(constant(lambda name: 1.0))
        if not value > 0:
            raise InputError(
                f"subject_to: a limit of {constant.text} has no logarithm; compare with a number "
                "above 0, or move terms to the other side"
            )
    text = f"{right} >= {left}" if least else f"{left} <= {right}"
    unit = unit_of(varied.text) if value is not None else ""
    weight = 1.0 if _uses_metric([one, other], quantities) else 10.0
    return Limit(text, one, other, value, least, unit, weight)


def _uses_metric(formulas: list[Expression], quantities: Mapping[str, Expression]) -> bool:
    waiting, seen = [name for formula in formulas for name in formula.names], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in quantities:
            waiting += quantities[name].names
        elif name.split("[")[0] in EVERY_METRIC or name in EVERY_METRIC:
            return True
    return False
