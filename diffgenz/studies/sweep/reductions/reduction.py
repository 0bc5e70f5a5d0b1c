"""What a reduction is, and what those beside this file share.

A reduction keeps one thing of a sweep: a front, the best few, the best of each cell of a map, a
histogram, rows. It has two halves. `screen` runs on the device over a whole batch: it says which
configurations may matter, given a threshold from what was found so far, and may summarise the
batch. `absorb` takes what passed, on the host. States are arrays by name. `merge` is associative
and commutative, so that ranges may be reduced in any order, anywhere.

A new reduction is one more file, with a frozen dataclass that derives from `Reduction`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.studies.expressions import Expression

State = dict[str, np.ndarray]
"""What a reduction has found so far: arrays by name, ready to be saved."""

Passed = Mapping[str, np.ndarray]
"""The configurations that passed the screen, by column.

There is their "index", the formulas asked for by their text, and the levels of axes as "level of
NAME".
"""


class Goal(NamedTuple):
    """Something to minimise or to maximise.

    Arguments:
        expression: its formula.
        maximize: whether more of it is better.
    """

    expression: Expression
    maximize: bool

    def cost(self, columns: Mapping[str, Any]) -> Any:
        """What to minimise: the formula's column, or minus that."""
        value = columns[self.expression.text]
        return -value if self.maximize else value


@cache
def formula(text: str) -> Expression:
    """The formula that `text` is, read once.

    Raises:
        InputError: it is none.
    """
    return Expression(text)


@cache
def one_goal(what: str, minimize: str | None, maximize: str | None) -> Goal:
    """The goal of a reduction that has one.

    Arguments:
        what: the reduction, for the error.
        minimize: its formula, or None.
        maximize: its formula, or None.

    Raises:
        InputError: neither is given, or both are, or it is no formula.
    """
    if (minimize is None) == (maximize is None):
        raise InputError(f"{what}: give either minimize or maximize")
    return Goal(formula(minimize or maximize or ""), minimize is None)


class Reduction(ABC):
    """One thing to keep of a sweep."""

    @property
    @abstractmethod
    def expressions(self) -> tuple[Expression, ...]:
        """The formulas whose values it needs."""

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes whose levels it needs."""
        return ()

    @abstractmethod
    def start(self, levels: Mapping[str, int]) -> State:
        """The state of no configurations.

        Arguments:
            levels: how many values each axis has that is not a range.

        Raises:
            InputError: it does not fit these axes.
        """

    def threshold(self, state: State) -> Any:
        """What the device compares with, as arrays; None: nothing."""
        return None

    @abstractmethod
    def screen(
        self, columns: Mapping[str, jax.Array], feasible: jax.Array, threshold: Any
    ) -> tuple[jax.Array | None, Any]:
        """Which configurations may matter, and a summary of the batch; on the device.

        Arguments:
            columns: formulas by their text, and levels of axes as "level of NAME".
            feasible: which configurations meet all constraints.
            threshold: as `threshold` gave it, of an earlier state.

        Returns:
            Which configurations to hand on to `absorb` (None: none), and the summary (None: none).
        """

    @abstractmethod
    def absorb(self, state: State, rows: Passed, summary: Any) -> State:
        """The state after a batch.

        Arguments:
            state: the state before it.
            rows: the configurations that passed the screen.
            summary: of the batch.
        """

    @abstractmethod
    def merge(self, one: State, other: State) -> State:
        """The state of the configurations of both."""

    def settled(self, state: State) -> State:
        """The state after a range, with nothing put off."""
        return state

    def finish(self, state: State, path: Path) -> State:
        """The state after a chunk, without what need not be held: that is written to files.

        Arguments:
            state: the state before.
            path: how the names of the files begin.
        """
        return state
