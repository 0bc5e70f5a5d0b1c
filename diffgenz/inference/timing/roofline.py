"""Seconds of operators under a smooth roofline, from the rates of an accelerator.

One operator takes

    repeats (launch + smooth_max(FLOP / peak, B / bandwidth))

A phase needs the sum over a dozen of them, and hardware gradients of that sum. `operators_time`
therefore has a derivative rule of its own, which says the same in a form that compiles well. With
c = FLOP / peak, m = B / bandwidth and t = smooth_max(c, m) of each operator,

    C = sum of repeats c (c / t)**(p - 1)        the seconds that count as computing
    M = sum of repeats m (m / t)**(p - 1)        the seconds that count as moving
    d time = C dln(s/FLOP) + M dln(s/B)

These are two sums for all operators, instead of two factors for each operator. (C + M = time, by
Euler, would save one of the sums, at the price of cancellation in float32.)

Where the accelerator has fitted kernels (`kernels`), those time the operators of their families,
with the same rates.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jax.custom_derivatives import SymbolicZero

from diffgenz.core import xp
from diffgenz.core.differences import as_double, in_double, moves, slopes
from diffgenz.core.smooth import SHARPNESS, Scalar, smooth_max, smooth_max_slopes
from diffgenz.core.tree import Tree
from diffgenz.hardware.platform import Accelerator
from diffgenz.inference.timing.execution import Execution
from diffgenz.kernels.library import Bound, executed, shared
from diffgenz.operators.layer_format import DTYPE, LINEAR
from diffgenz.operators.operator import Kind, Operator


class Rates(Tree):
    """An accelerator as the operators of one precision see it.

    Rates are kept as reciprocals, so that no operator divides. They are built once per
    configuration.

    Arguments:
        linear: s/FLOP of linear layers.
        wide: s/FLOP of what stays in dtype (attention, LM head).
        own: s/FLOP of linear layers whose formats are their own, by part of the model.
        memory: s/B of the main memory.
        launch: s per kernel.
        kernels: fitted kernels by `kernel_key`; an operator without one is timed by the roofline.
    """

    linear: Scalar
    wide: Scalar
    own: dict[str, Scalar]
    memory: Scalar
    launch: Scalar
    kernels: dict[tuple[str, str], Bound] = eqx.field(default_factory=dict)

    @classmethod
    def of(cls, accelerator: Accelerator, execution: Execution) -> "Rates":
        """The rates of an accelerator.

        Arguments:
            accelerator: whose memory and efficiencies count.
            execution: its peaks and kernels in the precision in use.
        """
        wide = 1 / (execution.wide * accelerator.compute_efficiency)
        linear = wide
        if execution.linear is not None:
            linear = 1 / (execution.linear * accelerator.compute_efficiency)
        own = {
            part: 1 / (peak * accelerator.compute_efficiency)
            for part, peak in execution.own.items()
        }
        kernels: dict[tuple[str, str], Bound] = {}
        if execution.kernels:
            wide_chip = accelerator.chip(execution.wide)
            chips = {DTYPE: wide_chip, LINEAR: wide_chip}
            if execution.linear is not None:
                chips[LINEAR] = accelerator.chip(execution.linear)
            chips |= {part: accelerator.chip(peak) for part, peak in execution.own.items()}
            kernels = {
                (family, part): Bound(form, chips[part])
                for (family, part), form in execution.kernels.items()
            }
        return cls(
            linear,
            wide,
            own,
            1 / (accelerator.memory_bandwidth * accelerator.memory_efficiency),
            accelerator.launch_latency,
            shared(kernels, accelerator.launch_latency),
        )

    def per_flop(self, part: str) -> Scalar:
        """s/FLOP of operators in the formats of a part of the model (`Operator.part`)."""
        return {DTYPE: self.wide, LINEAR: self.linear, **self.own}[part]


def operators_time(
    operators: Sequence[Operator], rates: Rates, sharpness: float = SHARPNESS
) -> Scalar:
    """Seconds for all repeats of all operators, one after the other.

    Arguments:
        operators: the operators.
        rates: of the accelerator that they run on.
        sharpness: of the maximum of compute time and memory time.
    """
    rest: list[Operator] = []
    timed: dict[tuple[str, str], list[Operator]] = {}
    kernels = rates.kernels
    for op in operators:
        key = kernel_key(op)
        if key not in kernels:
            rest.append(op)
        elif op.shape is not None:
            timed.setdefault(key, []).append(op)
    total = _roofline(rest, rates, sharpness) if rest or not timed else xp.zeros(())
    for key, alike in timed.items():
        total = total + executed(kernels[key], [(op.repeats, op.shape) for op in alike])
    return total


def _roofline(operators: Sequence[Operator], rates: Rates, sharpness: float) -> Scalar:
    launches = sum((op.repeats for op in operators), start=xp.zeros(()))
    light = sum(
        (op.repeats * op.traffic for op in operators if op.kind is Kind.ELEMENTWISE),
        start=xp.zeros(()),
    )
    total = launches * rates.launch + light * rates.memory
    for part in (LINEAR, *rates.own, DTYPE):
        heavy = [op for op in operators if op.kind is not Kind.ELEMENTWISE and op.part == part]
        if heavy:
            shapes = [
                (as_array(op.repeats), as_array(op.flops), as_array(op.traffic)) for op in heavy
            ]
            total = total + _busy(rates.per_flop(part), rates.memory, shapes, sharpness)
    return total


def kernel_key(op: Operator) -> tuple[str, str]:
    """How `Rates.kernels` files the form that times `op`.

    The key is the operator's family, and the part of the model in whose formats it runs. The
    dispatch and the activation of routed experts run in those of the experts.
    """
    return op.kernel, op.part


class Shares(NamedTuple):
    """The seconds of an operator, or of each of several, by the resource that takes them.

    They sum to the operator's time.

    Arguments:
        compute: s of arithmetic.
        memory: s of moving bytes to and from memory.
        launch: s of launching kernels.
    """

    compute: Scalar
    memory: Scalar
    launch: Scalar


def operator_shares(
    operators: Sequence[Operator], rates: Rates, sharpness: float = SHARPNESS
) -> Shares:
    """The time of each operator by the resource that takes it.

    Compute time and memory time are each multiplied by the derivative of the whole with respect to
    it, which is exact (Euler, see `smooth`). All operators of a kind are one program, since a dozen
    copies of it would take seconds to compile.

    Arguments:
        operators: the operators.
        rates: of the accelerator that they run on.
        sharpness: of the maximum of compute time and memory time.

    Returns:
        `Shares` in s, each of shape (operators,).
    """
    kernels = rates.kernels
    groups: dict[Any, list[int]] = {}
    for index, op in enumerate(operators):
        key = kernel_key(op)
        # where another operator's shape includes its time, it has none of its own
        counted = "counted with another" if op.shape is None else key
        timed = counted if key in kernels else (op.kind, op.part)
        groups.setdefault(timed, []).append(index)
    found = []
    for key, members in groups.items():
        alike = [operators[index] for index in members]
        if key in kernels:
            repeats, shapes = _stacked([(op.repeats, op.shape) for op in alike])
            found.append(xp.mapped(_kernel_shares, (0, 0, None))(repeats, shapes, kernels[key]))
        elif isinstance(key, tuple):
            kind, part = key
            per_flop = None if kind is Kind.ELEMENTWISE else rates.per_flop(part)
            repeats, flops, traffic = _stacked([(op.repeats, op.flops, op.traffic) for op in alike])
            shares = partial(_roofline_shares, sharpness=sharpness)
            axes = (0, 0, 0, None, None)
            found.append(xp.mapped(shares, axes)(repeats, flops, traffic, rates, per_flop))
        else:
            found.append(Shares(*(xp.zeros(len(members)) for _ in Shares._fields)))
    back = np.argsort(np.concatenate(list(groups.values())))
    return jax.tree.map(lambda *each: xp.concatenate(each)[back], *found)


def _stacked(records: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *numbers: xp.stack([as_array(x) for x in numbers]), *records)


def _roofline_shares(
    repeats: Scalar,
    flops: Scalar,
    traffic: Scalar,
    rates: Rates,
    per_flop: Scalar | None,
    sharpness: float,
) -> Shares:
    memory, launch = traffic * rates.memory, repeats * rates.launch
    if per_flop is None:
        return Shares(0 * launch, repeats * memory, launch)
    compute = flops * per_flop
    by_compute, by_memory = smooth_max_slopes(compute, memory, sharpness)
    return Shares(repeats * compute * by_compute, repeats * memory * by_memory, launch)


def _kernel_shares(repeats: Scalar, shape: Any, kernel: Bound) -> Shares:
    """The time of a fitted kernel, by the resource that takes it.

    A form is homogeneous in seconds per FLOP, seconds per B and launch latency. Each of these times
    the derivative with respect to it therefore adds up to the time.
    """

    if not xp.is_jax(repeats, shape, kernel):
        return _kernel_shares_of_columns(repeats, shape, kernel)

    def seconds(slower: tuple[Scalar, Scalar, Scalar]) -> Scalar:
        return repeats * Bound(kernel.form, kernel.hardware.slower(*slower)).seconds(shape)

    return Shares(*jax.grad(seconds)((xp.ones(()), xp.ones(()), xp.ones(()))))


def _kernel_shares_of_columns(repeats: Any, shape: Any, kernel: Bound) -> Shares:
    """`_kernel_shares` of several executions in NumPy: all slopes by one call of the form."""
    with in_double():
        form, hardware = as_double((kernel.form, kernel.hardware))
        rows = jax.tree.map(lambda x: x[:, None], as_double(shape))
        slower = Bound(form, hardware.slower(*np.exp(moves(3))))
        return Shares(*(repeats * slopes(slower.seconds(rows), 3).T))


def as_array(x: Scalar | float) -> Scalar:
    """`x` as an array, since custom derivative rules take no Python numbers."""
    return xp.asarray(x, float if isinstance(x, float | int) else None)


Shape = tuple[Scalar, Scalar, Scalar]  # repeats, FLOP, B


@partial(xp.rule, nondiff_argnums=(3,))
def _busy(per_flop: Scalar, per_byte: Scalar, shapes: list[Shape], sharpness: float) -> Scalar:
    terms = (
        repeats * smooth_max(flops * per_flop, traffic * per_byte, sharpness)
        for repeats, flops, traffic in shapes
    )
    return sum(terms, start=xp.zeros_like(per_byte))


def _busy_jvp(sharpness: float, primals: Any, tangents: Any) -> tuple[Scalar, Scalar]:
    per_flop, per_byte, shapes = primals
    d_per_flop, d_per_byte, d_shapes = tangents
    busy = _busy(per_flop, per_byte, shapes, sharpness)
    slopes = [
        smooth_max_slopes(flops * per_flop, traffic * per_byte, sharpness)
        for _, flops, traffic in shapes
    ]
    zero = xp.zeros_like(busy)
    pairs = list(zip(shapes, slopes, strict=True))
    computed = (repeats * flops * by_flop for (repeats, flops, _), (by_flop, _) in pairs)
    moved = (repeats * traffic * by_byte for (repeats, _, traffic), (_, by_byte) in pairs)
    computing, moving = sum(computed, start=zero) * per_flop, sum(moved, start=zero) * per_byte
    tangent = zero

    def add(scale: Any, change: Any) -> None:
        nonlocal tangent
        # hardware gradients leave the shapes alone, and shape gradients the hardware
        if not isinstance(change, SymbolicZero):
            tangent = tangent + scale() * change

    add(lambda: computing / per_flop, d_per_flop)
    add(lambda: moving / per_byte, d_per_byte)
    for (repeats, flops, traffic), changes, (by_compute, by_memory) in zip(
        shapes, d_shapes, slopes, strict=True
    ):
        add(
            lambda f=flops, t=traffic: smooth_max(f * per_flop, t * per_byte, sharpness), changes[0]
        )
        add(lambda r=repeats, s=by_compute: r * s * per_flop, changes[1])
        add(lambda r=repeats, s=by_memory: r * s * per_byte, changes[2])
    return busy, tangent


_busy.defjvp(_busy_jvp, symbolic_zeros=True)
