"""The folder of a sweep of the command line: beside what was found, what made its space.

From the copy of the space file, and what else the command was given, `pareto`, `merge` and
`--resume` make the space again.
"""

import json
from pathlib import Path

from diffgenz.core.errors import InputError
from diffgenz.studies.sweep.checkpoint import MANIFEST, read_manifest, write_text
from diffgenz.studies.sweep.findings import Findings
from diffgenz.studies.sweep.space_file import SpaceFile, load_space
from diffgenz.studies.sweep.sweep import findings_in

_COPY, _ORIGIN = "space.toml", "origin.json"


def is_begun(folder: Path) -> bool:
    """Whether a sweep has been started there."""
    return (folder / MANIFEST).exists()


def write_origin(folder: Path, source: Path, n: float | None, fit: str | None) -> None:
    """Keep what makes the space of a sweep.

    Arguments:
        folder: of the sweep.
        source: its space file.
        n: configurations that the command asked for.
        fit: what it asked to time the kernels.
    """
    write_text(folder / _COPY, source.read_text(encoding="utf-8"))
    origin = {"folder": str(source.parent.resolve()), "n": n, "fit": fit}
    write_text(folder / _ORIGIN, json.dumps(origin) + "\n")


def copy_origin(first: Path, second: Path) -> None:
    """Keep in a second folder what makes the space of the sweep in a first one."""
    for name in (_COPY, _ORIGIN):
        write_text(second / name, (first / name).read_text(encoding="utf-8"))


def space_in(folder: Path) -> SpaceFile:
    """The space and the reductions of a sweep.

    Raises:
        InputError: there is none, or a model or system that it names by its path is no longer
            there.
    """
    read_manifest(folder)
    try:
        origin = json.loads((folder / _ORIGIN).read_text())
    except (OSError, ValueError):
        raise InputError(
            f"{folder}: has no readable {_ORIGIN}; it is not one of `diffgenz sweep`: use "
            "diffgenz.findings_in from Python"
        ) from None
    home = Path(origin["folder"])
    return load_space(folder / _COPY, n=origin["n"], folder=home, fit=origin.get("fit"))


def read_findings(folder: Path) -> Findings:
    """What a sweep has found so far."""
    return findings_in(*space_in(folder), folder)
