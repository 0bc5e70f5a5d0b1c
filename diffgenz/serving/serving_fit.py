"""`ServingFit`: what was fitted to serving benchmarks, as a small TOML file that serving loads.

An engine's terms are fields of `Engine`; deployments may differ from their engine.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from diffgenz.core.checks import demand
from diffgenz.core.errors import InputError
from diffgenz.core.files import read_toml, written_aside
from diffgenz.kernels.software import DEFAULT, SOFTWARE
from diffgenz.scenario.scenario import Scenario
from diffgenz.serving.load import Engine

VERSION = 1
"""Version of the file's layout."""

FIELDS = (
    "request_seconds",
    "stream_interval",
    "host_seconds",
    "layer_seconds",
    "prompt_layer_seconds",
    "pace",
)
"""What of an engine is fitted."""


@dataclass(frozen=True)
class EngineFit:
    """What was fitted to the runs of one engine.

    Arguments:
        name: of the engine, of `kernels.software.SOFTWARE`; "" where benchmarks did not say it.
        values: by field of `Engine`, those that were fitted, in SI.
        standard_errors: of these.
        runs: how many runs they were fitted to.
    """

    name: str
    values: Mapping[str, float]
    standard_errors: Mapping[str, float]
    runs: int


@dataclass(frozen=True)
class DeploymentFit:
    """How one deployment differs from its engine.

    Arguments:
        engine: its software.
        deployment: what it is (`deployment_words`).
        pace: its pace over the engine's.
        host: what its host adds, over the engine's.
        pace_error: the standard error of the logarithm of `pace`.
        host_error: of that of `host`.
        runs: how many runs it was fitted to.
    """

    engine: str
    deployment: str
    pace: float
    host: float
    pace_error: float
    host_error: float
    runs: int


@dataclass(frozen=True)
class ServingFit:
    """What serving benchmarks say of engines and deployments.

    Arguments:
        engines: one for each engine in the benchmarks.
        deployments: those that differ from their engine.
        held_out: by what was held out and by metric, the median relative error there.
    """

    engines: tuple[EngineFit, ...]
    deployments: tuple[DeploymentFit, ...] = ()
    held_out: Mapping[str, Mapping[str, float]] | None = None

    def engine(self, case: Scenario, software: str = "", engine: Engine | None = None) -> Engine:
        """What serves a scenario.

        Arguments:
            case: the scenario.
            software: the engine; "": the only one of the file, else the one whose kernels estimates
                take by default.
            engine: what it is set to; what that says, the file does not change. Default:
                `Engine()`.

        Raises:
            InputError: the file has no such engine.
        """
        engine = Engine() if engine is None else engine
        demand("engine", engine, Engine, "Engine(max_num_seqs=256)")
        names = [each.name for each in self.engines]
        if not software:
            software = names[0] if len(names) == 1 else DEFAULT
        found = next((each for each in self.engines if each.name in (software, "")), None)
        if found is None:
            raise InputError(
                f"serving fit: it has no {software}, but {', '.join(names)}; calibrate it with "
                f"runs of {software}, or take its kernels by `--fit`"
            )
        values = dict(found.values)
        words = deployment_words(case)
        for each in self.deployments:
            if each.engine == found.name and each.deployment == words:
                values["pace"] = values.get("pace", 1.0) * each.pace
                for name in _SECONDS & values.keys():
                    values[name] *= each.host
                if "stream_interval" in values:
                    values["stream_interval"] = 1 + (values["stream_interval"] - 1) * each.host
        return engine.replace(**{name: x for name, x in values.items() if _free(engine, name)})


_SECONDS = {"request_seconds", "host_seconds", "layer_seconds", "prompt_layer_seconds"}
_OWN = ("pace", "host", "pace_error", "host_error")


def _free(engine: Engine, name: str) -> bool:
    """Whether nobody said a number of an engine."""
    value: Any = getattr(engine, name)
    return value is None or (name == "host_seconds" and float(value) == 0)


def deployment_words(case: Scenario) -> str:
    """What a deployment is: model, accelerators, layout and formats, in one line."""
    plan, names = case.plan, ("tensor", "pipeline", "data", "expert", "attention_data", "context")
    counts = {name: float(getattr(plan, name) or 1) for name in names}
    ranks = ", ".join(f"{name} {count:g}" for name, count in counts.items() if count != 1)
    machine = f"{case.platform.accelerator.name} x {float(plan.ranks):g}"
    return "; ".join(filter(None, (case.model.name, machine, ranks, case.precision.summary)))


