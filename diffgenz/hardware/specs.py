"""Accelerator files: hw_specs/*.toml read into plain SI numbers, with every figure's source.

hw_specs/README.md explains the schema. A figure is written `["3.35 TB/s", "datasheet"]`: a quantity
and the key of its source in `[sources]`. Your own file may also say "3.35 TB/s" alone. Unknown
keys, unknown sources and values without a unit are refused by name. This module does not import
JAX, so that `diffgenz list` is quick.
"""

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffgenz.core.errors import InputError, unknown
from diffgenz.core.files import data_folder, read_toml
from diffgenz.core.formats import PEAKS
from diffgenz.core.units import parse
from diffgenz.hardware import design
from diffgenz.kernels.kind import Kind

Figures = dict[str, float]

UNSOURCED = "no source given in the file"
"""The source of a figure that is written without one."""

_MEMORY = {"capacity": "B", "bandwidth": "B/s", "reserve": "B"}
TIER = {"capacity": "B", "bandwidth": "B/s"}
"""The unit of each number of a tier of slower memory."""

_ON_CHIP = {"capacity": "B", "bandwidth": "B/s"}
_EXECUTION = {"compute_units": "1", "launch_latency": "s"}
_POWER = {"tdp": "W", "idle": "W"}
_PRICE = {"per_hour": "USD/s"}
_LEVEL = {"size": "1", "bandwidth": "B/s", "latency": "s"}
LEVEL = _LEVEL | {"start": "s"}
"""The unit of each number of a network level."""

FIGURES = {
    "peak_flops": dict.fromkeys(PEAKS, "FLOP/s"),
    "memory": _MEMORY,
    "execution": _EXECUTION,
    "power": _POWER,
    "price": _PRICE,
    "design": design.SETTABLE,
}
"""The unit of each number of an accelerator that may be set, by table and key."""

MAY_BE_ZERO = {"reserve", "idle", "latency", "launch_latency", "start"}
"""Keys of numbers that may be zero."""

_TOP = {
    "name",
    "vendor",
    "architecture",
    "memory_type",
    "sources",
    "peak_flops",
    "memory",
    "memory_tier",
    "on_chip",
    "execution",
    "power",
    "price",
    "network",
    "kernels",
    "design",
}

_NAMES = ("name", "vendor", "architecture", "memory_type", "sources", "like")
"""Parts of a file that say nothing of how fast the accelerator is."""


@dataclass(frozen=True)
class NetworkSpec:
    """One level of the network.

    Arguments:
        name: what people call it.
        topology: the name of its wiring, see `hardware.topology.TOPOLOGIES`.
        dimensions: of a torus.
        figures: accelerators in it ("size"), B/s per direction and accelerator ("bandwidth"), s per
            hop ("latency"), and, where it is known, s per collective ("start").
    """

    name: str
    topology: str
    dimensions: int
    figures: Figures


@dataclass(frozen=True)
class Spec:
    """One accelerator file in SI.

    Arguments:
        id: the name of the file.
        name: what people call the accelerator.
        vendor: who makes it.
        peak_flops: FLOP/s per number format.
        memory: capacity, bandwidth and what the runtime reserves.
        execution: compute units and launch latency.
        power: TDP and, where it is known, idle power.
        network: its levels, innermost first; empty for a single accelerator.
        price: USD/s, where there is a public one.
        on_chip: capacity and bandwidth of on-chip memory, where they are known.
        memory_tiers: name and figures of slower memories, nearest first.
        design: the numbers of how it is built, as `hardware.design.Design` has them.
        design_names: the names of the same: its processes and memory; empty where the file does
            not say how it is built.
        sources: the text of each figure's source, by "memory.bandwidth" and the like.
        like: the accelerator whose fitted kernels time it, "transferred" or "none"; "" where the
            file says nothing.
        changed: whether it has other figures than the shipped file of the same id.
        settings: what was changed of the file (`hardware.settings`), for people.
        architecture: what compilers call it ("sm_100"); "" where the file says nothing.
        memory_type: of its main memory ("GDDR6"); "" where the file says nothing.
    """

    id: str
    name: str
    vendor: str
    peak_flops: Figures
    memory: Figures
    execution: Figures
    power: Figures
    network: tuple[NetworkSpec, ...]
    price: Figures = field(default_factory=dict)
    on_chip: Figures = field(default_factory=dict)
    memory_tiers: tuple[tuple[str, Figures], ...] = ()
    design: Figures = field(default_factory=dict)
    design_names: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    like: str = ""
    changed: bool = False
    settings: tuple[str, ...] = ()
    architecture: str = ""
    memory_type: str = ""

    @property
    def kind(self) -> Kind:
        """What it has in common with relatives."""
        innermost = self.network[0].name if self.network else ""
        return Kind.of(self.architecture, self.memory_type, innermost)


