"""What all measured GPUs have in common, for those without measurements.

One set of parameters is fitted to a sample of every GPU's rows together. Their covariance is that
of the GPUs' own fits around it: how far a GPU that was never measured may be off.

How far that is depends on how near the GPU is to measured ones (`kernels.kind`). Each GPU is
predicted without its own rows (its siblings stay: "sibling"), and without its whole family (a
"relative", or a "stranger" where no other has its memory or wiring). Widths are what the intervals
of each kind must be multiplied by to hold four rows of five. Where few GPUs say so, other kernels'
widths say the rest.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from diffgenz.calibrating.fitting import CENTRAL_80, Errors, deviation, fit, predict
from diffgenz.calibrating.samples import Samples, shape_hash
from diffgenz.kernels.families import FAMILIES
from diffgenz.kernels.fits import KernelFit
from diffgenz.kernels.forms.last_level_cache import Cached
from diffgenz.kernels.kind import UNKNOWN, Kin, Kind
from diffgenz.kernels.selection import TRANSFERRED

FEWEST = 3
"""GPUs that are needed at least: two say too little of how far a third may be off."""

LEFT = 2
"""GPUs that must be left at least to predict others from."""

ROWS = 256
"""Rows of each GPU that is left out, by which the others' parameters are judged."""

POOL = 640
"""Rows of all GPUs together that are fitted to.

As many are taken of each, so that none counts more than another.
"""

STARTS = 16
"""Points that a fit to all GPUs starts from."""

COVERED = 0.8
"""Share of rows that an interval shall hold."""

TRUSTED = 1.0
"""GPUs that count as much as what all other kernels of the same room say of a width."""


class Measured(NamedTuple):
    """One kernel as measured on one accelerator.

    Arguments:
        system: id of the accelerator.
        samples: the cleaned rows.
        hardware: what they run on.
        fit: of these rows.
        kind: what the accelerator has in common with others.
    """

    system: str
    samples: Samples
    hardware: Any
    fit: KernelFit
    kind: Kind = UNKNOWN

    @property
    def plain(self) -> "Measured":
        """The same as if no operand had been in a last-level cache.

        Rows are scaled by what their fit says of the cache.
        """
        if not issubclass(self.samples.form, Cached):
            return self
        fits = self.fit, self.fit.plain
        times = (predict(each.fitted, self.samples.shape, self.hardware) for each in fits)
        with_cache, without = times
        samples = dataclasses.replace(
            self.samples,
            form=self.samples.form.plain,
            seconds=self.samples.seconds * without / with_cache,
        )
        return self._replace(samples=samples, fit=self.fit.plain)


class LeftOut(NamedTuple):
    """One accelerator, predicted from others.

    Arguments:
        system: its id.
        kin: how it is related to them.
        errors: of its rows.
        away: |ln(measured / predicted)| over half the width of the interval, (rows,).
    """

    system: str
    kin: Kin
    errors: Errors
    away: np.ndarray

    def coverage(self, width: float) -> float:
        """The share of its rows within the interval, multiplied by `width`."""
        return float(np.mean(self.away <= width))

    def described(self, width: float) -> str:
        """How well it is predicted, with intervals multiplied by `width`, for people."""
        shares = [100 * self.coverage(each) for each in (width, 1.0)]
        return (
            f"{self.system} as a {self.kin.value}: {100 * self.errors.mean:.1f} % off, "
            f"{shares[0]:.0f} % in 80 % intervals ({width:.2f} times as wide; {shares[1]:.0f} % in "
            "those as they were)"
        )


def transferred(
    measured: Iterable[Measured], told: Callable[[str], None] | None = None
) -> list[KernelFit]:
    """A fit for each family and format that at least `FEWEST` accelerators were measured in.

    Arguments:
        measured: kernels of all accelerators.
        told: called with how well each accelerator is predicted from others, in words.
    """
    groups = grouped(measured)
    common = [_common(pooled_of(group)) for group in groups]
    left_out = [
        list(predictions(pooled_of(group), whole))
        for group, whole in zip(groups, common, strict=True)
    ]
    parts = zip(groups, common, left_out, widths_of(groups, left_out), strict=True)
    found = []
    for group, whole, own, widths in parts:
        found.append(_transferred(pooled_of(group), whole, own, widths))
        found += [_alone(each, found[-1]) for each in group if not _is_in(each, pooled_of(group))]
        if told is not None:
            for each in own:
                told(f"{whole.family} {whole.format} {each.described(widths[each.kin.value])}")
    return found


