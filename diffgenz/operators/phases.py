"""A routing for prompts and another for generated tokens, and routings of one structure.

    PerPhase(Traced(rows=1.9, far=0.8), Traced(rows=1.6, far=0.9))

Prompts fill other ranks than generated tokens do: the tokens of a prompt resemble each other, and
come by the thousand. Experts are where they are in both.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from diffgenz.core import xp
from diffgenz.core.checks import Condition
from diffgenz.core.errors import InputError
from diffgenz.core.record import numbers_of
from diffgenz.core.smooth import Scalar
from diffgenz.operators.routing import (
    LayerRouting,
    PerKind,
    PowerLaw,
    Routing,
    StepRouting,
    Traced,
    Uniform,
)


class PerPhase(Routing):
    """A routing of the iterations that compute prompts, and one of those that generate tokens.

    Iterations that do both have the mean of their numbers by tokens. If both are equal, an estimate
    is that of the one, bit for bit.

    Arguments:
        prefill: the routing of prompts.
        decode: the routing of generated tokens.

    Raises:
        InputError: they tell different kinds of layers apart, differ in replicas, or have no mean.
    """

    prefill: StepRouting
    decode: StepRouting

    def conditions(self) -> Iterable[Condition]:
        told = [each.kinds_told for each in (self.prefill, self.decode)]
        if None not in told and told[0] != told[1]:
            raise InputError(
                f"decode: tells {told[1]} kinds of layers apart, prefill {told[0]}; give both a "
                "routing for each kind, or one for all"
            )
        for kind in range(self.kinds_told or 1):
            both = self.prefill.of_kind(kind), self.decode.of_kind(kind)
            if {type(each) for each in both} == {PowerLaw, Traced}:
                raise InputError(
                    "decode: a power law and the numbers of a trace have no mean, which iterations "
                    "of both phases have; give both phases the one or the other"
                )
            slots = [_slots(each) for each in both]
            if None not in slots and slots[0] != slots[1]:
                raise InputError(
                    f"slots: {slots[1]:g} in decode are not the {slots[0]:g} in prefill; experts "
                    "have the same replicas in both"
                )
        return ()

    @property
    def kinds_told(self) -> int | None:
        found = self.prefill.kinds_told
        return self.decode.kinds_told if found is None else found

    def in_prefill(self) -> StepRouting:
        return self.prefill

    def in_decode(self) -> StepRouting:
        return self.decode

    def in_both(self, prompts: Scalar, generated: Scalar) -> StepRouting:
        one, other = alike((self.prefill, self.decode))
        share = generated / (prompts + generated)
        return jax.tree.map(lambda x, y: x + share * (y - x), one, other)

    def of_last_kind(self) -> Routing:
        return PerPhase(self.prefill.of_kind(-1), self.decode.of_kind(-1))


def _slots(routing: LayerRouting) -> float | None:
    """Slots over experts; None where that is not one known number."""
    copies = routing.copies
    if copies is None:
        return 1.0
    known = isinstance(copies, np.ndarray | np.generic | float) and np.ndim(copies) == 0
    return float(copies) if known else None


def alike(routings: Sequence[Any]) -> tuple[Any, ...]:
    """Some routings in one structure: what one of them tells, all tell.

    Numbers that another leaves out are those of uniform routing, as numbers. Labels are left out.

    Arguments:
        routings: one or several; not power laws beside numbers of traces.
    """
    kinds = {type(each) for each in routings}
    if PerPhase in kinds:
        prefill = alike([each.in_prefill() for each in routings])
        decode = alike([each.in_decode() for each in routings])
        pairs = zip(prefill, decode, strict=True)
        return tuple(_unchecked(PerPhase, prefill=one, decode=other) for one, other in pairs)
    if PerKind in kinds:
        count = next(each.kinds_told for each in routings if each.kinds_told is not None)
        columns = [alike([each.of_kind(kind) for each in routings]) for kind in range(count)]
        return tuple(_unchecked(PerKind, kinds=row) for row in zip(*columns, strict=True))
    if kinds == {Uniform}:
        return tuple(routings)
    (record,) = kinds - {Uniform}
    told = {
        name: about.off or 0.0
        for name, about in numbers_of(record).items()
        if any(getattr(each, name, None) is not None for each in routings)
    }
    return tuple(_told(each, record, told) for each in routings)


def _told(routing: LayerRouting, record: type, numbers: dict[str, float]) -> LayerRouting:
    """The routing with all these numbers: its own, or those of uniform routing.

    Arguments:
        routing: `Uniform`, or of the class `record`.
        record: the class to make.
        numbers: by field, what uniform routing has.
    """
    fields: dict[str, Any] = {name: None for name in numbers_of(record)}
    for name, off in numbers.items():
        own = getattr(routing, name, None)
        fields[name] = xp.asarray(off, float) if own is None else own
    if record is Traced:
        fields["note"] = ""
    return _unchecked(record, **fields)


def _unchecked(record: type, **fields: Any) -> Any:
    """A record of checked parts."""
    made = object.__new__(record)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made
