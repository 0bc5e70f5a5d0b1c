"""`load_space`: a sweep as a file, SPACE.toml, read into a space and what to keep of it.

docs/sweeps.md explains every key.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any, NamedTuple

from diffgenz.core.errors import InputError
from diffgenz.core.files import read_toml
from diffgenz.core.sections import Section, said_of
from diffgenz.kernels.software import DEFAULT
from diffgenz.scenario.from_words import from_words
from diffgenz.scenario.mix import Mix, Question
from diffgenz.scenario.scenario import Scenario
from diffgenz.scenario.words import WORDS
from diffgenz.serving.under_load import SUSTAINED, UnderLoad
from diffgenz.studies.sweep.axes import Axis, Choice, Grid
from diffgenz.studies.sweep.axis_tables import axes_of, local
from diffgenz.studies.sweep.load_table import loaded
from diffgenz.studies.sweep.reductions.best import Best
from diffgenz.studies.sweep.reductions.histogram import Histogram
from diffgenz.studies.sweep.reductions.pareto import Pareto
from diffgenz.studies.sweep.reductions.reduction import Reduction
from diffgenz.studies.sweep.reductions.rows import Rows
from diffgenz.studies.sweep.reductions.top import Top
from diffgenz.studies.sweep.space import Space

KEEP: dict[str, Any] = {
    "pareto": Pareto,
    "top": Top,
    "best": Best,
    "histogram": Histogram,
    "rows": Rows,
}
"""What [keep.NAME] may have as its kind."""

_TOP = (
    "constraints",
    "samples",
    "seed",
    "scenario",
    "load",
    "axes",
    "derived",
    "quantities",
    "keep",
)


class SpaceFile(NamedTuple):
    """What a file says: sweep(*load_space("space.toml"))."""

    space: Space
    reductions: dict[str, Reduction]


def load_space(
    path: str | Path,
    *,
    n: float | None = None,
    folder: Path | None = None,
    fit: str | None = None,
) -> SpaceFile:
    """The space and the reductions of a file. Nothing else in the process changes.

    Arguments:
        path: of the file.
        n: configurations wanted, at least, instead of the file's `samples`; None: what the file
            says.
        folder: where relative paths of models, systems and fits begin. Default: where the file is.
        fit: what times the kernels, as in `load_platform`; None: what the file says.

    Raises:
        InputError: a file that cannot be read, an unknown key, a value that does not go there; it
            is named, with the remedy.
    """
    place = Path(path)
    top = Section(place.name, read_toml(place, "space"), _TOP)
    top.demand(
        scenario='model = "..." and system = "..."',
        axes="NAME = { values = [...] }",
        keep='NAME.kind = "top"',
    )
    home = (folder or place.parent).absolute()  # a copy of the file elsewhere is the same
    scenario = top.section("scenario")
    if fit is not None:
        scenario = Section(scenario.place, scenario.raw | {"fit": fit})
    question = loaded(top, question_of(scenario, home))
    generic = scenario.raw.get("generic", False) is True
    axes = axes_of(top.section("axes"), question, home, generic, fit_of(scenario, home))
    reductions = {
        name: _reduction(Section(top.at(f"keep.{name}"), table), name)
        for name, table in top.section("keep").raw.items()
    }
    default = ("fits", SUSTAINED) if isinstance(question, UnderLoad) else ("fits",)
    with said_of(place.name):
        space = Space(
            question,
            axes,
            derived=formulas_of(top.section("derived")),
            quantities=formulas_of(top.section("quantities")),
            constraints=top.texts("constraints") if "constraints" in top.raw else default,
            samples=_samples(axes, top.whole("samples") if "samples" in top.raw else None, n),
            seed=top.whole("seed") if "seed" in top.raw else 0,
        )
    return SpaceFile(space, reductions)


def fit_of(section: Section, folder: Path) -> str:
    """What times the kernels of all systems: as [scenario] says, or the first of its mix.

    Arguments:
        section: [scenario].
        folder: where relative paths begin.
    """
    tables = [section.raw, *(section.entries("mix") if "mix" in section.raw else [])]
    stated = next((table["fit"] for table in tables if "fit" in table), DEFAULT)
    return local(str(stated), folder)


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
            f"n: {int(n):,} {more}, which has {combinations:,} configurations; leave n out, or "
            "sample an axis (sampled = true, log_uniform)"
        )
    return None


def formulas_of(section: Section) -> dict[str, str]:
    """The formulas of a table, by name; a plain number is one too."""
    return {
        name: str(value) if isinstance(value, int | float) else section.text(name)
        for name, value in section.raw.items()
    }


def question_of(section: Section, folder: Path) -> Question:
    """One scenario, or several under [[scenario.mix]], for which [scenario] holds too."""
    if "mix" not in section.raw:
        return _scenario(section, folder)
    common = {key: value for key, value in section.raw.items() if key != "mix"}
    scenarios, shares = [], []
    for number, raw in enumerate(section.entries("mix")):
        own = Section(section.at(f"mix[{number}]"), raw)
        for key in ("system", "gpus"):
            if key in own.raw:
                raise InputError(
                    f"{own.at(key)}: all models of a mix run on the same accelerators; write {key} "
                    "in [scenario]"
                )
        shares.append(own.number("share") if "share" in own.raw else 1.0)
        rest = {key: value for key, value in own.raw.items() if key != "share"}
        table = Section(own.place, common | rest)
        with said_of(own.place):
            scenarios.append(_scenario(table, folder))
    if not scenarios:
        raise InputError(f"{section.at('mix')}: is empty; write at least one [[scenario.mix]]")
    return Mix(tuple(scenarios), tuple(shares))


def _scenario(section: Section, folder: Path) -> Scenario:
    """The scenario that the words of a table say."""
    words = {key.replace("_", "-"): value for key, value in section.raw.items()}
    table = Section(section.place, words, WORDS)
    for key in ("model", "system"):
        if key not in table.raw:
            raise InputError(f"{table.at(key)}: is missing; see `diffgenz list {key}s`")
    for key, value in words.items():
        if isinstance(value, list | dict):
            raise InputError(
                f"{table.at(key)}: {value!r} is not one value; what varies is an axis: write it "
                "under [axes]"
            )
        if WORDS[key].is_file:
            words[key] = local(str(value), folder)
    with said_of(table.place):
        return from_words(words).scenario


def _reduction(section: Section, name: str) -> Reduction:
    """What [keep.NAME] describes."""
    if "kind" not in section.raw or section.raw["kind"] not in KEEP:
        raise InputError(
            f"{section.at('kind')}: {section.raw.get('kind')!r} is not one of {', '.join(KEEP)}; "
            'write kind = "pareto"'
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
