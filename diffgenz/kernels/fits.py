"""Fit files: calibration/fits/*.toml, and those that `diffgenz calibrate` writes.

A file holds the fits of one accelerator, one [[fit]] table for each family, format and kernel of
each software. It is read without JAX tracing. `kernels.selection` takes one for each kernel.
"""

import dataclasses
import functools
import json
from collections.abc import Collection
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import numpy as np

from diffgenz.core.errors import InputError, unknown
from diffgenz.core.files import read_toml, written_aside
from diffgenz.kernels.families import FAMILIES, FORMS, family_named
from diffgenz.kernels.form import Form
from diffgenz.kernels.forms.attention_prefill import Prefill
from diffgenz.kernels.forms.last_level_cache import Cached, cached
from diffgenz.kernels.kind import Kind

VERSION = 1
"""Version of the file's layout."""


@dataclasses.dataclass(frozen=True)
class KernelFit:
    """A fitted form, what it was fitted to, and how well it is known.

    Arguments:
        family, format, source, kernel, form: as in `Samples`.
        values: each parameter.
        covariance: covariance of the unbounded parameters (`Form.free`).
        learned: 1 - posterior / prior variance of each parameter, in [0, 1].
        scatter: standard deviation of ln(measured / model).
        rows: how many rows were fitted.
        dropped: how many rows were left out, by reason.
        data: hash of what was fitted.
        mean_error: mean relative error of held-out rows.
        median_error: median relative error of held-out rows.
        held_out: how many rows were held out.
        coverage: share of held-out rows in their nominal 80 % interval.
        among: of what all measured accelerators have in common, the kind of each (`Kind`).
        widths: of the same, by what the standard deviations of another accelerator are multiplied,
            by how it is related to them (`Kin`).
    """

    family: str
    format: str
    source: str
    kernel: str
    form: type[Form]
    values: dict[str, float]
    covariance: np.ndarray
    learned: dict[str, float]
    scatter: float
    rows: int
    dropped: dict[str, int]
    data: str
    mean_error: float
    median_error: float
    held_out: int
    coverage: float
    among: tuple[str, ...] = ()
    widths: dict[str, float] = dataclasses.field(default_factory=dict)

    def on(self, kind: Kind) -> Self:
        """The fit as it is known on an accelerator that was not measured.

        Arguments:
            kind: of the accelerator.
        """
        if not self.widths:
            return self
        network = FAMILIES[self.family].kind == "network"
        kin = kind.kin([Kind.read(each) for each in self.among], of_network=network)
        width = self.widths[kin.value]
        return dataclasses.replace(
            self, covariance=width**2 * self.covariance, scatter=width * self.scatter
        )

    @functools.cached_property
    def fitted(self) -> Form:
        """The form with its values."""
        return self.form(**self.values)

    @property
    def plain(self) -> Self:
        """The fit of the form without its last-level cache, as estimates take it.

        What an inference step reads, it reads for the first time. Only prompts keep the cache: the
        products before have just written their queries, keys and values.
        """
        if not issubclass(self.form, Cached) or issubclass(self.form, Prefill):
            return self
        form, kept = self.form.plain, len(self.form.plain.priors())
        values = {name: self.values[name] for name in form.priors()}
        return dataclasses.replace(
            self, form=form, values=values, covariance=self.covariance[:kept, :kept]
        )

    @property
    def software(self) -> str:
        """The source without its version."""
        return self.source.partition("-")[0]

    @property
    def standard_errors(self) -> dict[str, float]:
        """Relative standard error of each parameter."""
        spreads = np.sqrt(np.diag(self.covariance))
        maxima = (prior.maximum for prior in self.form.priors().values())
        return {
            name: float(spread * (1 - self.values[name] / most))
            for name, spread, most in zip(self.values, spreads, maxima, strict=True)
        }

    @property
    def unseen(self) -> list[dict[str, float]]:
        """Directions that the data narrow by less than half, in variance.

        Each is the weights of the parameters that matter in it, in prior standard deviations.
        """
        spreads = np.array([prior.spread for prior in self.form.priors().values()])
        shares, directions = np.linalg.eigh(self.covariance / np.outer(spreads, spreads))
        names = list(self.values)
        return [
            {
                names[index]: float(direction[index])
                for index in np.argsort(-np.abs(direction))
                if abs(direction[index]) > 0.3
            }
            for share, direction in zip(shares, directions.T, strict=True)
            if share > 0.5
        ]


