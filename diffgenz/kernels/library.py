"""The fitted kernels of an accelerator, and the same bound to it in the formats of one precision."""

from typing import NamedTuple

import equinox as eqx

from diffgenz.kernels.form import Chip, Form, Timer
from diffgenz.record import Record

RELATIVES = {
    "fp16": ("bf16",),
    "tf32": ("bf16",),
    "fp32": ("bf16",),
    "mxfp8": ("fp8_block", "fp8"),
    "fp8": ("fp8_block",),
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
    """A form and the accelerator it runs on, in one format."""

    form: Form
    chip: Chip

    @property
    def timer(self) -> Timer:
        """The form bound to the accelerator."""
        return self.form.on(self.chip)


class Library(Record):
    """An accelerator's kernels: forms by family ("gemm", "decode", ...) and format, and where they come from.

    Arguments:
        forms: by family and format ("fp8", or "weights/activations" where they differ); families without formats have one called "any".
        origin: of the fits, for people.
    """

    forms: dict[str, dict[str, Form]]
    origin: str = eqx.field(static=True, default="")

    def form(self, family: str, format: str) -> Form | None:
        """The form of a family in `format`, or in its nearest relative; None where there is none."""
        forms = self.forms.get(family, {})
        activations = format.partition("/")[2]
        names = (format, *RELATIVES.get(format, ()), *([activations, *RELATIVES.get(activations, ())] if activations else ()), "any")
        return next((forms[name] for name in names if name in forms), None)
