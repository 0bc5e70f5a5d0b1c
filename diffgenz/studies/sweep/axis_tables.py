"""Axes as a space file writes them: a table with one key that says what the axis has.

memory_bandwidth = { geometric = ["1 TB/s", "16 TB/s"], count = 48 }
batch            = { values = [1, 8, 64], sampled = true }
system           = { systems = ["h100_sxm", "mi300x"] }
plan             = { plans = "all" }
formats          = { formats = [{}, { weights = "fp8", activations = "fp8" }] }
stack            = { options = { "8-high" = { memory_capacity = "24 GB" }, "12-high" = { ... } } }
"""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from diffgenz.core.errors import InputError, unknown
from diffgenz.core.leaves import number_at, with_unset
from diffgenz.core.sections import Section, quantity, said_of
from diffgenz.hardware.platform import load_platform
from diffgenz.kernels.software import DEFAULT
from diffgenz.models.huggingface import load_model
from diffgenz.models.model import Model
from diffgenz.operators.precision import Precision
from diffgenz.scenario.mix import ALIKE, Mix, Question, parts_of, paths_named
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.words import WORDS
from diffgenz.studies.search.plans import plans
from diffgenz.studies.sweep.axes import (
    Axis,
    Choice,
    Grid,
    choice,
    geometric,
    integers,
    linear,
    log_uniform,
    uniform,
    values,
)

FORMATS_OF = ("dtype", "weights", "activations", "kv_cache", "messages")
"""What a choice of formats may state."""

PLAN_WORDS = {word.name: word.number for word in WORDS.values() if word.record == "plan"}
"""What the words call the numbers of a plan."""

_BOUNDS = {
    "linear": ("count",),
    "geometric": ("count",),
    "integers": ("step",),
    "uniform": (),
    "log_uniform": (),
}
_RECORDS = ("systems", "models", "plans", "formats", "options")
KINDS = ("values", *_BOUNDS, *_RECORDS)
"""The keys that say what an axis has."""

_OFF = {"context": 1.0, "sequence": 0.0}
"""The numbers of a plan that it may leave out, and what they are then."""


def axes_of(
    section: Section,
    question: Question,
    folder: Path,
    generic: bool = False,
    fit: str = DEFAULT,
    plain: Collection[str] = (),
) -> dict[str, Axis]:
    """The axes of a file, by name.

    Arguments:
        section: their tables.
        question: what they vary.
        folder: where relative paths begin.
        generic: how the models of an axis are read, as in `load_model`.
        fit: what times the kernels of the systems of an axis, as in `load_platform`.
        plain: names of numbers without a unit that are not in the question.

    Raises:
        InputError: a table that is no axis; it is named.
    """

    def lists_plans(name: str) -> bool:  # which depend on the models and accelerators of others
        return isinstance(section.raw[name], dict) and "plans" in section.raw[name]

    axes: dict[str, Axis] = {}
    for name in sorted(section.raw, key=lists_plans):
        place, raw = section.at(name), section.raw[name]
        reader = _Reader(place, name, raw, question, folder, axes, generic, fit, plain)
        axes[name] = reader.axis()
    return {name: axes[name] for name in section.raw}