def pooled_of(group: list[Measured]) -> list[Measured]:
    """The members that are fitted together: of collectives, those with the wiring of most.

    A pool of links hardly feels one GPU on PCIe: its collectives stay 50 % off.
    """
    if not is_network(group):
        return group
    wirings = [each.kind.wiring for each in group]
    most = max(wirings, key=wirings.count)
    return [each for each in group if each.kind.wiring == most]


def _alone(each: Measured, whole: KernelFit) -> KernelFit:
    """What one accelerator of another wiring says of others with it.

    How far they may be from it is taken to be how far those of most wiring are from each other.
    """
    return dataclasses.replace(
        each.fit,
        source=TRANSFERRED,
        kernel=f"{each.system} {each.samples.source}",
        covariance=each.fit.covariance + whole.covariance,
        among=(str(each.kind),),
        widths=whole.widths,
    )


def grouped(measured: Iterable[Measured]) -> list[list[Measured]]:
    """The measurements of each family and format: one for each accelerator, all of one form."""
    groups: dict[tuple[str, str], dict[str, Measured]] = {}
    for each in measured:
        group = groups.setdefault((each.samples.family, each.samples.format), {})
        group.setdefault(each.system, each.plain)
    alike = (_of_one_form(list(group.values())) for group in groups.values())
    return [group for group in alike if len(group) >= FEWEST]


def _of_one_form(group: list[Measured]) -> list[Measured]:
    """The members whose form most of them have."""
    forms = [each.samples.form for each in group]
    common = max(forms, key=forms.count)
    return [each for each in group if each.samples.form is common]


def predictions(group: list[Measured], whole: KernelFit) -> Iterator[LeftOut]:
    """Each member of a group, predicted without itself, and without its whole family.

    Arguments:
        group: the members that are fitted together.
        whole: what they have in common.
    """
    families: dict[str, list[int]] = {}
    for index, each in enumerate(group):
        of_network = is_network(group)
        nearest = (
            name
            for name, members in families.items()
            if each.kind.kin([group[members[0]].kind], of_network=of_network) is Kin.SIBLING
        )
        families.setdefault(next(nearest, each.system), []).append(index)
    for members in families.values():
        if len(members) > 1:
            for index in members:
                yield from left_out_of(group, [index], whole)
        yield from left_out_of(group, members, whole)


def left_out_of(group: list[Measured], members: list[int], whole: KernelFit) -> Iterator[LeftOut]:
    """The members with these indices, predicted from the rest of the group.

    Intervals are those that the rest expects. A stranger's are those of the whole group: the fit
    that is shipped knows of it, and others like it may be as far from the rest as it is.
    """
    left = [group[index] for index in members]
    rest = [each for index, each in enumerate(group) if index not in members]
    if len(rest) < LEFT:
        return
    others, network = _common(rest), is_network(group)
    kinds = [each.kind for each in rest]
    for each in left:
        rows, kin = each.samples.only(_some(each.samples)), each.kind.kin(kinds, of_network=network)
        expected = others
        if kin is Kin.STRANGER:
            known = whole.covariance, whole.scatter
            expected = dataclasses.replace(others, covariance=known[0], scatter=known[1])
        seconds = predict(others.fitted, rows.shape, each.hardware)
        half = CENTRAL_80 * deviation(expected, rows.shape, each.hardware)
        away = np.abs(np.log(rows.seconds / seconds)) / half
        yield LeftOut(each.system, kin, Errors.of(seconds, rows.seconds), away)


def _is_in(each: Measured, group: Sequence[Measured]) -> bool:
    return any(each is other for other in group)


def is_network(group: Sequence[Measured]) -> bool:
    """Whether wires, not memory, set the pace of a group's kernels."""
    return FAMILIES[group[0].samples.family].kind == "network"


