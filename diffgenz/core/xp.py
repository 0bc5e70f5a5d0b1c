"""The seam between NumPy and JAX: what cost modules calculate with.

Formulas are written once, for one configuration, and import this in place of `jax.numpy`:

    from diffgenz.core import xp

    moving = xp.maximum(read, written) / bandwidth

Where an argument is a JAX array or a tracer, JAX does it: formulas are compiled, batched and
differentiated as usual. Where all are NumPy's or Python's numbers, NumPy does it: one configuration
is answered in milliseconds, and nothing is compiled. NumPy knows no `vmap`; in its place, numbers
may be columns, which broadcast.

A function that is not here does not exist (`AttributeError`): were it handed on to JAX, it would
turn the rest of a calculation into float32 arrays of JAX, unnoticed.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

P = ParamSpec("P")
R = TypeVar("R")

if TYPE_CHECKING:
    Number: TypeAlias = jax.Array
else:
    Number = Any
"""What is calculated, of either library; type checkers read JAX's."""

_untyped: Any = np  # what it returns is a `Number`

PYTHON = frozenset({float, int, bool})
PLAIN = PYTHON | {np.float32, np.float64, np.bool_, np.ndarray, np.int32, np.int64, type(None)}
"""Types that are known not to be JAX's, for speed."""


def is_jax(*trees: Any) -> bool:
    """Whether any number in `trees` (numbers, or pytrees of them) is a JAX array or a tracer."""
    return any(
        type(tree) not in PLAIN
        and any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(tree))
        for tree in trees
    )


def default_float() -> type[np.floating]:
    """The type of Python's numbers: float32, or float64 where JAX is told so."""
    return np.float64 if jax.enable_x64.value else np.float32


def is_double(x: Any) -> bool:
    """Whether a number is float64, in which formulas are written as short as can be.

    Float32 is for batches: there they are written for XLA's fusions. Float64 is for few numbers,
    where most of the time goes into compiling.
    """
    return x.dtype == np.float64


def asarray(x: Any, dtype: Any = None) -> Number:
    """`x` as an array (of NumPy a scalar, where it is one), in `dtype`.

    Arguments:
        x: a number, or an array.
        dtype: its type; None: its own, of Python's floats the default. `float` is the default, too.
    """
    if is_jax(x):
        return jnp.asarray(x, dtype)
    if dtype is float or (dtype is None and type(x) is float):
        dtype = default_float()
    return _untyped.asarray(x, dtype)[()]


def of_numpy(tree: Any) -> Any:
    """The same concrete numbers, of NumPy: what is asked of them then compiles nothing."""
    return jax.tree.map(lambda x: np.asarray(x)[()], tree)


def zeros(shape: int | tuple[int, ...]) -> Number:
    """An array of zeros, of NumPy: a constant to whoever adds to it."""
    return _untyped.zeros(shape, default_float())


def ones(shape: int | tuple[int, ...]) -> Number:
    """An array of ones, of NumPy: a constant to whoever multiplies it."""
    return _untyped.ones(shape, default_float())


def _elementwise(name: str) -> Callable[..., Number]:
    """The function called `name` in both libraries, of numbers or arrays."""
    of_jax, of_numpy = getattr(jnp, name), getattr(np, name)

    def function(*numbers: Any) -> Number:
        python = True
        for x in numbers:
            kind = type(x)
            if kind not in PLAIN and isinstance(x, jax.Array):
                return of_jax(*numbers)
            python = python and kind in PYTHON
        if python:  # NumPy would return float64
            numbers = tuple(default_float()(x) for x in numbers)
        return of_numpy(*numbers)

    function.__name__ = function.__qualname__ = name
    return function


ceil = _elementwise("ceil")
exp = _elementwise("exp")
exp2 = _elementwise("exp2")
expm1 = _elementwise("expm1")
floor = _elementwise("floor")
isfinite = _elementwise("isfinite")
log = _elementwise("log")
log1p = _elementwise("log1p")
log2 = _elementwise("log2")
maximum = _elementwise("maximum")
minimum = _elementwise("minimum")
ones_like = _elementwise("ones_like")
round = _elementwise("round")
sqrt = _elementwise("sqrt")
zeros_like = _elementwise("zeros_like")


def clip(x: Any, least: float, most: float) -> Number:
    """`x`, no less than `least` and no more than `most`."""
    return minimum(maximum(x, least), most)


