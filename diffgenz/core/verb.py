"""The one rule that says when NumPy answers, and when a compiled program does.

Compiling takes seconds; one answer in NumPy takes hundredths of one, and a compiled one a
thousandth. So a question about one configuration is answered in NumPy, unless many of its kind
follow each other in a process. Whoever batches or differentiates compiles.
"""

import contextlib
import functools
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Generic, ParamSpec, TypeVar

import equinox as eqx
import jax
import numpy as np
from jax.core import Tracer

from diffgenz.core import xp
from diffgenz.core.batches import COMPILED_FOR_SOME
from diffgenz.core.checks import unchecked

P = ParamSpec("P")
R = TypeVar("R")

FEW = 30
"""Answers in NumPy to questions of one structure; for more of them it pays to compile."""


@contextlib.contextmanager
def as_if_traced() -> Iterator[None]:
    """In here, NumPy is silent about infinities, and records are not checked again, as in JAX."""
    with np.errstate(all="ignore"), unchecked():
        yield


class verb(Generic[P, R]):
    """A function of configurations that answers one of them without compiling.

    | arguments | how |
    |---|---|
    | some JAX tracer | compiled (`eqx.filter_jit`), for batches and derivatives |
    | JAX arrays | compiled, quickly |
    | numbers of NumPy and Python | NumPy; after `FEW` x `patience` of one structure, compiled |
    | columns of NumPy | NumPy, which broadcasts |

    Arguments:
        function: its formulas, in `core.xp`.
        plain: what answers in NumPy; None: `function`.
        patience: of `FEW`, for what takes long to compile.
    """

    def __init__(
        self, function: Callable[P, R], plain: Callable[P, R] | None = None, patience: int = 1
    ):
        self._plain = plain or function
        self._patience = patience
        self._traced = eqx.filter_jit(function)
        self._compiled = _quickly(function)
        self._calls: Counter[Any] = Counter()
        functools.update_wrapper(self, function)

        untyped: Any = function

        def unpacked(numbers: Any, others: tuple[Any, ...], structure: Any) -> Any:
            rest = iter(numbers)
            leaves = (next(rest) if other is _PACKED else other for other in others)
            args, kwargs = jax.tree.unflatten(structure, leaves)
            return untyped(*args, **kwargs)

        named = inspect.unwrap(unpacked)  # what compilations are called in logs and profiles
        named.__name__ = named.__qualname__ = function.__name__
        self._of_packed = _quickly(unpacked)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The answer."""
        leaves, structure = jax.tree.flatten((args, kwargs))
        with as_if_traced():
            if xp.is_jax(*leaves):
                if any(isinstance(leaf, Tracer) for leaf in leaves):
                    return self._traced(*args, **kwargs)
                with jax.ensure_compile_time_eval():  # options are for whole programs
                    return self._compiled(*args, **kwargs)
            if not self._often(leaves, structure):
                return self._plain(*args, **kwargs)
            # one argument: JAX takes tens of microseconds for each
            others = tuple(_PACKED if _is_number(leaf) else leaf for leaf in leaves)
            numbers = np.array([leaf for leaf in leaves if _is_number(leaf)])
            with jax.ensure_compile_time_eval():
                return self._of_packed(numbers, others, structure)

    def _often(self, leaves: list[Any], structure: Any) -> bool:
        """Whether this is one more of many calls of one structure."""
        if any(isinstance(leaf, np.ndarray) and leaf.ndim for leaf in leaves):
            return False
        kind = structure, *(None if _is_number(leaf) else leaf for leaf in leaves)
        self._calls[kind] += 1
        return self._calls[kind] > self._patience * FEW


def _quickly(function: Callable[..., Any]) -> Callable[..., Any]:
    """The compiled function of one configuration."""
    compiled: Any = eqx.filter_jit
    return compiled(function, compiler_options=COMPILED_FOR_SOME)


class _Packed:
    """Stands for a number that is passed with all others."""


_PACKED = _Packed()


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, np.floating | np.ndarray)