def specs_folder() -> Path:
    """Where the shipped accelerator files are.

    Inside the installed package, or at the top of a checkout.
    """
    return data_folder("hw_specs")


def list_systems() -> list[str]:
    """The ids of the shipped accelerators, sorted."""
    return sorted(path.stem for path in specs_folder().glob("*.toml"))


def schema() -> str:
    """The text that explains how an accelerator file is written: hw_specs/README.md."""
    return (specs_folder() / "README.md").read_text(encoding="utf-8")


def read_spec(system: str | Path) -> Spec:
    """The accelerator called `system`, or the file at that path.

    Raises:
        InputError: no such id or file, or a file that breaks the schema; the message names the key.
    """
    if not isinstance(system, str | Path):
        raise InputError(
            f'system: a {type(system).__name__} is no name; write "h100_sxm", or the path of a file'
        )
    path = Path(system)
    if path.suffix != ".toml":
        if str(system) not in list_systems():
            raise _unknown_system(str(system))
        path = specs_folder() / f"{system}.toml"
    spec = _Reader(path, read_toml(path, "system")).spec()
    shipped = specs_folder() / path.name
    if shipped.is_file() and path.resolve() != shipped.resolve():
        same = dataclasses.replace(
            _Reader(shipped, read_toml(shipped, "system")).spec(),
            **{name: getattr(spec, name) for name in _NAMES},
        )
        spec = dataclasses.replace(spec, changed=spec != same)
    return spec


def _unknown_system(asked: str) -> InputError:
    """The error for a system that is not shipped.

    It proposes accelerators whose id or name contains what was asked for, or the other way round.
    Those that only look alike, as an RTX 3080 and an RTX 3090 do, are other chips and are not
    proposed.
    """
    ids = list_systems()
    if asked and Path(f"{asked}.toml").is_file():
        hint = f"write {asked}.toml for the file"
    elif Path(asked).is_file():
        hint = "the file of an accelerator is a TOML, and its name ends in .toml"
    else:
        relatives = [each for each in ids if _alike(asked, each)] or [
            each for each in ids if _alike(asked, read_spec(each).name)
        ]
        hint = "see `diffgenz list systems`"
        if relatives:
            hint = f"did you mean {' or '.join(relatives[:6])}?"
    return InputError(
        f"system: {asked!r} is not known; {hint}; the path of your own .toml does too "
        "(`diffgenz list systems --schema` says how it is written)"
    )


def _alike(asked: str, name: str) -> bool:
    """Whether one of two names contains the other, apart from case, blanks and punctuation."""
    one, other = (re.sub("[^a-z0-9]", "", text.lower()) for text in (asked, name))
    return len(one) > 1 and (one in other or other in one)


