"""The base of every record of numbers, and its fields: each states its unit and bounds once.

    class Level(Record):
        name: str = label()
        size: Leaf = number(at_least=1, whole="accelerators", structure=True)
        bandwidth: Leaf = number("B/s", above=0)
        price: Leaf | None = number("USD/s", default=None)

Building a `Level` converts the numbers to float arrays and checks them; sweeps, tables and units
read the same fields (`numbers_of`).
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self, dataclass_transform, get_args, get_origin

import equinox as eqx
import numpy as np

from diffgenz.core import xp
from diffgenz.core.checks import Condition, check, check_whole, checking, demand, enforce, within
from diffgenz.core.errors import unknown
from diffgenz.core.reprs import text_of_record
from diffgenz.core.smooth import as_leaf
from diffgenz.core.tree import Tree


@dataclasses.dataclass(frozen=True)
class Number:
    """What a field of a record may hold.

    Arguments:
        unit: SI, "1" for counts and shares.
        minimum, maximum, exclusive, finite, remedy: as in `checks.check`.
        whole: what is counted, where only whole numbers make sense; else "".
        structure: whether it is structure, of which estimates have no derivative.
        off: what means the same as None, where it may be None and has such a value.
    """

    unit: str
    minimum: float
    maximum: float
    exclusive: bool
    finite: bool
    whole: str
    structure: bool
    remedy: str
    off: float | None = None

    def check(self, field: str, value: Any) -> None:
        """Raise `InputError` unless `value`, called `field`, is in bounds. Traced values pass."""
        if isinstance(value, Mapping):
            for key, each in value.items():
                self.check(f"{field}[{key}]", each)
        elif isinstance(value, tuple):
            for each in value:
                self.check(field, each)
        elif value is not None:
            check(
                field,
                value,
                minimum=self.minimum,
                maximum=self.maximum,
                exclusive=self.exclusive,
                finite=self.finite,
                remedy=self.remedy,
            )
            if self.whole:
                check_whole(field, value, self.whole)

    def holds(self, value: Any) -> Any:
        """Whether `value`, which may be traced, is in bounds."""
        good = within(
            value,
            minimum=self.minimum,
            maximum=self.maximum,
            exclusive=self.exclusive,
            finite=self.finite,
        )
        return good & (value == xp.floor(value)) if self.whole else good


def number(
    unit: str = "1",
    *,
    above: float | None = None,
    at_least: float = 0.0,
    at_most: float = np.inf,
    finite: bool = True,
    whole: str = "",
    structure: bool = False,
    off: float | None = None,
    remedy: str = "",
    default: Any = dataclasses.MISSING,
) -> Any:
    """A field for a number, or for a dict or tuple of them.

    Arguments:
        unit: SI; "1" for counts and shares.
        above: values must exceed this; takes the place of `at_least`.
        at_least, at_most: values must lie between these.
        finite: whether infinity is refused.
        whole: what is counted, where only whole numbers make sense.
        structure: whether estimates have no derivative with respect to it.
        off: of a number that may be None, the plain Python number that means the same as None:
            nothing of the option is compiled. (An array of that value is an option in use.)
        remedy: what an error proposes.
        default: where it is left out; None: it may be None, an option that is not in use.
    """
    minimum = at_least if above is None else above
    exclusive = above is not None
    about = Number(unit, minimum, at_most, exclusive, finite, whole, structure, remedy, off)
    rest = {} if default is dataclasses.MISSING else {"default": default}
    converter = functools.partial(_as_leaves, off=off)
    return eqx.field(converter=converter, metadata={"number": about}, **rest)


def _as_leaves(x: Any, off: float | None = None) -> Any:
    if x is None or (type(x) in (int, float) and x == off):
        return None
    if isinstance(x, Mapping):
        return {key: as_leaf(value) for key, value in x.items()}
    return tuple(as_leaf(each) for each in x) if isinstance(x, tuple) else as_leaf(x)


def label(**given: Any) -> Any:
    """A field for what people call a record: text that no number depends on.

    `unnamed` leaves it out, so that records which differ in it alone share a compiled program.
    """
    return eqx.field(static=True, metadata={"label": True}, **given)


@functools.cache
def numbers_of(record: type) -> dict[str, Number]:
    """The number fields of a class of records, by name."""
    fields = dataclasses.fields(record) if dataclasses.is_dataclass(record) else ()
    return {f.name: f.metadata["number"] for f in fields if "number" in f.metadata}


@functools.cache
def _records_in(record: type) -> dict[str, tuple[type, ...]]:
    """The fields of a class of records that hold records, or tuples of them, and their classes."""
    found = {}
    for each in dataclasses.fields(record):
        kind = each.type
        if get_origin(kind) is tuple:
            kind = get_args(kind)[0]
        kinds = get_args(kind) or (kind,)
        if all(isinstance(k, type) and issubclass(k, (eqx.Module, type(None))) for k in kinds):
            found[each.name] = kinds
    return found


if TYPE_CHECKING:
    from equinox._module._module import _ModuleMeta

    @dataclass_transform(field_specifiers=(number, label, eqx.field, dataclasses.field))
    class _Fields(_ModuleMeta):
        """Tells type checkers that `number` and `label` are fields."""

        def __hash__(cls) -> int: ...

else:
    _Fields = type(Tree)


class Record(Tree, metaclass=_Fields):
    """An immutable record whose checks run whenever it is built, also by `replace`."""

    def conditions(self) -> Iterable[Condition]:
        """What must hold of its numbers together; those of parts are the parts' own."""
        return ()

    def __check_init__(self):
        if not checking():
            return
        for name, kinds in _records_in(type(self)).items():
            value = getattr(self, name)
            for each in value if isinstance(value, tuple) else (value,):
                demand(name, each, kinds, getattr(kinds[0], "written", f"{kinds[0].__name__}(...)"))
        for name, about in numbers_of(type(self)).items():
            about.check(name, getattr(self, name))
        enforce(self.conditions())

    def __repr__(self) -> str:
        return text_of_record(self, {name: n.unit for name, n in numbers_of(type(self)).items()})

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed, checked like a new one.

        (`eqx.tree_at` and `jax.tree.map` skip the checks.)

        Raises:
            InputError: an unknown field, or a value the record refuses.
        """
        fields = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in fields:
                raise unknown(f"{type(self).__name__} field", name, fields)
        return dataclasses.replace(self, **changes)


def unnamed(record: Any) -> Any:
    """The record without its labels: records of one structure then share a compiled program."""
    if isinstance(record, tuple) and not hasattr(record, "_fields"):
        return tuple(unnamed(part) for part in record)
    if not isinstance(record, Record):
        return record
    copy = object.__new__(type(record))
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if field.metadata.get("label"):
            value = _nothing_of(value)
        object.__setattr__(copy, field.name, unnamed(value))
    return copy


def _nothing_of(label: Any) -> Any:
    """What stands in the place of a label that is left out."""
    if isinstance(label, str):
        return ""
    return () if type(label) is tuple else None


def conditions_within(record: Any) -> list[Condition]:
    """The conditions of a record and of all records in it."""
    if isinstance(record, tuple):
        return [each for part in record for each in conditions_within(part)]
    if not isinstance(record, Record):
        return []
    own = list(record.conditions())
    parts = [conditions_within(getattr(record, field.name)) for field in dataclasses.fields(record)]
    return own + [each for part in parts for each in part]