def widths_of(
    groups: Sequence[Sequence[Measured]], left_out: Sequence[Sequence[LeftOut]]
) -> list[dict[str, float]]:
    """By what the intervals of each group must be multiplied, by kin.

    It is the geometric mean of what its own left-out accelerators need and what those of all other
    groups of its room (compute, network) need, with weights as `TRUSTED` says. A more distant kin
    never needs less.
    """
    needed: dict[tuple[bool, Kin], list[tuple[int, float, int]]] = defaultdict(list)
    for index, (group, own) in enumerate(zip(groups, left_out, strict=True)):
        for kin in Kin:
            parts = [each.away for each in own if each.kin is kin]
            if parts:
                width = float(np.log(_quantile(parts)))
                needed[is_network(group), kin].append((index, width, len(parts)))
    found = []
    for index, group in enumerate(groups):
        logs, nearer = {}, -np.inf
        for kin in Kin:
            known = needed[is_network(group), kin] or needed[not is_network(group), kin]
            others = [width for at, width, _ in known if at != index]
            own = [(width, count) for at, width, count in known if at == index]
            pulls = [(float(np.median(others)), TRUSTED)] if others else []
            pulls += own if is_network(group) == is_network(groups[index]) else []
            if pulls:
                values, weights = zip(*pulls, strict=True)
                nearer = max(nearer, float(np.average(values, weights=weights)))
            logs[kin.value] = max(nearer, 0.0) if np.isinf(nearer) else nearer
        found.append({kin: float(np.exp(log)) for kin, log in logs.items()})
    return found


def _quantile(parts: Sequence[np.ndarray]) -> float:
    """The quantile `COVERED` of all parts, each of which counts as much as another."""
    values = np.concatenate(parts)
    weights = np.concatenate([np.full(len(part), 1 / len(part)) for part in parts])
    order = np.argsort(values)
    shares = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][np.searchsorted(shares, COVERED)])


def _transferred(
    group: list[Measured],
    whole: KernelFit,
    left_out: Sequence[LeftOut],
    widths: dict[str, float],
) -> KernelFit:
    """What `group` has in common, with the errors of leaving each member out."""
    judged = {each.system: each for each in left_out if each.kin is not Kin.SIBLING}
    judged |= {each.system: each for each in left_out if each.system not in judged}
    errors = [each.errors for each in judged.values()]
    covered = [each.coverage(widths[each.kin.value]) for each in left_out]
    return dataclasses.replace(
        whole,
        mean_error=float(np.mean([each.mean for each in errors])),
        median_error=float(np.mean([each.median for each in errors])),
        held_out=sum(each.rows for each in errors),
        coverage=float(np.mean(covered)),
        among=tuple(str(each.kind) for each in group),
        widths=widths,
    )


def _common(group: Sequence[Measured]) -> KernelFit:
    """What `group` has in common, and how far its members are from it."""
    pooled = _pooled(group)
    own = np.stack([np.asarray(each.fit.fitted.free, float) for each in group])
    free = [name not in pooled.form.steady for name in pooled.values]
    away = (own - np.asarray(pooled.fitted.free, float)) * free
    return dataclasses.replace(
        pooled,
        source=TRANSFERRED,
        kernel=", ".join(f"{each.system} {each.samples.source}" for each in group),
        covariance=pooled.covariance + away.T @ away / max(len(group) - 1, 1),
        scatter=float(np.sqrt(np.mean([each.fit.scatter**2 for each in group]))),
    )


def _pooled(group: Sequence[Measured]) -> KernelFit:
    """One fit to some rows of all; the hardware is then a column for each of its numbers."""
    parts = [each.samples.only(_some(each.samples, POOL // len(group))) for each in group]
    counts = [len(part) for part in parts]
    columns = zip(*(part.shape for part in parts), strict=True)
    numbers = zip(*(each.hardware for each in group), strict=True)
    shape = type(parts[0].shape)(*map(np.concatenate, columns))
    hardware = type(group[0].hardware)(
        *(np.repeat(np.asarray(each, float), counts) for each in numbers)
    )
    seconds = np.concatenate([part.seconds for part in parts])
    pooled = dataclasses.replace(parts[0], shape=shape, seconds=seconds, dropped={})
    return fit(pooled, hardware, starts=STARTS, held=pooled.form.steady)


def _some(samples: Samples, rows: int = ROWS) -> np.ndarray:
    """Indices of up to `rows` rows: the same shapes on every accelerator that has them."""
    return np.argsort(shape_hash(samples.shape))[:rows]
