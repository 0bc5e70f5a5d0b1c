"""Axes as a space file writes them: a table with one key that says what the axis has.

memory_bandwidth = { geometric = ["1 TB/s", "16 TB/s"], count = 48 }
batch            = { values = [1, 8, 64], sampled = true }
system           = { systems = ["h100_sxm", "mi300x"] }
plan             = { plans = "all" }
formats          = { formats = [{}, { weights = "fp8", activations = "fp8" }] }
stack            = { options = { "8-high" = { memory_capacity = "24 GB" }, "12-high" = { memory_capacity = "36 GB" } } }
"""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from diffgenz.core.errors import InputError, unknown
from diffgenz.core.leaves import find, name_of, with_unset
from diffgenz.core.sections import Section, quantity, said_of
from diffgenz.core.units import unit_of
from diffgenz.hardware.platform import Platform, load_platform
from diffgenz.kernels.software import NONE
from diffgenz.models.huggingface import load_model
from diffgenz.models.model import Model
from diffgenz.operators.precision import Precision
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.scenario import Scenario
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

WORDS = {
    "gpus": "accelerators",
    "isl": "input_tokens",
    "osl": "output_tokens",
    "tp": "tensor",
    "pp": "pipeline",
    "dp": "data",
    "ep": "expert",
    "attention-dp": "attention_data",
    "cp": "context",
    "sp": "sequence",
}
"""What flags call the numbers of a plan and a workload."""

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


def axes_of(section: Section, scenario: Scenario, folder: Path) -> dict[str, Axis]:
    """The axes of a file, by name.

    Arguments:
        section: their tables. scenario: what they vary. folder: where relative paths begin.

    Raises:
        InputError: a table that is no axis; it is named.
    """
    axes: dict[str, Axis] = {}
    last = [
        name
        for name in section.raw
        if isinstance(section.raw[name], dict) and "plans" in section.raw[name]
    ]
    for name in sorted(
        section.raw, key=last.__contains__
    ):  # every layout depends on the models and accelerators of other axes
        axes[name] = _Reader(
            section.at(name), name, section.raw[name], scenario, folder, axes
        ).axis()
    return {name: axes[name] for name in section.raw}


