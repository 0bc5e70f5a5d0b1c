"""The fitted kernels of an accelerator, and single ones bound to hardware."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
from jax.custom_derivatives import SymbolicZero

from diffgenz.core import xp
from diffgenz.core.record import Record, label
from diffgenz.core.smooth import Scalar, once, twice
from diffgenz.kernels.form import Form
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.kind import UNKNOWN, Kind
from diffgenz.kernels.relatives import nearest_format

Key = TypeVar("Key", bound=Hashable)


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
        fit: the software whose kernels are preferred, "like:SYSTEM", or a fit file.
        like: the accelerator that its file says it is like; "" where it says nothing.
        changed: whether its file has other numbers than the shipped one of the same id.
        kind: what it has in common with measured accelerators.
    """

    system: str
    vendor: str
    fit: str
    like: str = ""
    changed: bool = False
    kind: Kind = UNKNOWN


class Library(Record):
    """The kernels of an accelerator, and where they come from.

    Arguments:
        forms: by family ("gemm", "decode", ...) and format ("fp8", "int4/bf16"; `KernelFormat`).
        origin: where the fits come from; None where the forms were built by hand.
        alone: families and formats whose kernels stand in for no other format.
    """

    forms: dict[str, dict[str, Form]]
    origin: Origin | None = label(default=None)
    alone: tuple[tuple[str, str], ...] = label(default=())

    def __repr__(self) -> str:
        origin = self.origin
        whose = "" if origin is None else f" of {origin.system}, fit={origin.fit!r}"
        return f"Library({len(self.forms)} families of kernels{whose})"

    def format_of(self, family: str, format: str) -> str | None:
        """The format whose kernels time `family` in `format`; None where there is none."""
        alone = [each for name, each in self.alone if name == family]
        return nearest_format(self.forms.get(family, {}), family, format, alone)

    def form(self, family: str, format: str) -> Form | None:
        """The form that times `family` in `format`; None where there is none."""
        found = self.format_of(family, format)
        return None if found is None else self.forms[family][found]


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
    total, tangent = _along_numbers(bound, executions, jax.tree.leaves(tangents[0]))
    shapes, structure = jax.tree.flatten(executions)
    changes = jax.tree.leaves(tangents[1])
    moving = _varied(changes)
    if moving:

        def across(moved: list[Scalar]) -> Scalar:
            return _total(bound, jax.tree.unflatten(structure, _replaced(shapes, moving, moved)))

        at, along = ([each[index] for index in moving] for each in (shapes, changes))
        tangent = tangent + jax.jvp(across, (at,), (along,))[1]
    return total, tangent


def _along_numbers(
    bound: Bound, executions: list[tuple[Any, Any]], changes: list[Any]
) -> tuple[Scalar, Scalar]:
    """The time of `_executed`, and its change with the numbers of form and hardware.

    Where only hardware varies, time and slopes are kept for all their uses, two in each fusion, and
    a chip's slope along the bandwidth follows from the others. Where parameters of the form vary,
    too, the slopes are many and each is used once: `shared` keeps their sums over kernels instead.

    Arguments:
        bound: the kernel.
        executions: pairs of repeats and a shape.
        changes: of the numbers of `bound`, in order; those that are zero are symbolic.
    """
    numbers, structure = jax.tree.flatten(bound)
    varied = _varied(changes)
    if not varied:
        total = _executed(bound, executions)
        return total, xp.zeros_like(total)
    hardware, latency = bound.hardware, bound.hardware.launch
    parameters = len(jax.tree.leaves(bound.form))
    place = {name: parameters + index for index, name in enumerate(hardware._fields)}
    of_hardware = min(varied) >= parameters
    by_euler = (
        of_hardware
        and isinstance(hardware, Chip)
        and {place["flops"], place["bandwidth"], place["launch"]} <= set(varied)
    )
    needed = [each for each in varied if not (by_euler and each == place["bandwidth"])]

    def one(values: list[Scalar], execution: Any) -> Scalar:
        replaced = jax.tree.unflatten(structure, _replaced(numbers, needed, values))
        return execution[0] * replaced.seconds(execution[1])

    values = [numbers[each] for each in needed]
    found = [jax.value_and_grad(one)(values, execution) for execution in executions]
    each_sum = zip(*([time, *slopes] for time, slopes in found), strict=True)
    sums = [sum(terms, start=xp.zeros(())) for terms in each_sum]
    total, *slopes = _kept(sums, latency) if of_hardware else sums
    slope = dict(zip(needed, slopes, strict=True))
    if by_euler:
        by_flops, by_launch = slope[place["flops"]], slope[place["launch"]]
        slope[place["bandwidth"]] = hardware.bandwidth_slope(total, by_flops, by_launch)
    along = (slope[each] * changes[each] for each in varied)
    return total, sum(along, start=xp.zeros(()))


def shared(kernels: Mapping[Key, Bound], launch: Scalar | float) -> dict[Key, Bound]:
    """The same kernels, whose derivatives are summed before they are used.

    Several kernels run on one chip, and a form may time several kinds of operators. What reverse
    mode adds up for each of their numbers is kept, two sums in each fusion; left to itself, XLA
    adds it up anew in every program that needs it. In forward mode it is the changes that are kept.

    Arguments:
        kernels: bound to hardware.
        launch: s that a kernel takes to launch.
    """
    found: dict[int, Any] = {}

    def once_each(record: Any) -> Any:
        if id(record) not in found:
            found[id(record)] = _shared(record, launch)
        return found[id(record)]

    return {key: Bound(*map(once_each, bound)) for key, bound in kernels.items()}


@xp.rule
def _shared(record: Any, launch: Scalar | float) -> Any:
    return record


def _shared_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    """The identity. What follows the changes forwards follows the derivatives backwards."""
    record, launch = primals
    changes, structure = jax.tree.flatten(tangents[0])
    varied = _varied(changes)
    kept = _kept([changes[each] for each in varied], launch)
    return record, jax.tree.unflatten(structure, _replaced(changes, varied, kept))


_shared.defjvp(_shared_jvp, symbolic_zeros=True)


def _kept(numbers: Sequence[Scalar], launch: Scalar) -> list[Scalar]:
    """The numbers, each computed once for all its uses, two in each fusion.

    Each keeps its own type, since fits may have been read before JAX was told to take float64.

    Arguments:
        numbers: what to compute once.
        launch: s that a kernel takes to launch, which is at most 1.
    """
    pairs = zip(numbers[::2], numbers[1::2], strict=False)
    found = [number for pair in pairs for number in twice(*pair, launch)]
    found += [once(numbers[-1], launch)] if len(numbers) % 2 else []
    return [new.astype(old.dtype) for new, old in zip(found, numbers, strict=True)]


def _varied(changes: list[Any]) -> list[int]:
    """The positions of the numbers that have a tangent."""
    return [index for index, change in enumerate(changes) if not isinstance(change, SymbolicZero)]


def _replaced(numbers: list[Any], positions: list[int], values: list[Any]) -> list[Any]:
    """The numbers, those at `positions` replaced by `values`."""
    new = dict(zip(positions, values, strict=True))
    return [new.get(index, number) for index, number in enumerate(numbers)]


_executed.defjvp(_executed_jvp, symbolic_zeros=True)