class _Reader:
    """Reads one axis."""

    def __init__(
        self,
        place: str,
        name: str,
        raw: Any,
        question: Question,
        folder: Path,
        others: dict[str, Axis],
        generic: bool,
        fit: str,
        plain: Collection[str],
    ):
        self.fit, self.plain = fit, plain
        self.name, self.question, self.folder, self.others = name, question, folder, others
        self.parts, self.generic = parts_of(question), generic
        self.platform = self.parts[0].platform
        kinds = [kind for kind in KINDS if isinstance(raw, dict) and kind in raw]
        if len(kinds) > 1:
            raise InputError(f"{place}: has {' and '.join(kinds)}; an axis has one of them")
        extra = () if not kinds else _BOUNDS.get(kinds[0], ())
        sampled = () if kinds and kinds[0] in ("uniform", "log_uniform") else ("sampled",)
        self.section = Section(place, raw, (*(kinds or KINDS), *extra, *sampled))
        if not kinds:
            raise InputError(
                f"{place}: does not say what the axis has; give one of {', '.join(KINDS)}"
            )
        self.kind = kinds[0]

    def axis(self) -> Axis:
        """What the table describes."""
        with said_of(self.section.place):
            axis = self._records() if self.kind in _RECORDS else self._numbers()
        if isinstance(axis, Grid | Choice) and self.section.flag("sampled"):
            return axis.sampled()
        return axis

    def _numbers(self) -> Axis:
        word = WORDS.get(self.name)
        if word is not None and word.leaf and word.number != self.name:
            raise InputError(f"axes have the names of the numbers they set; write {word.number}")
        unit = self._unit(self.name)
        numbers = [
            quantity(f"{self.kind}[{i}]", value, unit)
            for i, value in enumerate(self.section.entries(self.kind))
        ]
        if self.kind == "values":
            return values(*numbers)
        if len(numbers) != 2:
            raise InputError(
                f"{self.kind} = {self.section.raw[self.kind]!r} has {len(numbers)} bounds; write "
                f"{self.kind} = [low, high]"
            )
        low, high = numbers
        if self.kind in ("uniform", "log_uniform"):
            return (uniform if self.kind == "uniform" else log_uniform)(low, high)
        if self.kind == "integers":
            for number in numbers:
                if not number.is_integer():
                    raise InputError(f"integers: {number:g} is not a whole number; use linear")
            step = self.section.whole("step") if "step" in self.section.raw else 1
            return integers(int(low), int(high), step)
        if "count" not in self.section.raw:
            raise InputError(f"count is missing; write {self.kind} = [low, high], count = 10")
        count = self.section.whole("count")
        return (linear if self.kind == "linear" else geometric)(low, high, count)

    def _unit(self, name: str) -> str:
        """The unit of the number called `name`."""
        if name in self.plain:
            return "1"
        question = with_unset(self.question, name, 1.0)
        about = number_at(question, paths_named(question, name)[0])
        return "1" if about is None else about.unit

    def _records(self) -> Choice:
        read: dict[str, Callable[[], dict[str, Any]]] = {
            "systems": self._systems,
            "models": self._models,
            "plans": self._plans,
            "formats": self._formats,
            "options": self._options,
        }
        return choice(read[self.kind]())

    def _systems(self) -> dict[str, Any]:
        count = float(self.platform.accelerators)
        options, texts = {}, self.section.texts("systems")
        for name, label in zip(texts, short_names(texts), strict=True):
            loaded = load_platform(local(name, self.folder), count, self.fit)
            parts = {"accelerator": loaded.accelerator, "network": loaded.network}
            options[label] = {}
            for part, record in parts.items():
                options[label] |= self._everywhere(f"platform.{part}", record)
        return options

    def _models(self) -> dict[str, Any]:
        texts = self.section.texts("models")
        return {
            label: self._everywhere("model", load_model(local(name, self.folder), self.generic))
            for name, label in zip(texts, short_names(texts), strict=True)
        }

    def _formats(self) -> dict[str, Any]:
        options = {}
        for number, raw in enumerate(self.section.entries("formats")):
            entry = Section(f"formats[{number}]", _underscored(raw), FORMATS_OF)
            texts = {key: entry.text(key) for key in entry.raw}
            given: dict[str, Any] = {"dtype": self.parts[0].precision.dtype} | texts
            precision = Precision(**given)
            words = ", ".join(f"{key} {text}" for key, text in texts.items())
            options[words or precision.dtype] = self._everywhere("precision", precision)
        return options

    def _options(self) -> dict[str, Any]:
        options = {}
        for label, raw in self.section.section("options").raw.items():
            leaves = Section(f"options.{label}", raw).raw
            options[label] = {
                name: quantity(f"options.{label}.{name}", value, self._unit(name))
                for name, value in leaves.items()
            }
        return options

    def _plans(self) -> dict[str, Any]:
        found = self._all_plans() if self.section.raw["plans"] == "all" else self._stated_plans()
        used = {
            name for plan in found for name, off in _OFF.items() if plan.get(name, off) != off
        }  # what no plan uses is left out, and what one uses is in all of them: one structure
        options = {}
        for plan in found:
            ranks = {name: count for name, count in plan.items() if name not in _OFF}
            optional = {name: jnp.asarray(plan.get(name, _OFF[name])) for name in used}
            options[plan_label(plan)] = self._everywhere("plan", Parallelism(**ranks, **optional))
        return options

    def _stated_plans(self) -> list[dict[str, float]]:
        return [{"overlap": self._overlap} | stated for stated in stated_plans(self.section)]

    def _all_plans(self) -> list[dict[str, float]]:
        """Every layout of any of the models on all accelerators, for any number of those."""
        models = self._models_of_plans()
        counts: Iterable[float] = [float(self.platform.accelerators)]
        for name, axis in self.others.items():
            if isinstance(axis, Choice):
                options = [each for each in axis.options.values() if isinstance(each, dict)]
                parts = [part for option in options for part in option.values()]
                models = [part for part in parts if isinstance(part, Model)] or models
            elif isinstance(axis, Grid) and name.rsplit(".", 1)[-1] == "accelerators":
                counts = axis.levels
        found: dict[tuple[float, ...], dict[str, float]] = {}
        for model in models:
            for count in counts:
                for plan in _rows(plans(model, self.platform.replace(accelerators=count))):
                    found[tuple(plan.values())] = plan | {"overlap": self._overlap}
        return list(found.values())

    @property
    def _overlap(self) -> float:
        return float(self.parts[0].plan.overlap)

    def _models_of_plans(self) -> list[Model]:
        """The models that an axis of plans is for: all, or the one that it names."""
        if not self.name.startswith(f"{ALIKE}["):
            return [part.model for part in self.parts]
        number = self.name.removeprefix(f"{ALIKE}[").split("]")[0]
        if not number.isdigit() or int(number) >= len(self.parts):
            raise unknown("axis", self.name, self._names("plan"))
        return [self.parts[int(number)].model]

    def _names(self, part: str) -> list[str]:
        """What a record of each scenario is called."""
        if not isinstance(self.question, Mix):
            return [part]
        return [f"{ALIKE}[{number}].{part}" for number in range(len(self.parts))]

    def _everywhere(self, part: str, record: Any) -> dict[str, Any]:
        """`record` in each scenario, or in the one that the axis names: "scenarios[1].plan"."""
        own = self._names(part)
        return dict.fromkeys([self.name] if self.name in own else own, record)


