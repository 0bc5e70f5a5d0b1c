"""How people say which statistic of draws counts: "cvar(75%, cost)", "ttft <= 2 in 90% of draws".

| written | is |
|---|---|
| mean(F), worst(F), cvar(75%, F) | of an objective, or of one side of a limit |
| LIMIT in 90% of draws | the limit holds in so many draws, or more |
| F, as an objective | mean(F) |
| LIMIT | the limit holds in every draw |
"""

import ast
import re
from collections.abc import Sequence
from typing import NamedTuple

from diffgenz.core.errors import InputError
from diffgenz.studies.expressions import Expression
from diffgenz.studies.optimize.statistics import MEAN, WORST, Statistic

_KINDS = ("mean", "worst", "cvar")
_SHARE = re.compile(r"^(.*?)\s+in\s+([\d.]+)\s*%\s+of\s+draws\s*$", re.DOTALL)
_PERCENT = re.compile(r"\bcvar\(\s*([\d.]+)\s*%\s*,")
_CALL = re.compile(rf"\b({'|'.join(_KINDS)})\(|\bof\s+draws\b")
_OPERATORS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}


class DrawnLimit(NamedTuple):
    """A limit on draws.

    Arguments:
        text: the limit without its statistic.
        statistic: what of the draws must meet it.
        least: whether the statistic is of the side that must be the larger one.
        written: whether the limit says the statistic itself.
    """

    text: str
    statistic: Statistic
    least: bool
    written: bool


def speaks_of_draws(text: str) -> bool:
    """Whether a formula or limit names a statistic of draws."""
    return bool(_CALL.search(text))


def objective_on_draws(text: str) -> tuple[str, Statistic]:
    """The formula of an objective and the statistic of it that counts.

    Raises:
        InputError: a statistic that cannot be read, or one within a formula.
    """
    if not speaks_of_draws(text):
        return text, MEAN
    body = _parsed("objective", text)
    found = _statistic("objective", body)
    if found is None:
        raise _inside("objective", text)
    return _plain("objective", found[1], text), found[0]


def limits_on_draws(texts: Sequence[str]) -> list[DrawnLimit]:
    """The limits and the statistic of each.

    Raises:
        InputError: a statistic that cannot be read, or one within a formula.
    """
    if isinstance(texts, str):
        raise InputError(f'subject_to: {texts!r} is one text; write ["{texts}"]')
    found: list[DrawnLimit] = []
    for text in texts:
        share = _SHARE.match(text)
        if share is not None:
            plain, level = share[1], _level("subject_to", share[2], text, most=True)
            if speaks_of_draws(plain):
                raise InputError(
                    f"subject_to: {text!r} has two statistics; a share of draws is of a limit such "
                    'as "ttft <= 2 in 90% of draws"'
                )
            if isinstance(_parsed("subject_to", plain), ast.BoolOp):
                raise InputError(
                    f"subject_to: {text!r} joins several limits; write each with its own share"
                )
            found.append(DrawnLimit(plain, Statistic("share", level), False, True))
        elif speaks_of_draws(text):
            found += _compared(_parsed("subject_to", text), text)
        else:
            found.append(DrawnLimit(text, WORST, False, False))
    return found


def _compared(node: ast.expr, text: str) -> list[DrawnLimit]:
    """The limits of a comparison whose sides may be statistics."""
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        return [limit for part in node.values for limit in _compared(part, text)]
    if not isinstance(node, ast.Compare):
        plain = ast.unparse(node)
        if speaks_of_draws(plain):
            raise _inside("subject_to", text)
        return [DrawnLimit(plain, WORST, False, False)]
    found = []
    sides = [node.left, *node.comparators]
    for op, left, right in zip(node.ops, sides, sides[1:], strict=False):
        if type(op) not in _OPERATORS:
            raise InputError(f"subject_to: {text!r} is no limit; compare by <= or >=")
        statistics = [_statistic("subject_to", side) for side in (left, right)]
        if None not in statistics:
            raise InputError(
                f"subject_to: {text!r} has a statistic on both sides; compare one with a number"
            )
        pair = [
            _plain("subject_to", side if statistic is None else statistic[1], text)
            for side, statistic in zip((left, right), statistics, strict=True)
        ]
        plain = f"{pair[0]} {_OPERATORS[type(op)]} {pair[1]}"
        upward = isinstance(op, ast.Lt | ast.LtE)
        larger = statistics[1] if upward else statistics[0]
        written = next((each for each in statistics if each is not None), None)
        statistic = WORST if written is None else written[0]
        found.append(DrawnLimit(plain, statistic, larger is not None, written is not None))
    return found


def _parsed(field: str, text: str) -> ast.expr:
    plain = _PERCENT.sub(lambda match: f"cvar({match[1]} / 100,", text)
    try:
        return ast.parse(plain.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise InputError(
            f'{field}: {text!r} cannot be read; write "mean(F)", "worst(F)" or "cvar(75%, F)" of a '
            'formula F, or a limit such as "ttft <= 2 in 90% of draws"'
        ) from None


def _statistic(field: str, node: ast.expr) -> tuple[Statistic, ast.expr] | None:
    """The statistic that a side is, and of what; None where it is none."""
    match node:
        case ast.Call(func=ast.Name(id="mean" | "worst" as kind), args=[inner], keywords=[]):
            return Statistic(kind), inner
        case ast.Call(func=ast.Name(id="cvar"), args=[level, inner], keywords=[]):
            text = ast.unparse(level)
            if Expression(text).names:
                raise InputError(f"{field}: {ast.unparse(node)!r}: {text} is no share; write 75%")
            share = float(Expression(text)(lambda name: 1.0))
            return Statistic("cvar", _level(field, 100 * share, ast.unparse(node))), inner
        case ast.Call(func=ast.Name(id="mean" | "worst" | "cvar" as kind)):
            example = "cvar(75%, tpot)" if kind == "cvar" else f"{kind}(tpot)"
            raise InputError(f"{field}: {ast.unparse(node)!r} cannot be read; write {example}")
    return None


def _level(field: str, percent: str | float, text: str, *, most: bool = False) -> float:
    """A share, from percent."""
    try:
        level = float(percent) / 100
    except ValueError:
        level = -1.0
    if not (0 < level <= 1 if most else 0 <= level < 1):
        end = "above 0 % and at most 100 %" if most else "at least 0 % and below 100 %"
        raise InputError(f"{field}: {text!r}: {percent} % is not allowed; it must be {end}")
    return level


def _plain(field: str, node: ast.expr, text: str) -> str:
    plain = ast.unparse(node)
    if speaks_of_draws(plain):
        raise _inside(field, text)
    return plain


def _inside(field: str, text: str) -> InputError:
    return InputError(
        f"{field}: {text!r} has a statistic within a formula; write it around a whole side, such "
        'as "mean(tpot) <= 0.02" or "cvar(75%, throughput / power)"'
    )