def write_fits(path: Path, system: str, fits: list[KernelFit], how: str) -> None:
    """Write the fits of an accelerator to a file.

    Arguments:
        path: the file.
        system: id of the accelerator.
        fits: what to write.
        how: the command that remakes the file.

    Raises:
        InputError: it cannot be written.
    """
    release = metadata.version("diffgenz")
    lines = [
        f"version = {VERSION}",
        f"system = {json.dumps(system)}",
        f"diffgenz = {json.dumps(release)}",
        f"made_by = {json.dumps(how)}",
    ]
    for fit in fits:
        lines += ["", "[[fit]]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in _texts(fit).items()]
        lines += [
            f"{key} = {value}" for key, value in (("rows", fit.rows), ("held_out", fit.held_out))
        ]
        lines += [
            f"{key} = {_figure(getattr(fit, key))}"
            for key in ("mean_error", "median_error", "coverage", "scatter")
        ]
        if fit.form.absent:
            lines.append(f"absent = {json.dumps(list(fit.form.absent))}")
        lines += [f"among = {json.dumps(fit.among)}"] if fit.among else []
        dropped = (f"{json.dumps(why)} = {count}" for why, count in fit.dropped.items())
        lines.append(f"dropped = {{ {', '.join(dropped)} }}")
        for name, figures in (
            ("values", fit.values),
            ("standard_errors", fit.standard_errors),
            ("learned", fit.learned),
            ("widths", fit.widths),
        ):
            if not figures:
                continue
            shown = (f"{key} = {_figure(value)}" for key, value in figures.items())
            lines.append(f"{name} = {{ {', '.join(shown)} }}")
        lines.append("covariance = [  # of ln value, of log-odds where bounded; lower triangle")
        lines += [
            f"    [{', '.join(_figure(x) for x in row[: index + 1])}],"
            for index, row in enumerate(fit.covariance)
        ]
        lines.append("]")
    with written_aside(path, "out") as aside:
        aside.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _texts(fit: KernelFit) -> dict[str, str]:
    return {
        name: getattr(fit, name) for name in ("family", "format", "source", "kernel", "data")
    } | {"form": fit.form.__name__}


def _figure(x: float) -> str:
    return repr(float(f"{x:.6g}"))


def read_fits(path: Path) -> tuple[str, list[KernelFit]]:
    """The system and the fits of the file at `path`.

    Raises:
        InputError: it cannot be read, or breaks the layout; the message names the key.
    """
    raw = read_toml(path, "fit")
    if raw.get("version") != VERSION:
        raise InputError(
            f"{path}: version: {raw.get('version')!r} is not {VERSION}; it is no fit file of this "
            "release, make it anew with calibrate"
        )
    if not isinstance(raw.get("system"), str) or not isinstance(raw.get("fit"), list):
        raise InputError(
            f"{path}: a fit file has system and [[fit]] tables; make it anew with calibrate"
        )
    return raw["system"], [_fit(table, path) for table in raw["fit"]]


def _differs(form: str, values: Collection[str], parameters: Collection[str]) -> str:
    """How the values of a file are not the parameters of a form, in words."""
    parts = [("lack", parameters, values), ("have, unknown here,", values, parameters)]
    words = [
        f"{verb} {', '.join(name for name in these if name not in others)}"
        for verb, these, others in parts
        if set(these) - set(others)
    ]
    return (
        f"those of {form} {' and '.join(words)}: the file is of another release; make it anew with "
        "diffgenz calibrate"
    )


def _fit(table: dict[str, Any], path: Path) -> KernelFit:
    try:
        name, values = table["form"], table["values"]
        plain = name.removeprefix("Cached")
        family_named(table["family"], f"{path}: family")
        if plain not in FORMS:
            raise unknown(f"{path}: form", name, FORMS)
        form = FORMS[name] if name == plain else cached(FORMS[plain])
        where, absent = f"{path}: {table['family']} {table['format']}", table.get("absent", [])
        needed = [each for each in absent if getattr(form.priors().get(each), "neutral", 0) is None]
        unknown_names = [each for each in absent if each not in form.priors()]
        if needed or unknown_names:
            raise InputError(
                f"{where}: absent: {name} has no term {(needed + unknown_names)[0]!r} that may be "
                "left out; make the file anew with diffgenz calibrate"
            )
        form = form.without(*absent)
        priors = form.priors()
        if set(values) != set(priors):
            raise InputError(f"{where}: values: {_differs(name, values, priors)}")
        rows = table["covariance"]
        lower = np.array([[*row, *[0.0] * (len(rows) - len(row))] for row in rows])
        return KernelFit(
            form=form,
            values={parameter: float(values[parameter]) for parameter in priors},
            covariance=lower + np.tril(lower, -1).T,
            **{
                key: table[key]
                for key in KernelFit.__dataclass_fields__
                if key not in ("form", "values", "covariance", "among", "widths")
            },
            among=tuple(table.get("among", ())),
            widths={kin: float(width) for kin, width in table.get("widths", {}).items()},
        )
    except InputError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: a [[fit]] table is damaged ({error}); make the file anew with calibrate"
        ) from None