def where(condition: Any, a: Any, b: Any) -> Number:
    """`a` where `condition` holds, else `b`."""
    if is_jax(condition, a, b):
        return jnp.where(condition, a, b)
    if type(a) in PYTHON and type(b) in PYTHON:
        a = default_float()(a)
    return _untyped.where(condition, a, b)[()]


def sigmoid(x: Any) -> Number:
    """1 / (1 + exp(-x))."""
    return jax.nn.sigmoid(x) if is_jax(x) else 1 / (1 + np.exp(-x))


def stack(numbers: Any) -> Number:
    """Numbers side by side on a new first axis; NumPy's columns broadcast."""
    if is_jax(*numbers):
        return jnp.stack(numbers)
    return _untyped.stack(np.broadcast_arrays(*numbers))


def concatenate(arrays: Any, axis: int = 0) -> Number:
    """Arrays one after the other, on their first axis or another."""
    return jnp.concatenate(arrays, axis) if is_jax(*arrays) else _untyped.concatenate(arrays, axis)


def result_type(*numbers: Any) -> Any:
    """The type in which `numbers` are calculated with each other."""
    return jnp.result_type(*numbers) if is_jax(*numbers) else np.result_type(*numbers)


def bitcast(x: Any, dtype: Any) -> Number:
    """The bits of `x` read as a number of `dtype`, which is as wide."""
    if is_jax(x):
        return jax.lax.bitcast_convert_type(x, dtype)
    return _untyped.asarray(x).view(dtype)[()]


def stop_gradient(tree: Any) -> Any:
    """The same numbers, constant under differentiation; NumPy's are constant anyway."""
    if not is_jax(tree):
        return tree
    return jax.tree.map(lambda x: jax.lax.stop_gradient(x) if is_jax(x) else x, tree)


def repeated(step: Callable[[Any], Any], state: Any, times: int) -> Any:
    """What a state becomes by so many equal steps; JAX compiles one of them.

    Arguments:
        step: from a state to the next, of the same structure and shapes.
        state: the first: a pytree of numbers, which JAX keeps in their common type.
        times: how many steps.
    """
    if not is_jax(state):
        for _ in range(times):
            state = step(state)
        return state
    kind = jnp.result_type(*jax.tree.leaves(state))

    def alike(tree: Any) -> Any:
        return jax.tree.map(lambda x: jnp.asarray(x, kind), tree)

    return jax.lax.fori_loop(0, times, lambda _, at: alike(step(at)), alike(state))


class rule(Generic[P, R]):
    """A function with a derivative rule of its own: `jax.custom_jvp` where an argument is JAX's.

    Where none is, there is nothing to differentiate, and the plain function is called.

    Arguments:
        function: the function.
        nondiff_argnums: as of `jax.custom_jvp`.
    """

    def __init__(self, function: Callable[P, R], nondiff_argnums: tuple[int, ...] = ()):
        self.plain = function
        self.traced = jax.custom_jvp(function, nondiff_argnums=nondiff_argnums)
        functools.update_wrapper(self, function)

    def defjvp(self, jvp: Callable[..., Any], symbolic_zeros: bool = False) -> Callable[..., Any]:
        """Set the derivative rule, as of `jax.custom_jvp`."""
        self.traced.defjvp(jvp, symbolic_zeros=symbolic_zeros)
        return jvp

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The value of the function."""
        return self.traced(*args, **kwargs) if is_jax(*args) else self.plain(*args, **kwargs)


def traced_once(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, which JAX traces once for all its calls with arguments of one structure.

    The compiled program is the same as without it.
    """
    traced = jax.jit(function, inline=True)

    @functools.wraps(function)
    def either(*args: P.args, **kwargs: P.kwargs) -> R:
        return traced(*args, **kwargs) if is_jax(args) else function(*args, **kwargs)

    return either


def mapped(function: Callable[..., R], in_axes: Any = 0) -> Callable[..., R]:
    """`function` over the first axis of its arguments: `jax.vmap`, or NumPy's broadcasting.

    Arguments:
        function: of numbers, elementwise.
        in_axes: as of `jax.vmap`.
    """
    batched = jax.vmap(function, in_axes)

    def either(*args: Any) -> R:
        return batched(*args) if is_jax(args) else function(*args)

    return either