def save_serving_fit(fit: ServingFit, path: str | Path, how: str = "") -> None:
    """Write a fit to a TOML file, aside, then renamed.

    Arguments:
        fit: what to write.
        path: the file.
        how: the command that remakes it.

    Raises:
        InputError: it cannot be written.
    """
    lines = [
        f"version = {VERSION}",
        'kind = "serving"',
        f"diffgenz = {json.dumps(metadata.version('diffgenz'))}",
        f"made_by = {json.dumps(how)}",
    ]
    for by, errors in (fit.held_out or {}).items():
        shown = ", ".join(f"{name} = {_figure(x)}" for name, x in errors.items())
        lines += ["", "[[held_out]]", f"by = {json.dumps(by)}", f"median_error = {{ {shown} }}"]
    for each in fit.engines:
        lines += ["", "[[engine]]", f"name = {json.dumps(each.name)}", f"runs = {each.runs}"]
        lines += [f"{name} = {_figure(value)}" for name, value in each.values.items()]
        shown = ", ".join(f"{name} = {_figure(x)}" for name, x in each.standard_errors.items())
        lines.append(f"standard_errors = {{ {shown} }}")
    for one in fit.deployments:
        lines += ["", "[[deployment]]", f"engine = {json.dumps(one.engine)}"]
        lines += [f"deployment = {json.dumps(one.deployment)}", f"runs = {one.runs}"]
        lines += [f"{name} = {_figure(getattr(one, name))}" for name in _OWN]
    with written_aside(Path(path), "out") as aside:
        aside.write_text("\n".join(lines) + "\n", encoding="utf-8")


def load_serving_fit(path: str | Path) -> ServingFit:
    """The fit in a file that `calibrate` wrote.

    Arguments:
        path: the file.

    Raises:
        InputError: it cannot be read, or breaks the layout; the message names the key.
    """
    place = Path(path)
    raw = read_toml(place, "serving-fit")
    if raw.get("version") != VERSION or raw.get("kind") != "serving":
        raise InputError(
            f"{place}: kind: {raw.get('kind')!r} of version {raw.get('version')!r} is no serving "
            "fit of this release; make it with `diffgenz calibrate BENCH.json --out FIT.toml`"
        )
    try:
        engines = tuple(_engine(table, place) for table in raw.get("engine", []))
        deployments = tuple(
            DeploymentFit(
                engine=str(table["engine"]),
                deployment=str(table["deployment"]),
                runs=int(table["runs"]),
                **{name: _number(table, name, place) for name in _OWN},
            )
            for table in raw.get("deployment", [])
        )
        held_out = {
            str(table["by"]): dict(table["median_error"]) for table in raw.get("held_out", [])
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{place}: a table is damaged ({error}); make the file anew with calibrate"
        ) from None
    if not engines:
        raise InputError(f"{place}: engine: there is none; make the file anew with calibrate")
    return ServingFit(engines, deployments, held_out)


def _engine(table: dict[str, Any], place: Path) -> EngineFit:
    name = table["name"]
    if name not in (*SOFTWARE, ""):
        raise InputError(
            f"{place}: engine.name: {name!r} is not known; use one of {', '.join(SOFTWARE)}"
        )
    known = {"name", "runs", "standard_errors", *FIELDS}
    strange = [key for key in table if key not in known]
    if strange:
        raise InputError(
            f"{place}: engine.{strange[0]}: is not known; engines have {', '.join(FIELDS)}"
        )
    values = {key: _number(table, key, place) for key in FIELDS if key in table}
    Engine().replace(**values)  # in bounds
    return EngineFit(name, values, dict(table["standard_errors"]), int(table["runs"]))


def _number(table: dict[str, Any], key: str, place: Path) -> float:
    value = table[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise InputError(
            f"{place}: {key}: {value!r} is no number of at least 0; make the file anew with "
            "calibrate"
        )
    return float(value)


def _figure(x: float) -> str:
    return repr(float(f"{x:.6g}"))
