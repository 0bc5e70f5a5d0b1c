"""Accelerator files: hw_specs/*.toml, read into plain SI numbers with the source of every figure.

This module does without JAX, since `diffgenz list` must be quick.

The tables below are the schema of a file, and hw_specs/README.md explains it. A figure is written
`["3.35 TB/s", "datasheet"]`: a quantity, and the key of its source in `[sources]`. Unknown keys,
missing sources and values without a unit are refused by name.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffgenz.core.errors import InputError, unknown
from diffgenz.core.files import data_folder, read_toml
from diffgenz.core.units import parse

PEAK_FORMATS = ("fp32", "tf32", "bf16", "fp16", "fp8", "int8", "fp6", "mxfp4", "nvfp4", "int4")
TOPOLOGIES = ("switch", "mesh", "torus", "fabric")

Figures = dict[str, float]

_MEMORY = {"capacity": "B", "bandwidth": "B/s", "reserve": "B"}
_TIER = {"capacity": "B", "bandwidth": "B/s"}
_ON_CHIP = {"capacity": "B", "bandwidth": "B/s"}
_EXECUTION = {"compute_units": "1", "launch_latency": "s"}
_POWER = {"tdp": "W", "idle": "W"}
_PRICE = {"per_hour": "USD/s"}
_NETWORK = {"size": "1", "bandwidth": "B/s", "latency": "s"}
_TOP = {
    "name",
    "vendor",
    "sources",
    "peak_flops",
    "memory",
    "memory_tier",
    "on_chip",
    "execution",
    "power",
    "price",
    "network",
}


@dataclass(frozen=True)
class NetworkSpec:
    """One level of the network, as the file states it.

    Arguments:
        name: what people call the level.
        topology: one of `TOPOLOGIES`.
        dimensions: of a torus, 2 or 3; 1 for the others.
        figures: "size" (accelerators in one group of the level), "bandwidth" (B/s per direction
            and accelerator) and "latency" (s per hop).
    """

    name: str
    topology: str
    dimensions: int
    figures: Figures


@dataclass(frozen=True)
class Spec:
    """One accelerator file in SI.

    Arguments:
        id: the name of the file, without its suffix.
        name: what people call the accelerator.
        vendor: who makes it.
        peak_flops: FLOP/s by number format.
        memory: capacity (B), bandwidth (B/s) and reserve (B) of the main memory.
        execution: compute units, and launch latency (s).
        power: TDP, and idle power where it is known, in W.
        network: its levels, innermost first.
        price: USD/s; empty where no price is known.
        on_chip: capacity (B) and bandwidth (B/s) of the last on-chip memory, where known.
        memory_tiers: name, capacity (B) and bandwidth (B/s) of slower memories, nearest first.
        sources: the source of each figure, by the figure's name, such as "memory.bandwidth".
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
    sources: dict[str, str] = field(default_factory=dict)


def specs_folder() -> Path:
    """The folder of the shipped accelerator files.

    It is inside the installed package, or at the top of a checkout.
    """
    return data_folder("hw_specs")


def system_ids() -> list[str]:
    """The ids of the shipped accelerators, sorted."""
    return sorted(path.stem for path in specs_folder().glob("*.toml"))


def read_spec(system: str | Path) -> Spec:
    """The accelerator called `system`, or the one of the file at that path.

    Arguments:
        system: the id of a shipped accelerator, or the path of a file that ends in ".toml".

    Raises:
        InputError: there is no such id or file, or the file breaks the schema; the message names
            the key.
    """
    path = Path(system)
    if path.suffix != ".toml":
        if str(system) not in system_ids():
            raise unknown("system", str(system), system_ids())
        path = specs_folder() / f"{system}.toml"
    return _Reader(path, read_toml(path, "system")).spec()


