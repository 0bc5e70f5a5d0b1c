"""Terms that rows do not need are left out; those that they need stay."""

from typing import ClassVar

import numpy as np
from fit_cases import H100

from diffgenz.calibrating.fitting import fit, predict
from diffgenz.calibrating.samples import Samples
from diffgenz.calibrating.simplifying import fit_simplified, pinned
from diffgenz.core import xp
from diffgenz.core.smooth import Leaf
from diffgenz.kernels.form import Form, Work, parameter
from diffgenz.kernels.shapes import ElementwiseShape


class Toy(Form):
    """Four terms, three of which may be absent: an addend, a factor, and one up to 1."""

    Shape: ClassVar[type] = ElementwiseShape

    memory: Leaf = parameter(0.8, 0.5, 1.0)
    fixed: Leaf = parameter(2.0, neutral=0.0)
    slower: Leaf = parameter(1.5, neutral=1.0)
    kept: Leaf = parameter(0.9, 1.0, 1.0, neutral=1.0)

    @classmethod
    def work(cls, shape):
        return Work(0.0, shape.moved)

    def seconds(self, shape, chip):
        odd = shape.moved % 2 == 1
        factor = xp.where(odd, 1.0, 0.0) * (self.slower / self.kept - 1) + 1
        return shape.moved * factor / (chip.bandwidth * self.memory) + self.fixed * chip.launch


def measured(**values):
    moved = np.round(np.geomspace(1e6, 1e8, 400)) // 2 * 2 + np.arange(400) % 2
    shape = ElementwiseShape(moved)
    seconds = predict(Toy(**values), shape, H100)
    noise = 0.02 * np.random.default_rng(3).normal(size=400)
    return Samples(Toy, "elementwise", "bf16", "mine-1.0", "one", shape, seconds * np.exp(noise))


def test_a_term_that_rows_need_stays_and_the_others_go():
    found = fit_simplified(measured(fixed=3.0, slower=1.0, kept=1.0 - 1e-9), H100, starts=8)
    assert found.form.absent == ("slower", "kept")
    assert list(found.values) == ["memory", "fixed"]
    assert found.covariance.shape == (2, 2)
    assert abs(np.log(found.values["fixed"] / 3.0)) < 0.2
    whole = fit(measured(fixed=3.0, slower=1.0, kept=1.0 - 1e-9), H100, starts=8)
    assert found.mean_error < 1.03 * whole.mean_error
    found = fit_simplified(measured(fixed=1e-9, slower=2.0, kept=1.0 - 1e-9), H100, starts=8)
    assert "fixed" in found.form.absent
    assert len(found.form.absent) == 2  # either of two factors makes the other needless
    lean = found.form(**found.values)
    assert float(lean.slower / lean.kept) > 1.9


def test_pinned_parameters_are_neutral():
    white = pinned(Toy, ["fixed", "slower", "kept"])
    form = Toy.of_free(white.centre)
    assert white.spread.tolist()[1:] == [0.0, 0.0, 0.0]
    np.testing.assert_allclose([form.fixed, form.slower, form.kept], [0, 1, 1], atol=1e-9)
