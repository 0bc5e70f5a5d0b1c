"""A sweep as a file: SPACE.toml, read into a space and what to keep of it. docs/sweeps.md explains every key."""

import argparse
import dataclasses
import math
from pathlib import Path
from typing import Any, NamedTuple

from diffgenz.core.errors import InputError
from diffgenz.core.files import read_toml
from diffgenz.core.sections import Section, said_of
from diffgenz.scenario.scenario import Scenario, Served
from diffgenz.studies.sweep.axes import Axis, Choice, Grid
from diffgenz.studies.sweep.axis_tables import axes_of, local
from diffgenz.studies.sweep.reductions.best import Best
from diffgenz.studies.sweep.reductions.histogram import Histogram
from diffgenz.studies.sweep.reductions.pareto import Pareto
from diffgenz.studies.sweep.reductions.reduction import Reduction
from diffgenz.studies.sweep.reductions.rows import Rows
from diffgenz.studies.sweep.reductions.top import Top
from diffgenz.studies.sweep.space import Space
from diffgenz.ui.cli.estimate import Deployment
from diffgenz.ui.cli.flags import Parser, add_deployment

KEEP: dict[str, Any] = {
    "pareto": Pareto,
    "top": Top,
    "best": Best,
    "histogram": Histogram,
    "rows": Rows,
}
"""What [keep.NAME] may have as its kind."""

_TOP = ("constraints", "samples", "seed", "scenario", "axes", "derived", "quantities", "keep")


class SpaceFile(NamedTuple):
    """What a file says: sweep(*load_space("space.toml"))."""

    space: Space
    reductions: dict[str, Reduction]


def load_space(
    path: str | Path, *, n: float | None = None, folder: Path | None = None
) -> SpaceFile:
    """The space and the reductions of the file at `path`.

    Arguments:
        n: configurations wanted, at least, instead of the file's `samples`; None: what the file says.
        folder: where relative paths of models and systems begin; default: where the file is.

    Raises:
        InputError: a file that cannot be read, an unknown key, a value that does not go there; it is named, with the remedy.
    """
    place = Path(path)
    top = Section(place.name, read_toml(place, "space"), _TOP)
    for key, example in (
        ("scenario", 'model = "..." and system = "..."'),
        ("axes", "NAME = { values = [...] }"),
        ("keep", 'NAME.kind = "top"'),
    ):
        if not top.raw.get(key):
            raise InputError(
                f"{place.name}: {key}: is missing or empty; write [{key}] with {example}"
            )
    home = folder or place.parent
    scenario = _scenario(top.section("scenario"), home)
    axes = axes_of(top.section("axes"), scenario, home)
    reductions = {
        name: _reduction(Section(top.at(f"keep.{name}"), table), name)
        for name, table in top.section("keep").raw.items()
    }
    with said_of(place.name):
        space = Space(
            scenario,
            axes,
            derived=_formulas(top.section("derived")),
            quantities=_formulas(top.section("quantities")),
            constraints=top.texts("constraints") if "constraints" in top.raw else ("fits",),
            samples=_samples(axes, top.whole("samples") if "samples" in top.raw else None, n),
            seed=top.whole("seed") if "seed" in top.raw else 0,
        )
    return SpaceFile(space, reductions)


def _samples(axes: dict[str, Axis], stated: int | None, n: float | None) -> int | None:
    """Points of the sequence for at least `n` configurations."""
    if n is None:
        return stated
    if not n >= 1 or not float(n).is_integer():
        raise InputError(f"n: {n:g} is not allowed; it must be a whole number, at least 1")
    fixed = [axis for axis in axes.values() if isinstance(axis, Grid | Choice) and not axis.drawn]
    combinations = math.prod(
        len(axis.levels if isinstance(axis, Grid) else axis.options) for axis in fixed
    )
    if len(fixed) < len(axes):
        return math.ceil(int(n) / combinations)
    if int(n) != combinations:
        more = "is larger than the space" if n > combinations else "is not all of the space"
        raise InputError(
            f"n: {int(n):,} {more}, which has {combinations:,} configurations; leave n out, or sample an axis (sampled = true, log_uniform)"
        )
    return None


