"""The fitted kernels of an accelerator, and the same bound to it in the formats of one precision."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from diffgenz.core.record import Record, label
from diffgenz.core.smooth import Scalar, once
from diffgenz.kernels.form import Form

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
"""Whose kernels stand in for a format that has none of its own, best first; its own bytes and peak are used."""


class Bound(NamedTuple):
    """A form and the hardware it runs on, in one format."""

    form: Form
    hardware: Any

    def seconds(self, shape: Any) -> Scalar:
        """Seconds of one execution."""
        return _seconds(self, shape)


class Origin(NamedTuple):
    """Whose fits a library was made of: the accelerator's id and vendor, and the software preferred, or a fit file."""

    system: str
    vendor: str
    fit: str


class Library(Record):
    """An accelerator's kernels: forms by family ("gemm", "decode", ...) and format, and where they come from.

    Arguments:
        forms: by family and format ("fp8", or "weights/activations" where they differ).
        origin: of the fits; None where the forms were built by hand.
    """

    forms: dict[str, dict[str, Form]]
    origin: Origin | None = label(default=None)

    def format_of(self, family: str, format: str) -> str | None:
        """The format whose kernels time `family` in `format`: its own, or its nearest relative's; None where there is none."""
        forms = self.forms.get(family, {})
        stored, _, activations = format.partition("/")
        apart = (
            (stored, activations, *RELATIVES.get(activations, ()))
            if family.startswith("latent")
            else (activations, *RELATIVES.get(activations, ()))
        )
        names = (format, *RELATIVES.get(format, ()), *(apart if activations else ()))
        return next((name for name in names if name in forms), None)

    def form(self, family: str, format: str) -> Form | None:
        """The form that times `family` in `format`; None where there is none."""
        found = self.format_of(family, format)
        return None if found is None else self.forms[family][found]


def executed(bound: Bound, executions: Sequence[tuple[Scalar | float, Any]]) -> Scalar:
    """Seconds of a kernel for (repeats, shape) one after the other.

    Its derivative with respect to each number of the form and the accelerator is one sum over the executions, formed beside the time. (Left
    to itself, reverse mode keeps a dozen intermediate results of each execution, and is four times slower.)
    """
    kind = jnp.result_type(float)
    return _executed(
        bound,
        [
            jax.tree.map(lambda x: jnp.asarray(x, kind) if isinstance(x, float | int) else x, each)
            for each in executions
        ],
    )


@partial(
    jax.jit, inline=True
)  # traced once for all operators of a family; the compiled program is the same
def _seconds(bound: Bound, shape: Any) -> Scalar:
    return bound.form.level * bound.form.seconds(shape, bound.hardware)


def _total(bound: Bound, executions: list[tuple[Any, Any]]) -> Scalar:
    return sum(
        (repeats * bound.seconds(shape) for repeats, shape in executions), start=jnp.zeros(())
    )


@jax.custom_jvp
def _executed(bound: Bound, executions: list[tuple[Any, Any]]) -> Scalar:
    return _total(bound, executions)


def _executed_jvp(primals: Any, tangents: Any) -> tuple[Scalar, Scalar]:
    bound, executions = primals
    total = _executed(bound, executions)
    tangent = jnp.zeros_like(total)
    numbers, structure = jax.tree.flatten(bound)
    changes = jax.tree.leaves(tangents[0])
    varied = [index for index, change in enumerate(changes) if not isinstance(change, SymbolicZero)]
    if varied:

        def one(values: list[Scalar], execution: Any) -> Scalar:
            replaced = dict(zip(varied, values, strict=True))
            bound = jax.tree.unflatten(
                structure, [replaced.get(index, x) for index, x in enumerate(numbers)]
            )
            return execution[0] * bound.seconds(execution[1])

        values = [numbers[index] for index in varied]
        slopes = [jax.grad(one)(values, execution) for execution in executions]
        for index, position in enumerate(varied):
            slope = once(
                sum((each[index] for each in slopes), start=jnp.zeros(())), bound.hardware.launch
            )  # a latency: at most 1 s
            tangent = tangent + slope * changes[position]
    shapes, structure = jax.tree.flatten(executions)
    changes = jax.tree.leaves(tangents[1])
    moving = [index for index, change in enumerate(changes) if not isinstance(change, SymbolicZero)]
    if moving:  # gradients of models and workloads

        def across(moved: list[Scalar]) -> Scalar:
            replaced = dict(zip(moving, moved, strict=True))
            return _total(
                bound,
                jax.tree.unflatten(
                    structure, [replaced.get(index, x) for index, x in enumerate(shapes)]
                ),
            )

        tangent = (
            tangent
            + jax.jvp(
                across,
                ([shapes[index] for index in moving],),
                ([changes[index] for index in moving],),
            )[1]
        )
    return total, tangent


_executed.defjvp(_executed_jvp, symbolic_zeros=True)