def stated_plans(section: Section) -> list[dict[str, float]]:
    """The numbers of each plan that a table lists: plans = [{ tp = 8 }, { tp = 4, dp = 2 }]."""
    fields = {field.name: field.name for field in dataclasses.fields(Parallelism)}
    known = fields | PLAN_WORDS
    found = []
    for number, raw in enumerate(section.entries("plans")):
        entry = Section(f"plans[{number}]", raw, known)
        found.append({known[key]: _count(entry, key) for key in entry.raw})
    return found


def _count(entry: Section, key: str) -> float:
    """A number of a plan: a count, or true and false for a switch."""
    return float(entry.flag(key)) if isinstance(entry.raw[key], bool) else entry.number(key)


def _rows(layouts: Parallelism) -> list[dict[str, float]]:
    """A batch of plans as one dict of ranks for each."""
    columns = {
        field.name: np.asarray(getattr(layouts, field.name), float).tolist()
        for field in dataclasses.fields(layouts)
        if field.name != "overlap" and getattr(layouts, field.name) is not None
    }
    return [dict(zip(columns, ranks, strict=True)) for ranks in zip(*columns.values(), strict=True)]


def plan_label(plan: Mapping[str, float]) -> str:
    """A plan in words: "tp 8, pp 2"; ranks of 1 are left out."""
    short = {number: word for word, number in PLAN_WORDS.items()}
    words = [
        f"{short.get(name, name)} {ranks:g}"
        for name, ranks in plan.items()
        if name != "overlap" and ranks > (name != "sequence")
    ]
    return ", ".join(words) or "tp 1"


def short_names(names: Sequence[str]) -> list[str]:
    """What people call systems and models that files describe: without folders and suffixes.

    Ids stay as they are, and so do all files whose short names are another's.
    """
    paths = [Path(name) for name in names]
    short = [
        path.stem
        if path.suffix == ".toml"
        else path.parent.name or name
        if path.name == "config.json"
        else name
        for name, path in zip(names, paths, strict=True)
    ]
    return [
        each if short.count(each) == 1 else name for name, each in zip(names, short, strict=True)
    ]


def local(name: str, folder: Path) -> str:
    """`name`, or the path of what `folder` has by that name."""
    return str(folder / name) if (folder / name).exists() else name


def _underscored(raw: Any) -> Any:
    if not isinstance(raw, dict):
        return raw
    return {key.replace("-", "_"): value for key, value in raw.items()}
