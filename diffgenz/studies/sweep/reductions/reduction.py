"""What a sweep keeps: fronts, the best few, the best of each cell of a map, histograms, rows.

A reduction has two halves. `screen` runs on the device over a whole batch: it says which configurations may matter, given a threshold from what
was found so far, and may summarise the batch. `absorb` takes what passed, on the host. States are arrays by name; `merge` is associative and
commutative, so that ranges may be reduced in any order, anywhere.
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
"""Of a reduction: arrays by name, ready to be saved."""

Rows = Mapping[str, np.ndarray]
"""Configurations that passed the screen: "index", the columns asked for, and the levels of axes as "level of NAME"."""


class Goal(NamedTuple):
    """A formula, and whether more of it is better."""

    expression: Expression
    maximize: bool

    def cost(self, columns: Mapping[str, Any]) -> Any:
        """What to minimise."""
        value = columns[self.expression.text]
        return -value if self.maximize else value


@cache
def formula(text: str) -> Expression:
    return Expression(text)


@cache
def one_goal(what: str, minimize: str | None, maximize: str | None) -> Goal:
    if (minimize is None) == (maximize is None):
        raise InputError(f"{what}: give either minimize or maximize")
    return Goal(formula(minimize or maximize or ""), minimize is None)


class Reduction(ABC):
    """One thing to keep of a sweep."""

    @property
    @abstractmethod
    def expressions(self) -> tuple[Expression, ...]:
        """Formulas whose values it needs."""

    @property
    def axes(self) -> tuple[str, ...]:
        """Axes whose levels it needs."""
        return ()

    @abstractmethod
    def start(self, levels: Mapping[str, int]) -> State:
        """Of no configurations; `levels`: how many values each of `axes` has."""

    def threshold(self, state: State) -> Any:
        """What the device compares with, as arrays."""
        return None

    @abstractmethod
    def screen(
        self, columns: Mapping[str, jax.Array], feasible: jax.Array, threshold: Any
    ) -> tuple[jax.Array | None, Any]:
        """Which configurations may matter (None: none), and a summary of the batch."""

    @abstractmethod
    def absorb(self, state: State, rows: Rows, summary: Any) -> State:
        """The state after a batch."""

    @abstractmethod
    def merge(self, one: State, other: State) -> State:
        """The state of both."""

    def settled(self, state: State) -> State:
        """The state after a range, with nothing put off."""
        return state

    def finish(self, state: State, path: Path) -> State:
        """The state after a chunk, what need not be held having been written to files that begin with `path`."""
        return state