class _Reader:
    """Walks one parsed file: refuses what the schema does not have, and collects the sources."""

    def __init__(self, path: Path, raw: dict[str, Any]):
        self.path, self.raw, self.sources = path, raw, {}

    def fail(self, where: str, problem: str) -> InputError:
        return InputError(f"{self.path.name}: {where}: {problem}")

    def spec(self) -> Spec:
        self.known("the file", self.raw, _TOP)
        titles = self.table("sources", required=True)
        if not titles or not all(
            isinstance(text, str) and text.strip() for text in titles.values()
        ):
            raise self.fail(
                "sources",
                "every figure needs a source; write [sources] with lines such as "
                'datasheet = "title, publisher, year"',
            )
        network = self.raw.get("network")
        if not isinstance(network, list) or not network:
            raise self.fail("network", "at least one [[network]] level is needed")
        tiers = self.raw.get("memory_tier", [])
        for key, levels in (("network", network), ("memory_tier", tiers)):
            if not isinstance(levels, list) or not all(isinstance(level, dict) for level in levels):
                raise self.fail(key, f"must be tables; write each under a line [[{key}]]")
        spec = Spec(
            id=self.path.stem,
            name=self.text("name", self.raw),
            vendor=self.text("vendor", self.raw),
            peak_flops=self.figures(
                "peak_flops",
                self.table("peak_flops", required=True),
                dict.fromkeys(PEAK_FORMATS, "FLOP/s"),
                (),
            ),
            memory=self.figures("memory", self.table("memory", required=True), _MEMORY, _MEMORY),
            execution=self.figures(
                "execution", self.table("execution", required=True), _EXECUTION, _EXECUTION
            ),
            power=self.figures("power", self.table("power", required=True), _POWER, ("tdp",)),
            network=tuple(
                self.level(f"network[{index}]", level) for index, level in enumerate(network)
            ),
            price=self.figures("price", self.table("price"), _PRICE, ()),
            on_chip=self.figures("on_chip", self.table("on_chip", skip="name"), _ON_CHIP, ()),
            memory_tiers=tuple(
                (
                    self.text("name", tier),
                    self.figures(
                        f"memory_tier[{index}]",
                        {k: v for k, v in tier.items() if k != "name"},
                        _TIER,
                        _TIER,
                    ),
                )
                for index, tier in enumerate(tiers)
            ),
            sources=self.sources,
        )
        if not spec.peak_flops:
            raise self.fail(
                "peak_flops", f"at least one peak is needed, of {', '.join(PEAK_FORMATS)}"
            )
        sizes = [level.figures["size"] for level in spec.network]
        if sizes != sorted(sizes):
            raise self.fail(
                "network",
                f"sizes {sizes} must grow outwards: "
                "the size of a level counts all accelerators inside it",
            )
        return spec

    def level(self, where: str, raw: dict[str, Any]) -> NetworkSpec:
        topology = self.text("topology", raw, where)
        if topology not in TOPOLOGIES:
            raise self.fail(where, str(unknown("topology", topology, TOPOLOGIES)))
        dimensions = raw.get("dimensions", 1)
        if topology == "torus" and dimensions not in (2, 3):
            raise self.fail(where, "a torus has dimensions = 2 or 3")
        figures = {
            key: value
            for key, value in raw.items()
            if key not in ("name", "topology", "dimensions")
        }
        return NetworkSpec(
            self.text("name", raw, where),
            topology,
            dimensions,
            self.figures(where, figures, _NETWORK, _NETWORK),
        )

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
                raise self.fail(
                    f"{where}.{key}", f'is missing; write {key} = ["value with unit", "source"]'
                )
        return {
            key: self.figure(f"{where}.{key}", value, units[key]) for key, value in table.items()
        }

    def figure(self, where: str, pair: Any, unit: str) -> float:
        if not isinstance(pair, list) or len(pair) != 2:
            raise self.fail(
                where, f'has no source; write ["value with unit", "source"], not {pair!r}'
            )
        titles = self.raw["sources"]
        if not isinstance(pair[1], str) or pair[1] not in titles:
            raise self.fail(where, str(unknown("source", pair[1], titles)))
        value = parse(pair[0], unit, field=f"{self.path.name}: {where}")
        allow_zero = where.endswith((".reserve", ".idle", "latency"))
        if not (value > 0 or (allow_zero and value == 0)) or value == float("inf"):
            raise self.fail(
                where,
                f"{pair[0]!r} must be finite and {'not negative' if allow_zero else 'above zero'}",
            )
        self.sources[where] = titles[pair[1]]
        return value