def _formulas(section: Section) -> dict[str, str]:
    return {
        name: str(section.raw[name])
        if isinstance(section.raw[name], int | float)
        else section.text(name)
        for name in section.raw
    }


def _scenario(section: Section, folder: Path) -> Scenario:
    """One model, or several under [[scenario.mix]], for which what stands in [scenario] holds too."""
    if "mix" not in section.raw:
        deployment = _deployment(section, folder)
        return Scenario(deployment.platform, (_served(deployment),))
    common = {key: value for key, value in section.raw.items() if key != "mix"}
    parts = []
    for number, raw in enumerate(section.entries("mix")):
        own = Section(section.at(f"mix[{number}]"), raw)
        for key in ("system", "gpus"):
            if key in own.raw:
                raise InputError(
                    f"{own.at(key)}: all models of a mix run on the same accelerators; write {key} in [scenario]"
                )
        share = own.number("share") if "share" in own.raw else 1.0
        table = Section(
            own.place, common | {key: value for key, value in own.raw.items() if key != "share"}
        )
        with said_of(own.place):
            parts.append((_deployment(table, folder), share))
    if not parts:
        raise InputError(f"{section.at('mix')}: is empty; write at least one [[scenario.mix]]")
    return Scenario(
        parts[0][0].platform, tuple(_served(deployment, share) for deployment, share in parts)
    )


def _served(deployment: Deployment, share: float = 1.0) -> Served:
    d = deployment
    return Served(d.model, d.workload(d.batches[0]), d.plan, d.precision, d.serving, share)


def _deployment(section: Section, folder: Path) -> Deployment:
    """What the flags of the same names describe."""
    parser = Parser(prog="diffgenz estimate", add_help=False, allow_abbrev=False)
    add_deployment(parser, several_batches=False)
    known = {flag.lstrip("-") for flag in parser._option_string_actions} - {"sharpness"}
    table = Section(
        section.place,
        {key.replace("_", "-"): value for key, value in section.raw.items()},
        {*known, "model"},
    )
    for key in ("model", "system"):
        if key not in table.raw:
            raise InputError(f"{table.at(key)}: is missing; see `diffgenz list {key}s`")
    arguments: list[str] = []
    for key, value in table.raw.items():
        if isinstance(value, list | dict):
            raise InputError(
                f"{table.at(key)}: {value!r} is not one value; what varies is an axis: write it under [axes]"
            )
        text = (
            local(str(value), folder) if key in ("model", "system", "draft-model") else str(value)
        )
        switch = isinstance(value, bool)
        arguments += (
            [text]
            if key == "model"
            else ([f"--{key}"] if value else [])
            if switch
            else [f"--{key}={text}"]
        )
    with said_of(table.place):
        options: argparse.Namespace = parser.parse_args(arguments)
        return Deployment(options)


def _reduction(section: Section, name: str) -> Reduction:
    """What [keep.NAME] describes."""
    if "kind" not in section.raw or section.raw["kind"] not in KEEP:
        raise InputError(
            f'{section.at("kind")}: {section.raw.get("kind")!r} is not one of {", ".join(KEEP)}; write kind = "pareto"'
        )
    if not name.replace("_", "").replace("-", "").isalnum():
        raise InputError(
            f"{section.place}: {name!r} is not a name for files; use letters, digits, - and _"
        )
    kind = KEEP[section.raw["kind"]]
    fields = {field.name: field for field in dataclasses.fields(kind)}
    table = Section(section.place, section.raw, ("kind", *fields))
    read = {"bool": table.flag, "int": table.whole, "float": table.number, "tuple": table.texts}
    given: dict[str, Any] = {}
    for key, field in fields.items():
        if key in table.raw:
            given[key] = read.get(getattr(field.type, "__name__", ""), table.text)(key)
        elif field.default is dataclasses.MISSING:
            raise InputError(f"{table.at(key)}: is missing; a {section.raw['kind']} needs it")
    with said_of(section.place):
        return kind(**given)
