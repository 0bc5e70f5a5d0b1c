"""The modules of the blocks against the operators of the blocks, for every shipped model."""

from collections import Counter

import pytest

from diffgenz import load_model
from diffgenz.models.checkpoints.modules import modules_of
from diffgenz.models.files import list_models
from diffgenz.operators.operator import Kind
from diffgenz.operators.precision import Precision
from diffgenz.operators.step import Step


def operated(model, decoding: bool) -> Counter:
    """Parameters of each row that is multiplied in the formats of linear layers."""
    step = Step(1.0, 1.0, 0.0, 1.0, Precision(weights="fp8"), decoding=decoding)
    rows = Counter()
    for op in model.layer_operators(step):
        if op.kind is Kind.LINEAR:
            rows[op.name] += float(op.parameters * op.repeats)
    return rows


@pytest.mark.parametrize("name", list_models())
def test_modules_are_the_weights_of_the_operators(name):
    model = load_model(name)
    placed = [each for each in modules_of(model) if each.module.kind != "head"]
    for decoding in (False, True):
        rows, unused = operated(model, decoding), "expand" if decoding else "absorb"
        found = Counter()
        for each in placed:
            (row,) = set(each.module.rows) - {unused}
            found[row] += each.parameters
        assert found.keys() == rows.keys()
        assert found == pytest.approx(rows, rel=1e-6)
