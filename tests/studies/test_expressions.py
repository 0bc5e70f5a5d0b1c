"""Formulas that people write: what they come to, and what is none."""

import math

import jax.numpy as jnp
import pytest

from diffgenz import InputError
from diffgenz.studies.expressions import Expression


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2 + 3 * a ** 2 - -b / 4", 2 + 3 * 9 + 5 / 4),
        ("2 ** a ** 2", 2.0**9),
        ("max(a, b, 1) - min(a, b)", 2),
        ("sqrt(a * 12) + abs(-b) + floor(2.7) + ceil(0.1)", 6 + 5 + 2 + 1),
        ("log(exp(a))", 3),
        ("1 <= a < b", True),
        ("not a == 3 or b != 5", False),
        ("a > 2 and b >= 5 and c.d[0].e", True),
        ("c.d[0].e * x[fp8]", 70),
        ("1 / (1 - c.d[0].e)", math.inf),
    ],
)
def test_formulas(text, value):
    numbers = {"a": 3.0, "b": 5.0, "c.d[0].e": 1.0, "x[fp8]": 70.0}
    formula = Expression(text)
    assert float(formula(lambda name: jnp.float32(numbers[name]))) == pytest.approx(
        float(value), rel=1e-6
    )
    assert formula.names == {name for name in numbers if name in text}
    assert formula.conditional == isinstance(value, bool)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a +",
        "a if b else c",
        "[a]",
        "f(a)",
        "sqrt(a, b)",
        "'a'",
        "a % b",
        "lambda: 1",
        "a @ b",
        "~a",
        "min()",
    ],
)
def test_what_is_no_formula_is_refused(text):
    with pytest.raises(InputError, match=r"^expression: "):
        Expression(text)


@pytest.mark.parametrize("text", ["1 / 0", "9 ** 9 ** 9", "(-1) ** 0.5 + a"])
def test_constants_without_a_value_are_refused(text):
    with pytest.raises(InputError, match="constant part"):
        Expression(text)
