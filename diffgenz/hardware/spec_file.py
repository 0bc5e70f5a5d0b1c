"""One accelerator file, hw_specs/*.toml, read into plain SI numbers with every figure's source.

hw_specs/README.md explains the schema. A figure is written `["3.35 TB/s", "datasheet"]`: a quantity
and the key of its source in `[sources]`. Your own file may also say "3.35 TB/s" alone. Unknown
keys, unknown sources and values without a unit are refused by name.
"""

import re
from pathlib import Path
from typing import Any

from diffgenz.core.errors import InputError, unknown
from diffgenz.core.files import read_toml
from diffgenz.core.formats import PEAKS
from diffgenz.core.units import parse
from diffgenz.hardware import design
from diffgenz.hardware.spec import (
    EXECUTION,
    FIGURES,
    LEVEL,
    MAY_BE_ZERO,
    MEMORY,
    ON_CHIP,
    POWER,
    PRICE,
    TIER,
    UNSOURCED,
    Figures,
    NetworkSpec,
    Spec,
)

_NEEDED_OF_LEVEL = ("size", "bandwidth", "latency")

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


def spec_in(path: Path) -> Spec:
    """The accelerator in the file at `path`.

    Raises:
        InputError: it cannot be read, or breaks the schema; the message names the key.
    """
    return _Reader(path, read_toml(path, "system")).spec()


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
            "execution", self.table("execution", required=True), EXECUTION, EXECUTION
        )
        spec = Spec(
            id=self.path.stem,
            name=self.text("name", self.raw),
            vendor=self.text("vendor", self.raw),
            peak_flops=self.figures(
                "peak_flops",
                self.table("peak_flops", required=True),
                FIGURES["peak_flops"],
                (),
            ),
            memory=self.figures("memory", self.table("memory", required=True), MEMORY, MEMORY),
            execution=execution,
            power=self.figures("power", self.table("power", required=True), POWER, ("tdp",)),
            network=tuple(
                self.level(f"network[{index}]", level) for index, level in enumerate(network)
            ),
            price=self.figures("price", self.table("price"), PRICE, ()),
            on_chip=self.figures("on_chip", self.table("on_chip", skip="name"), ON_CHIP, ()),
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
            self.figures(where, figures, LEVEL, _NEEDED_OF_LEVEL),
        )

    def tier(self, where: str, raw: dict[str, Any]) -> tuple[str, Figures]:
        figures = {key: value for key, value in raw.items() if key != "name"}
        return self.text("name", raw, where), self.figures(where, figures, TIER, TIER)

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
