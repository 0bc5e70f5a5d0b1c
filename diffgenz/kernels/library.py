"""The fitted kernels of an accelerator, and single ones bound to hardware."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import jax
from jax.custom_derivatives import SymbolicZero

from diffgenz.core import xp
from diffgenz.core.record import Record, label
from diffgenz.core.smooth import Scalar, once
from diffgenz.kernels.families import FAMILIES, KnownBy
from diffgenz.kernels.form import Form
from diffgenz.kernels.kernel_format import KernelFormat

RELATIVES = {
    "bf16": ("fp16",),
    "fp16": ("bf16",),
    "tf32": ("bf16", "fp16"),
    "fp32": ("bf16", "fp16"),
    "mxfp8": ("fp8_block", "fp8"),
    "fp8": ("fp8_block", "int8"),
    "fp8_block": ("fp8",),
    "int8": ("fp8",),
    "nvfp4": ("mxfp4",),
    "mxfp4": ("nvfp4",),
    "fp8/bf16": ("int8/bf16", "int4/bf16"),
    "int8/bf16": ("fp8/bf16", "int4/bf16"),
    "int4/bf16": ("mxfp4/bf16", "int8/bf16"),
    "mxfp4/bf16": ("int4/bf16", "int8/bf16"),
    "nvfp4/bf16": ("mxfp4/bf16", "int4/bf16", "int8/bf16"),
}
"""Formats whose kernels stand in for a format that has none of its own, best first.

Bytes and peak remain those of the format itself.
"""


class Bound(NamedTuple):
    """A form and the hardware that it runs on, in one format."""

    form: Form
    hardware: Any

    def seconds(self, shape: Any) -> Scalar:
        """Seconds of one execution."""
        return _seconds(self, shape)


class Origin(NamedTuple):
    """Where the fits of a library come from.

    Arguments:
        system: id of the accelerator.
        vendor: who makes it.
        fit: the software whose kernels are preferred, or a fit file.
    """

    system: str
    vendor: str
    fit: str


class Library(Record):
    """The kernels of an accelerator, and where they come from.

    Arguments:
        forms: by family ("gemm", "decode", ...) and format ("fp8", "int4/bf16"; `KernelFormat`).
        origin: where the fits come from; None where the forms were built by hand.
    """

    forms: dict[str, dict[str, Form]]
    origin: Origin | None = label(default=None)

    def format_of(self, family: str, format: str) -> str | None:
        """The format whose kernels time `family` in `format`; None where there is none."""
        return nearest_format(self.forms.get(family, {}), family, format)

    def form(self, family: str, format: str) -> Form | None:
        """The form that times `family` in `format`; None where there is none."""
        found = self.format_of(family, format)
        return None if found is None else self.forms[family][found]


def nearest_format(forms: Collection[str], family: str, format: str) -> str | None:
    """Which of the formats of a family times its kernels in `format`; None where none does.

    It is the format itself, or its nearest relative: another of `RELATIVES`, or what weights (of
    latent attention: its cache) and activations are alone.

    Arguments:
        forms: the formats that there are.
        family: of the kernels.
        format: the one wanted.
    """
    weights, activations = KernelFormat.of(format)
    names = [format, *RELATIVES.get(format, ())]
    if weights != activations:
        names += [weights] if FAMILIES[family].known_by is KnownBy.CACHE else []
        names += [activations, *RELATIVES.get(activations, ())]
    return next((name for name in names if name in forms), None)


def executed(bound: Bound, executions: Sequence[tuple[Scalar | float, Any]]) -> Scalar:
    """Seconds of a kernel for executions one after the other.

    Its derivative with respect to each number of the form and the hardware is one sum over the
    executions, formed beside the time. (Left to itself, reverse mode keeps a dozen intermediate
    results of each execution, and is four times slower.)

    Arguments:
        bound: the kernel.
        executions: pairs of repeats and a shape.
    """

    def as_number(x: Any) -> Any:
        return xp.asarray(x, float) if isinstance(x, float | int) else x

    return _executed(bound, [jax.tree.map(as_number, each) for each in executions])


# Traced once for all operators of a family; the compiled program is the same.
@xp.traced_once
def _seconds(bound: Bound, shape: Any) -> Scalar:
    return bound.form.level * bound.form.seconds(shape, bound.hardware)


def _total(bound: Bound, executions: list[tuple[Any, Any]]) -> Scalar:
    times = (repeats * bound.seconds(shape) for repeats, shape in executions)
    return sum(times, start=xp.zeros(()))


@xp.rule
def _executed(bound: Bound, executions: list[tuple[Any, Any]]) -> Scalar:
    return _total(bound, executions)


def _executed_jvp(primals: Any, tangents: Any) -> tuple[Scalar, Scalar]:
    """The derivative of `_executed`, in two parts.

    Numbers of form and hardware: one slope each, summed over the executions, for those that vary.
    Repeats and shapes (gradients of models and workloads): what JAX derives.
    """
    bound, executions = primals
    total = _executed(bound, executions)
    tangent = xp.zeros_like(total)
    numbers, structure = jax.tree.flatten(bound)
    changes = jax.tree.leaves(tangents[0])
    varied = _varied(changes)
    if varied:

        def one(values: list[Scalar], execution: Any) -> Scalar:
            replaced = jax.tree.unflatten(structure, _replaced(numbers, varied, values))
            return execution[0] * replaced.seconds(execution[1])

        values = [numbers[index] for index in varied]
        slopes = [jax.grad(one)(values, execution) for execution in executions]
        latency = bound.hardware.launch  # at most 1 s, as `once` needs
        for index, position in enumerate(varied):
            slope = once(sum((each[index] for each in slopes), start=xp.zeros(())), latency)
            tangent = tangent + slope * changes[position]
    shapes, structure = jax.tree.flatten(executions)
    changes = jax.tree.leaves(tangents[1])
    moving = _varied(changes)
    if moving:

        def across(moved: list[Scalar]) -> Scalar:
            return _total(bound, jax.tree.unflatten(structure, _replaced(shapes, moving, moved)))

        at, along = ([each[index] for index in moving] for each in (shapes, changes))
        tangent = tangent + jax.jvp(across, (at,), (along,))[1]
    return total, tangent


def _varied(changes: list[Any]) -> list[int]:
    """The positions of the numbers that have a tangent."""
    return [index for index, change in enumerate(changes) if not isinstance(change, SymbolicZero)]


def _replaced(numbers: list[Any], positions: list[int], values: list[Any]) -> list[Any]:
    """The numbers, those at `positions` replaced by `values`."""
    new = dict(zip(positions, values, strict=True))
    return [new.get(index, number) for index, number in enumerate(numbers)]


_executed.defjvp(_executed_jvp, symbolic_zeros=True)
