"""How an accelerator executes a precision: the peaks and fitted kernels that its formats select.

Formats are names, and names are structure. They select numbers here, before anything is compiled;
what is computed afterwards knows no format by name. Precisions that select kernels of the same
forms therefore share a program.
"""

import dataclasses
from collections.abc import Sequence
from typing import Self

import equinox as eqx

from diffgenz.core.leaves import with_parts
from diffgenz.core.smooth import Leaf
from diffgenz.hardware.accelerator import Accelerator
from diffgenz.kernels.families import EXCHANGES, format_known_by
from diffgenz.kernels.form import Form
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.library import Library, nearest_format
from diffgenz.operators.precision import Precision


class Execution(eqx.Module):
    """The peaks and the fitted kernels that one precision selects on one accelerator.

    Arguments:
        linear: FLOP/s of linear layers; None where it is `wide`.
        wide: FLOP/s of what stays in dtype (attention, LM head).
        forms: fitted forms of kernels, each once.
        places: which of `forms` times a family, and whether as kernels of linear layers.
        collectives: fitted collectives by name, "all_reduce" and "all_gather".
        exchanges: fitted dispatch and combine by DeepEP's mode.
    """

    linear: Leaf | None
    wide: Leaf
    forms: tuple[Form, ...]
    places: tuple[tuple[tuple[str, bool], int], ...] = eqx.field(static=True)
    collectives: dict[str, Form]
    exchanges: dict[str, tuple[Form, Form]]

    @classmethod
    def of(cls, accelerator: Accelerator, precision: Precision) -> Self:
        """What `precision` selects of `accelerator`.

        Raises:
            InputError: the accelerator does not multiply one of the formats.
        """
        wide = accelerator.peak(precision.attention_peak)
        linear = None
        if precision.linear_peak != precision.attention_peak:
            linear = accelerator.peak(precision.linear_peak)
        library = accelerator.kernels or Library({})
        forms: list[Form] = []
        places: dict[tuple[str, bool], int] = {}
        for is_linear in (True, False):
            for family in sorted(library.forms):  # one order, one structure
                form = library.form(family, kernel_format(family, is_linear, precision))
                if form is None or form.hardware is not Chip:
                    continue
                found = [index for index, each in enumerate(forms) if each is form]
                places[family, is_linear] = found[0] if found else len(forms)
                forms += [] if found else [form]
        messages = {"all_reduce": precision.messages, "all_gather": precision.dtype}
        collectives = {name: library.form(name, format) for name, format in messages.items()}
        fitted = {name: form for name, form in collectives.items() if form is not None}
        exchanges = _exchanges(library)
        return cls(linear, wide, tuple(forms), tuple(places.items()), fitted, exchanges)

    @property
    def kernels(self) -> dict[tuple[str, bool], Form]:
        """Fitted forms by family, and by whether they are those of linear layers.

        The roofline times an operator that has none.
        """
        return {key: self.forms[place] for key, place in self.places}

    @property
    def smooth(self) -> Self:
        """The same with kernels that are smooth in rows and tokens (`Scenario.smooth_batch`)."""
        forms = tuple(with_parts(form, {"smooth": True}) for form in self.forms)
        return dataclasses.replace(self, forms=forms)

    @property
    def explicit(self) -> Self:
        """The same with `linear` a number: precisions of one and of two peaks share a structure."""
        return dataclasses.replace(self, linear=self.linear_peak)

    @property
    def linear_peak(self) -> Leaf:
        """FLOP/s of linear layers."""
        return self.wide if self.linear is None else self.linear


def kernel_format(family: str, is_linear: bool, precision: Precision) -> str:
    """The format by which the kernels of a family are known.

    Arguments:
        family: the family of kernels.
        is_linear: whether they run in the formats of linear layers.
        precision: the formats in use.
    """
    linear, dtype, cache = precision.linear_format, precision.dtype, precision.kv_cache
    return format_known_by(family, is_linear, linear=linear, dtype=dtype, cache=cache)


def kernels_in_use(library: Library, precisions: Sequence[Precision]) -> Library:
    """The part of `library` that times operators and messages in these formats.

    Arguments:
        library: fitted kernels by family and format.
        precisions: the formats in use.
    """
    exchanges = {family for families in EXCHANGES.values() for family in families}
    asked = {
        (is_linear, precision.linear_format, precision.dtype, precision.kv_cache)
        for precision in precisions
        for is_linear in (True, False)
    }
    messages = {precision.messages for precision in precisions}
    kept: dict[str, dict[str, Form]] = {}
    for family, forms in library.forms.items():
        wanted = {
            format_known_by(family, is_linear, linear=linear, dtype=dtype, cache=cache)
            for is_linear, linear, dtype, cache in asked
        }
        used = {nearest_format(forms, family, format) for format in wanted | messages}
        if family in exchanges:  # one fit stands for all formats
            used.add(next(iter(forms)))
        own = {format: form for format, form in forms.items() if format in used}
        if own:
            kept[family] = own
    return with_parts(library, {"forms": kept})


def fitted_exchanges(library: Library) -> list[tuple[str, str]]:
    """The families of exchanges that a library has fits of.

    Returns:
        Each family, and the format of the messages that it was fitted to; it times messages of any
        format.
    """
    families = (family for families in EXCHANGES.values() for family in families)
    return [(each, next(iter(library.forms[each]))) for each in families if library.forms.get(each)]


def _exchanges(library: Library) -> dict[str, tuple[Form, Form]]:
    """Dispatch and combine of the modes that a library has both of."""
    fitted = dict(fitted_exchanges(library))
    found = {}
    for mode, (dispatch, combine) in EXCHANGES.items():
        if dispatch in fitted and combine in fitted:
            pair = (library.forms[name][fitted[name]] for name in (dispatch, combine))
            found[mode] = tuple(pair)
    return found