class _Reader:
    """Walks through one parsed file and collects the sources on the way.

    It refuses what the schema does not have.
    """

    def __init__(self, path: Path, raw: dict[str, Any]):
        self.path, self.raw, self.sources = path, raw, {}

    def fail(self, where: str, problem: str) -> InputError:
        return InputError(f"{self.path.name}: {where}: {problem}")

    def spec(self) -> Spec:
        self.known("the file", self.raw, _TOP)
        for key, text in self.table("sources").items():
            if not isinstance(text, str) or not text.strip():
                raise self.fail(
                    f"sources.{key}",
                    f'{text!r} is no source; write {key} = "title, publisher, year"',
                )
        network = self.raw.get("network", [])
        tiers = self.raw.get("memory_tier", [])
        for key, levels in (("network", network), ("memory_tier", tiers)):
            if not isinstance(levels, list) or not all(isinstance(level, dict) for level in levels):
                raise self.fail(key, f"must be tables; write each under a line [[{key}]]")
        execution = self.figures(
            "execution", self.table("execution", required=True), _EXECUTION, _EXECUTION
        )
        spec = Spec(
            id=self.path.stem,
            name=self.text("name", self.raw),
            vendor=self.text("vendor", self.raw),
            peak_flops=self.figures(
                "peak_flops",
                self.table("peak_flops", required=True),
                dict.fromkeys(PEAKS, "FLOP/s"),
                (),
            ),
            memory=self.figures("memory", self.table("memory", required=True), _MEMORY, _MEMORY),
            execution=execution,
            power=self.figures("power", self.table("power", required=True), _POWER, ("tdp",)),
            network=tuple(
                self.level(f"network[{index}]", level) for index, level in enumerate(network)
            ),
            price=self.figures("price", self.table("price"), _PRICE, ()),
            on_chip=self.figures("on_chip", self.table("on_chip", skip="name"), _ON_CHIP, ()),
            memory_tiers=tuple(
                self.tier(f"memory_tier[{index}]", tier) for index, tier in enumerate(tiers)
            ),
            design=self.design(execution["compute_units"]),
            design_names=self.design_names(),
            sources=self.sources,
            like=self.like(),
            architecture=self.architecture(),
            memory_type=self.memory_type(),
        )
        if not spec.peak_flops:
            raise self.fail("peak_flops", f"at least one peak is needed, of {', '.join(PEAKS)}")
        sizes = [level.figures["size"] for level in spec.network]
        if any(size < 2 for size in sizes):
            raise self.fail(
                "network",
                f"sizes {sizes} are not allowed; a level connects 2 accelerators or more, and a "
                "single one needs no [[network]]",
            )
        if sizes != sorted(sizes):
            raise self.fail(
                "network",
                f"sizes {sizes} must grow outwards: the size of a level counts all accelerators "
                "inside it",
            )
        return spec

    def architecture(self) -> str:
        """What compilers call it; "" where the file says nothing."""
        if "architecture" not in self.raw:
            return ""
        name = self.text("architecture", self.raw)
        if not re.fullmatch(r"sm_\d+[a-z]?|gfx[0-9a-f]+", name):
            raise self.fail(
                "architecture",
                f'{name!r} is not known; write what compilers call it, such as "sm_100" or '
                '"gfx942", or leave it out',
            )
        return name

    def memory_type(self) -> str:
        """What its main memory is: the file says so, or its `[design]` does; else ""."""
        told = self.design_names().get("memory", "")
        return self.text("memory_type", self.raw) if "memory_type" in self.raw else told

    def like(self) -> str:
        """What `[kernels] like` names; "" where there is none."""
        table = self.table("kernels")
        self.known("kernels", table, ("like",))
        return self.text("like", table, "kernels") if table else ""

    def design(self, compute_units: float) -> Figures:
        """The numbers of `[design]`."""
        table = self.table("design")
        self.known("design", table, (*design.TEXTS, *design.FIGURES))
        numbers = {key: value for key, value in table.items() if key not in design.TEXTS}
        needed = [key for key in design.NEEDED if key not in design.TEXTS] if table else ()
        figures = self.figures("design", numbers, design.FIGURES, needed)
        for key, most in (("units", compute_units), ("stack_sites", figures.get("stacks"))):
            if key in figures and most and figures[key] < most:
                raise self.fail(
                    f"design.{key}",
                    f"{figures[key]:g} are fewer than the {most:g} in use; count those on the die",
                )
        return design.ratios(figures, compute_units)

    def design_names(self) -> dict[str, str]:
        """The names in `[design]`, each with a source like a figure."""
        table = self.table("design")
        for key in design.NEEDED if table else ():
            if key not in table:
                raise self.fail(f"design.{key}", "is missing; a [design] needs it")
        found = {}
        for key in design.TEXTS:
            written = table.get(key)
            if isinstance(written, list) and len(written) == 2:
                written, source = written
                titles = self.table("sources")
                if source not in titles:
                    raise self.fail(f"design.{key}", f"{unknown('source', source, titles)}")
                self.sources[f"design.{key}"] = titles[source]
            if written is not None:
                found[key] = self.text(key, {key: written}, "design")
        return found

    def level(self, where: str, raw: dict[str, Any]) -> NetworkSpec:
        words = ("name", "topology", "dimensions")
        figures = {key: value for key, value in raw.items() if key not in words}
        return NetworkSpec(
            self.text("name", raw, where),
            self.text("topology", raw, where),
            raw.get("dimensions", 1),
            self.figures(where, figures, LEVEL, _LEVEL),
        )

    def tier(self, where: str, raw: dict[str, Any]) -> tuple[str, Figures]:
        figures = {key: value for key, value in raw.items() if key != "name"}
        return self.text("name", raw), self.figures(where, figures, TIER, TIER)

    def table(self, key: str, required: bool = False, skip: str = "") -> dict[str, Any]:
        table = self.raw.get(key, {})
        if not isinstance(table, dict) or (required and key not in self.raw):
            raise self.fail(key, f"the table [{key}] is needed")
        return {name: value for name, value in table.items() if name != skip}

    def text(self, key: str, raw: dict[str, Any], where: str = "") -> str:
        value = raw.get(key)
        if not isinstance(value, str) or not value:
            raise self.fail(f"{where}.{key}" if where else key, "a text is needed")
        return value

    def known(self, where: str, table: dict[str, Any], keys: Any) -> None:
        for key in table:
            if key not in keys:
                raise self.fail(where, str(unknown("key", key, keys)))

    def figures(
        self, where: str, table: dict[str, Any], units: dict[str, str], required: Any
    ) -> Figures:
        self.known(where, table, units)
        for key in required:
            if key not in table:
                raise self.fail(f"{where}.{key}", f'is missing; write {key} = "value with unit"')
        return {
            key: self.figure(f"{where}.{key}", value, units[key]) for key, value in table.items()
        }

    def figure(self, where: str, written: Any, unit: str) -> float:
        """One figure in SI, from `["quantity", "source"]` or a quantity alone."""
        quantity, source = written, UNSOURCED
        if isinstance(written, list):
            if len(written) != 2:
                raise self.fail(
                    where, f'{written!r} is no figure; write ["value with unit", "source"]'
                )
            quantity, key = written
            titles = self.table("sources")
            if not isinstance(key, str) or key not in titles:
                raise self.fail(where, f"{unknown('source', key, titles)}, of [sources]")
            source = titles[key]
        if unit == "1" and isinstance(quantity, int | float) and not isinstance(quantity, bool):
            quantity = str(quantity)
        value = parse(quantity, unit, field=f"{self.path.name}: {where}")
        allow_zero = where.rsplit(".", 1)[-1] in MAY_BE_ZERO
        if not (value > 0 or (allow_zero and value == 0)) or value == float("inf"):
            bound = "not negative" if allow_zero else "above zero"
            raise self.fail(where, f"{quantity!r} must be finite and {bound}")
        self.sources[where] = source
        return value
