"""What accelerators take to build, as text for people."""

import dataclasses
from typing import Any, NamedTuple

from diffgenz.hardware.spec import Spec
from diffgenz.technology.build import QUANTITIES, Build
from diffgenz.ui.tables import table


class Built(NamedTuple):
    """An accelerator, what it takes to build, and what is published of it.

    Arguments:
        name: its id.
        build: by the formulas.
        published: by the name of a quantity; those that the file states.
    """

    name: str
    build: Build
    published: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Every quantity and its parts by name, in the units of `Build`."""
        numbers = {name: float(getattr(self.build, name)) for name in QUANTITIES}
        parts = {
            name: {
                field.name: float(getattr(getattr(self.build, name), field.name))
                for field in dataclasses.fields(getattr(self.build, name))
            }
            for name in ("areas", "powers", "costs")
        }
        whole = {"whole_stacks": float(self.build.whole_stacks)}
        return {"system": self.name, **numbers, **whole, **parts, "published": self.published}


def build_of(spec: Spec, build: Build) -> Built:
    """What an accelerator takes to build, beside what its file publishes.

    Arguments:
        spec: its file. What a setting changed is not compared.
        build: by the formulas.
    """
    stated = {name: spec.design.get(name) for name in ("die_area", "stacks", "unit_cost")}
    published = {name: value for name, value in stated.items() if value is not None}
    if not spec.settings:
        published["tdp"] = spec.power["tdp"]
    return Built(spec.id, build, {} if spec.settings else published)


_ROWS = (
    ("die area, mm2", "die_area"),
    ("stacks of memory", "whole_stacks"),
    ("die edge needed, mm", "shoreline"),
    ("die edge, mm", "die_edge"),
    ("TDP, W", "tdp"),
    ("yield of dies, %", "die_yield"),
    ("unit cost, USD", "unit_cost"),
    ("price, USD", "unit_price"),
)


def builds_table(built: list[Built]) -> str:
    """The quantities of some accelerators, beside what is published.

    Arguments:
        built: one or more.
    """
    header, rows = [""], [[label] for label, _ in _ROWS]
    for each in built:
        header += [each.name, "published"]
        for row, (_, name) in zip(rows, _ROWS, strict=True):
            value = float(getattr(each.build, name)) * (100 if name == "die_yield" else 1)
            published = each.published.get("stacks" if name == "whole_stacks" else name)
            row += [f"{value:,.0f}", "" if published is None else _beside(value, published)]
    return table(header, rows, "l")


def _beside(value: float, published: float) -> str:
    """A published figure, and by how much the formulas are off it."""
    off = 100 * (value / published - 1)
    return f"{published:,.0f} ({off:+.0f} %)" if abs(off) >= 0.5 else f"{published:,.0f}"


def parts_table(build: Build) -> str:
    """What makes up area, power and cost.

    Arguments:
        build: of one accelerator.
    """
    rows = []
    for title, parts, total, unit in (
        ("die area", build.areas, build.die_area, "mm2"),
        ("TDP", build.powers, build.tdp, "W"),
        ("unit cost", build.costs, build.unit_cost, "USD"),
    ):
        for field in dataclasses.fields(parts):
            value = float(getattr(parts, field.name))
            if value:
                share = value / float(total)
                label = f"{title}: {field.name.replace('_', ' ')}"
                rows.append((label, f"{value:,.0f} {unit}", share))
    bars = [(share, f"{100 * share:.0f} %") for *_, share in rows]
    return table(("part", "takes"), [row[:2] for row in rows], "l", bars=bars)