class _Reader:
    """Reads one axis."""

    def __init__(
        self,
        place: str,
        name: str,
        raw: Any,
        scenario: Scenario,
        folder: Path,
        others: dict[str, Axis],
    ):
        self.name, self.scenario, self.folder, self.others = name, scenario, folder, others
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
        return (
            axis.sampled()
            if isinstance(axis, Grid | Choice) and self.section.flag("sampled")
            else axis
        )

    def _numbers(self) -> Axis:
        if self.name in WORDS:
            raise InputError(
                f"axes have the names of the numbers they set; write {WORDS[self.name]}"
            )
        unit = unit_of(
            name_of(find(with_unset(self.scenario, self.name, 1.0), self.name, alike="served")[0])
        )
        numbers = [
            quantity(f"{self.kind}[{i}]", value, unit)
            for i, value in enumerate(self.section.entries(self.kind))
        ]
        if self.kind == "values":
            return values(*numbers)
        if len(numbers) != 2:
            raise InputError(
                f"{self.kind} = {self.section.raw[self.kind]!r} has {len(numbers)} bounds; write {self.kind} = [low, high]"
            )
        low, high = numbers
        if self.kind in ("uniform", "log_uniform"):
            return (uniform if self.kind == "uniform" else log_uniform)(low, high)
        if self.kind == "integers":
            for number in numbers:
                if not number.is_integer():
                    raise InputError(f"integers: {number:g} is not a whole number; use linear")
            return integers(
                int(low), int(high), self.section.whole("step") if "step" in self.section.raw else 1
            )
        if "count" not in self.section.raw:
            raise InputError(f"count is missing; write {self.kind} = [low, high], count = 10")
        return (linear if self.kind == "linear" else geometric)(
            low, high, self.section.whole("count")
        )

    def _records(self) -> Choice:
        read: dict[str, Callable[[], dict[str, Any]]] = {
            "systems": self._systems, "models": self._models, "plans": self._plans, "formats": self._formats, "options": self._options,
        }  # fmt: skip
        return choice(read[self.kind]())

    def _systems(self) -> dict[str, Any]:
        count = float(self.scenario.platform.accelerators)
        kernels = self.scenario.platform.accelerator.kernels
        fit = NONE if kernels is None or kernels.origin is None else kernels.origin.fit
        platforms = {
            name: load_platform(local(name, self.folder), count, fit)
            for name in self.section.texts("systems")
        }
        return {
            name: {"platform.accelerator": p.accelerator, "platform.network": p.network}
            for name, p in platforms.items()
        }

    def _models(self) -> dict[str, Any]:
        return {
            name: self._everywhere("model", load_model(local(name, self.folder)))
            for name in self.section.texts("models")
        }

    def _formats(self) -> dict[str, Any]:
        options = {}
        for number, raw in enumerate(self.section.entries("formats")):
            entry = Section(f"formats[{number}]", _underscored(raw), FORMATS_OF)
            texts = {key: entry.text(key) for key in entry.raw}
            dtype = texts.get("dtype", self.scenario.served[0].precision.dtype)
            precision = Precision(dtype, *(texts.get(name) for name in FORMATS_OF[1:]))
            options[
                ", ".join(f"{key} {text}" for key, text in texts.items()) or precision.dtype
            ] = self._everywhere("precision", precision)
        return options

    def _options(self) -> dict[str, Any]:
        options = {}
        for label, raw in self.section.section("options").raw.items():
            leaves = Section(f"options.{label}", raw).raw
            options[label] = {
                name: quantity(f"options.{label}.{name}", value, unit_of(name))
                for name, value in leaves.items()
            }
        return options

    def _plans(self) -> dict[str, Any]:
        overlap = self.scenario.served[0].plan.overlap
        if self.section.raw["plans"] == "all":
            found = self._all_plans()
        else:
            known = {
                **{field.name: field.name for field in dataclasses.fields(Parallelism)},
                **WORDS,
            }
            found = []
            for number, raw in enumerate(self.section.entries("plans")):
                entry = Section(f"plans[{number}]", raw, known)
                found.append(
                    {"overlap": float(overlap)}
                    | {known[key]: entry.number(key) for key in entry.raw}
                )
        used = {
            name
            for plan in found
            for name in ("context", "sequence")
            if plan.get(name, 0) > (name == "context")
        }
        options = {}
        for (
            plan
        ) in found:  # what no plan uses is left out, and what one does is in all: one structure
            optional = {
                name: jnp.asarray(plan.get(name, float(name == "context"))) for name in used
            }
            ranks = {
                name: count for name, count in plan.items() if name not in ("context", "sequence")
            }
            options[plan_label(plan)] = self._everywhere("plan", Parallelism(**ranks, **optional))
        return options

    def _all_plans(self) -> list[dict[str, float]]:
        """Every layout of any of the models on all accelerators, for any number of those."""
        models = (
            [served.model for served in self.scenario.served]
            if not self.name.startswith("served[")
            else [self._own_model()]
        )
        counts: Iterable[float] = [float(self.scenario.platform.accelerators)]
        for name, axis in self.others.items():
            if isinstance(axis, Choice):
                parts = [
                    part
                    for option in axis.options.values()
                    if isinstance(option, dict)
                    for part in option.values()
                ]
                models = [part for part in parts if isinstance(part, Model)] or models
            elif isinstance(axis, Grid) and name.rsplit(".", 1)[-1] == "accelerators":
                counts = axis.levels
        found: dict[tuple[float, ...], dict[str, float]] = {}
        for model in models:
            for count in counts:
                layouts = plans(
                    model,
                    Platform(
                        self.scenario.platform.accelerator, self.scenario.platform.network, count
                    ),
                )
                fields = [
                    field.name
                    for field in dataclasses.fields(layouts)
                    if field.name != "overlap" and getattr(layouts, field.name) is not None
                ]
                for ranks in zip(
                    *(np.asarray(getattr(layouts, name), float).tolist() for name in fields),
                    strict=True,
                ):
                    found[ranks] = dict(zip(fields, ranks, strict=True)) | {
                        "overlap": float(self.scenario.served[0].plan.overlap)
                    }
        return list(found.values())

    def _own_model(self) -> Model:
        number = self.name.removeprefix("served[").split("]")[0]
        if not number.isdigit() or int(number) >= len(self.scenario.served):
            raise unknown(
                "axis", self.name, [f"served[{i}].plan" for i in range(len(self.scenario.served))]
            )
        return self.scenario.served[int(number)].model

    def _everywhere(self, part: str, record: Any) -> dict[str, Any]:
        """`record` as the `part` of each model that is served, or of the one that the axis names: "served[1].plan"."""
        own = [f"served[{number}].{part}" for number in range(len(self.scenario.served))]
        return dict.fromkeys([self.name] if self.name in own else own, record)


def plan_label(plan: dict[str, float]) -> str:
    """A plan in words: "tp 8, pp 2"; ranks of 1 are left out."""
    short = {name: word for word, name in WORDS.items()}
    words = [
        f"{short.get(name, name)} {ranks:g}"
        for name, ranks in plan.items()
        if name != "overlap" and ranks > (name != "sequence")
    ]
    return ", ".join(words) or "tp 1"


def local(name: str, folder: Path) -> str:
    """`name`, or the path of what `folder` has by that name."""
    return str(folder / name) if (folder / name).exists() else name


def _underscored(raw: Any) -> Any:
    return (
        {key.replace("-", "_"): value for key, value in raw.items()}
        if isinstance(raw, dict)
        else raw
    )
