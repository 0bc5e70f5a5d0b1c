"""Numbers that carry their slopes: formulas in NumPy give both at once.

A dual number is a value and its slopes along some directions; every operation follows the chain
rule (forward derivatives; Griewank and Walther, Evaluating Derivatives, 2008, chapter 3). Formulas
that people write are short, and evaluated for many points at a time: this takes a third of the time
of differences along each direction, compiles nothing, and is exact.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from diffgenz.studies.optimize.quadratic import Numbers


def _of_larger(a: Any, b: Any) -> Any:
    """The slope of a maximum to its first number: half of it where both are equal."""
    return (np.sign(np.subtract(a, b)) + 1) / 2


_RULES: dict[np.ufunc, tuple[Callable[..., Any], ...]] = {
    np.add: (lambda value, a, b: 1.0, lambda value, a, b: 1.0),
    np.subtract: (lambda value, a, b: 1.0, lambda value, a, b: -1.0),
    np.multiply: (lambda value, a, b: b, lambda value, a, b: a),
    np.true_divide: (lambda value, a, b: 1 / b, lambda value, a, b: -value / b),
    np.power: (
        lambda value, a, b: b * np.power(a, b - 1),
        lambda value, a, b: value * np.log(a),
    ),
    np.negative: (lambda value, a: -1.0,),
    np.log: (lambda value, a: 1 / a,),
    np.exp: (lambda value, a: value,),
    np.sqrt: (lambda value, a: 0.5 / value,),
    np.absolute: (lambda value, a: np.sign(a),),
    np.maximum: (lambda value, a, b: _of_larger(a, b), lambda value, a, b: _of_larger(b, a)),
    np.minimum: (lambda value, a, b: _of_larger(b, a), lambda value, a, b: _of_larger(a, b)),
    np.floor: (lambda value, a: 0.0,),
    np.ceil: (lambda value, a: 0.0,),
}
"""The partial derivatives of an operation, of its value and arguments."""


class Dual(NDArrayOperatorsMixin):
    """A number at many points, and its slopes.

    Arguments:
        value: of shape (points,).
        slopes: of shape (directions, points), or what broadcasts to it.
    """

    def __init__(self, value: Numbers, slopes: Numbers):
        self.value, self.slopes = value, slopes

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """What NumPy calls for operations on it; comparisons answer without slopes."""
        if method != "__call__" or options:
            return NotImplemented
        values = [x.value if isinstance(x, Dual) else x for x in inputs]
        value = ufunc(*values)
        rules = _RULES.get(ufunc)
        if rules is None:
            return value if value.dtype == bool else NotImplemented
        slopes: Any = None
        for x, rule in zip(inputs, rules, strict=True):
            if isinstance(x, Dual):
                own = rule(value, *values) * x.slopes
                slopes = own if slopes is None else slopes + own
        return Dual(value, slopes)
