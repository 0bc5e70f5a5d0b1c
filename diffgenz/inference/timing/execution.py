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
from diffgenz.core.tree import Tree
from diffgenz.hardware.accelerator import Accelerator
from diffgenz.inference.padded_experts import Tile, expert_tiles
from diffgenz.kernels.families import EXCHANGES, format_known_by
from diffgenz.kernels.form import Form
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.library import Library
from diffgenz.kernels.relatives import misfit
from diffgenz.operators.layer_format import DTYPE, LINEAR
from diffgenz.operators.precision import Precision


class Execution(Tree):
    """The peaks and the fitted kernels that one precision selects on one accelerator.

    Arguments:
        linear: FLOP/s of linear layers; None where it is `wide`.
        wide: FLOP/s of what stays in dtype (attention, LM head).
        own: FLOP/s of linear layers whose formats are their own (`Precision.modules`).
        forms: fitted forms of kernels, each once.
        places: which of `forms` times a family in the formats of a part of the model.
        collectives: fitted collectives by name, "all_reduce" and "all_gather".
        exchanges: fitted dispatch and combine by DeepEP's mode.
        tiles: what experts are padded to, by the part of the model whose formats they are in.
    """

    linear: Leaf | None
    wide: Leaf
    own: dict[str, Leaf]
    forms: tuple[Form, ...]
    places: tuple[tuple[tuple[str, str], int], ...] = eqx.field(static=True)
    collectives: dict[str, Form]
    exchanges: dict[str, tuple[Form, Form]]
    tiles: dict[str, Tile]

    @classmethod
    def of(cls, accelerator: Accelerator, precision: Precision, experts: bool = True) -> Self:
        """What `precision` selects of `accelerator`.

        Arguments:
            accelerator: what executes it.
            precision: the formats.
            experts: whether the model has any.

        Raises:
            InputError: the accelerator does not multiply one of the formats.
        """
        wide = accelerator.peak(precision.attention_peak)
        linear = None
        if precision.linear_peak != precision.attention_peak:
            linear = accelerator.peak(precision.linear_peak)
        library = accelerator.kernels or Library({})
        own = {
            part: accelerator.peak(formats.peak)
            for part, formats in precision.parts.items()
            if part != LINEAR
        }
        forms: list[Form] = []
        places: dict[tuple[str, str], int] = {}
        for part in (*precision.parts, DTYPE):
            for family in sorted(library.forms):  # one order, one structure
                form = library.form(family, kernel_format(family, part, precision))
                if form is None or form.hardware is not Chip:
                    continue
                found = [index for index, each in enumerate(forms) if each is form]
                places[family, part] = found[0] if found else len(forms)
                forms += [] if found else [form]
        messages = {"all_reduce": precision.messages, "all_gather": precision.dtype}
        collectives = {name: library.form(name, format) for name, format in messages.items()}
        fitted = {name: form for name, form in collectives.items() if form is not None}
        exchanges = _exchanges(library)
        tiles = expert_tiles(accelerator, precision) if experts else {}
        return cls(linear, wide, own, tuple(forms), tuple(places.items()), fitted, exchanges, tiles)

    @property
    def kernels(self) -> dict[tuple[str, str], Form]:
        """Fitted forms by family, and by the part of the model whose formats they are known by.

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


def kernel_format(family: str, part: str, precision: Precision) -> str:
    """The format by which the kernels of a family are known.

    Arguments:
        family: the family of kernels.
        part: the part of the model in whose formats they run (`Operator.part`).
        precision: the formats in use.
    """
    own = precision.dtype if part == DTYPE else precision.parts[part].known_as
    return format_known_by(family, own, dtype=precision.dtype, cache=precision.kv_cache)


def kernels_in_use(library: Library, precisions: Sequence[Precision]) -> Library:
    """The part of `library` that times operators and messages in these formats.

    Arguments:
        library: fitted kernels by family and format.
        precisions: the formats in use.
    """
    exchanges = {family for families in EXCHANGES.values() for family in families}
    asked = [(part, each) for each in precisions for part in (*each.parts, DTYPE)]
    messages = {precision.messages for precision in precisions}
    kept: dict[str, dict[str, Form]] = {}
    for family, forms in library.forms.items():
        wanted = {kernel_format(family, part, precision) for part, precision in asked}
        used = {library.format_of(family, format) for format in wanted | messages}
        if family in exchanges:  # one fit stands for all formats
            used.add(next(iter(forms)))
        own = {format: form for format, form in forms.items() if format in used}
        if own:
            kept[family] = own
    return with_parts(library, {"forms": kept})


def misfits(library: Library, precision: Precision) -> dict[tuple[str, str], float]:
    """How far kernels that stand in for another format may be off, by family and their own format.

    Arguments:
        library: fitted kernels by family and format.
        precision: the formats in use.

    Returns:
        Standard deviations of ln(measured / predicted), of those that stand in for any.
    """
    found: dict[tuple[str, str], float] = {}
    for part in (*precision.parts, DTYPE):
        for family in library.forms:
            format = kernel_format(family, part, precision)
            taken = library.format_of(family, format)
            off = 0.0 if taken is None else misfit(family, format, taken)
            if taken is not None and off > found.get((family, taken), 0.0):
                found[family, taken] = off
    return found


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
