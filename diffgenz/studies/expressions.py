"""Arithmetic that people write: "idle_power + 0.1 * compute_power", "tpot <= 0.02 and fits"."""

import ast
import operator
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from diffgenz.core import xp
from diffgenz.core.errors import InputError

_BINARY: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_COMPARE: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "min": xp.minimum,
    "max": xp.maximum,
    "log": xp.log,
    "exp": xp.exp,
    "sqrt": xp.sqrt,
    "abs": abs,
    "floor": xp.floor,
    "ceil": xp.ceil,
}


class Expression:
    """A formula of named numbers.

    It may have + - * / **, comparisons, and, or, not, min, max, log, exp, sqrt, abs, floor and
    ceil. `names` are those that it uses; `conditional` says whether its form makes it true or
    false. Called with a function from names to numbers it gives its value; JAX can trace it.

    Arguments:
        text: the formula; names may have dots and brackets, as leaves have.

    Raises:
        InputError: what is not a formula of this kind, or divides a constant by zero.
    """

    def __init__(self, text: str):
        self.text = text
        self.names: frozenset[str] = frozenset()
        self._written: dict[ast.AST, str] = {}
        try:
            self._body = ast.parse(text, mode="eval").body
        except (SyntaxError, ValueError):
            examples = 'write a formula such as "1.5 * memory_bandwidth" or "tpot <= 0.02"'
            raise InputError(f"expression: {text!r} cannot be read; {examples}") from None
        found: list[str] = []

        def one(name: str) -> Any:
            found.append(name)
            return jnp.ones(())  # a JAX number: no value of it is an error

        try:
            has_value = not jnp.iscomplexobj(self(one))
        except (ArithmeticError, TypeError):
            has_value = False
        if not has_value:
            raise InputError(
                f"expression: {text!r} has a constant part without a value; correct it"
            ) from None
        self.names = frozenset(found)
        self.conditional = isinstance(self._body, ast.Compare | ast.BoolOp) or (
            isinstance(self._body, ast.UnaryOp) and isinstance(self._body.op, ast.Not)
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __call__(self, lookup: Callable[[str], Any]) -> Any:
        """The value, where `lookup` gives the number of each name."""
        with np.errstate(all="ignore"):
            return self._evaluate(self._body, lookup)

    def _evaluate(self, node: ast.AST, lookup: Callable[[str], Any]) -> Any:
        def value(part: ast.AST) -> Any:
            return self._evaluate(part, lookup)

        match node:
            case ast.Constant(value=float() | int() as constant):
                return float(constant)
            case ast.Name() | ast.Attribute() | ast.Subscript():
                if node not in self._written:
                    self._written[node] = ast.unparse(node)
                return lookup(self._written[node])
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -value(operand)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return jnp.logical_not(value(operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                return _BINARY[type(op)](value(left), value(right))
            case ast.BoolOp(op=op, values=parts):
                combine = jnp.logical_and if isinstance(op, ast.And) else jnp.logical_or
                total = value(parts[0])
                for part in parts[1:]:
                    total = combine(total, value(part))
                return total
            case ast.Compare(left=left, ops=ops, comparators=others) if all(
                type(op) in _COMPARE for op in ops
            ):
                sides = [value(left), *map(value, others)]
                total = _COMPARE[type(ops[0])](sides[0], sides[1])
                for op, a, b in zip(ops[1:], sides[1:], sides[2:], strict=False):
                    total = jnp.logical_and(total, _COMPARE[type(op)](a, b))
                return total
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if (
                name in _FUNCTIONS and arguments
            ):
                numbers = [value(argument) for argument in arguments]
                if name in ("min", "max"):
                    total = numbers[0]
                    for number in numbers[1:]:
                        total = _FUNCTIONS[name](total, number)
                    return total
                if len(numbers) == 1:
                    return _FUNCTIONS[name](numbers[0])
        known = f"numbers, names, + - * / **, comparisons, and, or, not, {', '.join(_FUNCTIONS)}"
        raise InputError(
            f"expression: {ast.unparse(node)!r} in {self.text!r} is not allowed; use {known}"
        )
