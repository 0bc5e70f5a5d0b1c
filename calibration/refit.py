"""Remake the shipped fits from aiconfigurator's tables.

    pip install "diffgenz[calibration]" && python calibration/refit.py [WHAT ...] [--data DIR]

Every accelerator below, every software, the newest version of each table: one fit for each kernel family, format and kernel, a fifth of the shapes
held out. Then what all GPUs have in common, for those without measurements (`transferred.toml`). About an hour on 2 cores.
"""

import argparse
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import jax

from diffgenz.calibrating.cleaning import cleaned
from diffgenz.calibrating.readers import TABLES, samples_of
from diffgenz.calibrating.run import hardware_of, measurements
from diffgenz.calibrating.transfer import Measured, transferred
from diffgenz.errors import InputError
from diffgenz.fits import TRANSFERRED, KernelFit, fit_path, fits_of, write_fits
from diffgenz.kernels.library import Origin
from diffgenz.software import SOFTWARE
from diffgenz.specs import read_spec

SYSTEMS = {
    "a100_sxm": tuple(TABLES),
    "h100_sxm": tuple(TABLES),
    "h200_sxm": tuple(TABLES),
    "b200_sxm": tuple(TABLES),
    "b300_sxm": tuple(TABLES),
    "gb200": tuple(TABLES),
    "l40s": tuple(name for name in TABLES if "context_attention" not in name and "generation_attention" not in name and "moe" not in name),
}
"""What is fitted of each. Other accelerators, and attention and experts on L40S, are kept to judge transferred parameters by."""

COMMAND = "python calibration/refit.py"


def tables_of(system: str, data: Path) -> list[Path]:
    """The newest version of each table of `system`: aiconfigurator's own folders, or files called table__software-version."""
    newest: dict[tuple[str, str], tuple[list[int], Path]] = {}
    for path in sorted((data / system).rglob("*.parquet")):
        table, _, label = path.stem.partition("__")
        software, version = label.split("-", 1) if label else path.parts[-3:-1]
        if table in SYSTEMS[system]:
            numbers = [int(part) for part in re.findall(r"\d+", version)]
            newest[table, software] = max(newest.get((table, software), ([], path)), (numbers, path))
    return [path for _, path in newest.values()]


def data_folder() -> Path | None:
    """The tables of an installed aiconfigurator-core."""
    spec = importlib.util.find_spec("aiconfigurator_core")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "systems" / "data"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = [*SYSTEMS, TRANSFERRED]
    parser.add_argument("what", metavar="WHAT", nargs="*", default=what, help=f"some of {', '.join(what)}, in this order (default: all)")
    parser.add_argument("--data", type=Path, default=data_folder(), help="a folder per system (default: those of the installed aiconfigurator-core)")
    options = parser.parse_args()
    if options.data is None:
        sys.exit("no tables: pip install aiconfigurator-core==0.12.0, or give --data")
    for name in options.what:
        fits = transferred(list(shipped(options.data))) if name == TRANSFERRED else own(name, options.data)
        write_fits(fit_path(name), name, fits, COMMAND)


def own(system: str, data: Path) -> list[KernelFit]:
    """The fits of one system."""
    fits = []
    for table in tables_of(system, data):
        try:
            for each in measurements([table], system, skipped=print):
                _show(system, each.fit)
                fits.append(each.fit)
        except InputError as error:  # a table that cannot be believed, or holds nothing that this accelerator multiplies
            print(f"left out: {error}", flush=True)
        jax.clear_caches()  # every table is another number of rows, hence another program: they would fill the memory map
    return fits


def shipped(data: Path) -> Iterator[Measured]:
    """The rows behind every shipped fit that is taken where nothing is said, with the fit."""
    for system in SYSTEMS:
        spec = read_spec(system)
        fits = {(fit.family, fit.format, fit.source, fit.kernel): fit for fit in fits_of(Origin(system, "", SOFTWARE[0]))}
        for path in tables_of(system, data):
            for _, samples in samples_of([path]):
                fit = fits.get((samples.family, samples.format, samples.source, samples.kernel))
                if fit is not None:
                    hardware = hardware_of(spec, samples)
                    yield Measured(system, cleaned(samples, hardware, path), hardware, fit)


def _show(system: str, fit: KernelFit) -> None:
    print(f"{system} {fit.family} {fit.format} {fit.source} {fit.kernel}: {100 * fit.mean_error:.1f} %, {fit.held_out} rows", flush=True)


if __name__ == "__main__":
    main()
