"""Remake the shipped fits from aiconfigurator's tables.

    pip install "diffgenz[calibration]" && python calibration/refit.py [WHAT ...] [--data DIR] \
        [--families FAMILY ...]

There is one fit for each kernel family, format and kernel of every accelerator below and of every
software, as measured with the newest version that has the kernel; a fifth of the shapes is held
out. Then comes what all GPUs have in common, for those without measurements (`transferred.toml`).
It takes about an hour on 2 cores.
"""

import argparse
import dataclasses
import importlib.util
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import numpy as np

from diffgenz.calibrating.calibrate import launches_of_a_host, usable_rows
from diffgenz.calibrating.fitting import fit
from diffgenz.calibrating.readers.registry import TABLES, samples_of, table_name
from diffgenz.calibrating.samples import Samples
from diffgenz.calibrating.simplifying import fit_simplified
from diffgenz.calibrating.transfer import STARTS, Measured, transferred
from diffgenz.core.errors import InputError
from diffgenz.hardware.specs import read_spec
from diffgenz.kernels.families import FAMILIES
from diffgenz.kernels.fits import KernelFit, read_fits, write_fits
from diffgenz.kernels.forms.deepep import NormalCombine, NormalDispatch
from diffgenz.kernels.forms.elementwise import Elementwise
from diffgenz.kernels.selection import TRANSFERRED, fit_path, preference
from diffgenz.kernels.shapes import ExchangeShape
from diffgenz.kernels.software import SOFTWARE
from diffgenz.ui.cli.cache import cache_compilations

SYSTEMS = {
    "a100_sxm": tuple(TABLES),
    "h100_sxm": tuple(TABLES),
    "h200_sxm": tuple(TABLES),
    "b200_sxm": tuple(TABLES),
    "b300_sxm": tuple(TABLES),
    "gb200": tuple(TABLES),
    "l40s": tuple(
        name
        for name in TABLES
        if "context_attention" not in name and "generation_attention" not in name
    ),
}
"""The tables that are fitted, of each accelerator.

Others, and attention on L40S, are kept to judge transferred parameters by.
"""

NODES = 4
"""Nodes up to which the tables of DeepEP's normal kernels are believed.

On 8 nodes they reach 15 GB/s, a third of what its authors reach (README, EP 64).
"""

COMMAND = "python calibration/refit.py"


def kernels_of(system: str, data: Path) -> Iterator[tuple[Path, Samples]]:
    """The samples of each kernel of an accelerator, with the file that they come from.

    They are those of the newest version of its software that has the kernel. What an older version
    measured of an exchange between more nodes completes the newest's. What is left out goes to
    stderr.

    Arguments:
        system: id of the accelerator.
        data: the folder of all tables, with a folder for each accelerator.
    """
    found: dict[tuple[str, ...], tuple[Path, Samples]] = {}
    for path in _tables_of(system, data):
        try:
            parts = samples_of([path])
        except InputError as error:
            print(f"left out: {error}", file=sys.stderr, flush=True)
            continue
        for _, samples in parts:
            software = samples.source.partition("-")[0]
            kernel = samples.family, samples.format, software, samples.kernel
            if samples.form is Elementwise and software == "sglang":
                # It reaches a tenth of the bandwidth: kernels that it would stand for, such as
                # norms, are not like it.
                continue
            if kernel not in found:
                found[kernel] = path, samples
            elif isinstance(samples.shape, ExchangeShape):
                found[kernel] = found[kernel][0], _with_nodes_of(found[kernel][1], samples)
    yield from found.values()


def _with_nodes_of(samples: Samples, older: Samples) -> Samples:
    """The samples, completed by those of an older version between other numbers of nodes."""
    is_normal = issubclass(samples.form, NormalDispatch | NormalCombine)
    is_believed = (older.shape.nodes <= NODES) | (not is_normal)
    more = older.only(~np.isin(older.shape.nodes, samples.shape.nodes) & is_believed)
    if not len(more):
        return samples
    shape = ExchangeShape(*map(np.concatenate, zip(samples.shape, more.shape, strict=True)))
    source = f"{samples.source} and {older.source.partition('-')[2]}"
    return dataclasses.replace(
        samples, source=source, shape=shape, seconds=np.concatenate([samples.seconds, more.seconds])
    )


def _tables_of(system: str, data: Path) -> list[Path]:
    """The tables of an accelerator, kind by kind, the newest versions first.

    They are in aiconfigurator's own folders, or are files called table__software-version.
    """

    def order(path: Path) -> tuple[str, list[int]]:
        label = path.stem.partition("__")[2] or path.parts[-2]
        return table_name(path), [-int(part) for part in re.findall(r"\d+", label)] + [1]

    paths = [
        path for path in (data / system).rglob("*.parquet") if table_name(path) in SYSTEMS[system]
    ]
    return sorted(sorted(paths), key=order)


def data_folder() -> Path | None:
    """The tables of an installed aiconfigurator-core; None where it is not installed."""
    spec = importlib.util.find_spec("aiconfigurator_core")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "systems" / "data"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = [*SYSTEMS, TRANSFERRED]
    parser.add_argument(
        "what",
        metavar="WHAT",
        nargs="*",
        default=what,
        help=f"some of {', '.join(what)}, in this order (default: all)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=data_folder(),
        help="a folder per system (default: those of the installed aiconfigurator-core)",
    )
    parser.add_argument(
        "--families",
        nargs="*",
        choices=FAMILIES,
        default=list(FAMILIES),
        metavar="FAMILY",
        help=f"make only these anew, and keep the others: some of {', '.join(FAMILIES)}",
    )
    options = parser.parse_args()
    if options.data is None:
        sys.exit("no tables: pip install aiconfigurator-core==0.12.0, or give --data")
    cache_compilations()
    for name in options.what:
        families = set(options.families)
        fits = (
            transferred(
                alike(shipped(options.data, families)), lambda words: print(words, flush=True)
            )
            if name == TRANSFERRED
            else own(name, options.data, families)
        )
        path = fit_path(name)
        before = read_fits(path)[1] if families != FAMILIES.keys() and path.is_file() else []
        fits += [each for each in before if each.family not in families]
        write_fits(path, name, sorted(fits, key=_place), COMMAND)


def _place(fit: KernelFit) -> tuple[str, ...]:
    """Where a fit stands in a file."""
    return fit.family, fit.format, fit.source, fit.kernel


def own(system: str, data: Path, families: Collection[str] = FAMILIES) -> list[KernelFit]:
    """The fits of one accelerator; arguments are those of `kernels_of`, and the families wanted."""
    spec, fits = read_spec(system), []
    for path, samples in kernels_of(system, data):
        if samples.family not in families:
            continue
        usable = usable_rows(samples, spec, path, _tell)
        found = None if usable is None else fit_simplified(*usable)
        if found is not None and launches_of_a_host(found) is not None:
            _tell(f"{path}: {found.family} {found.format} {found.kernel}: the host's time")
        elif found is not None and found.held_out:
            name = f"{system} {found.family} {found.format} {found.source} {found.kernel}"
            print(f"{name}: {100 * found.mean_error:.1f} %", flush=True)
            fits.append(found)
        elif found is not None:
            name = f"{path}: {found.family} {found.format} {found.kernel}"
            _tell(f"{name}: no shape to hold out among {found.rows} rows")
    return fits


def shipped(data: Path, families: Collection[str] = FAMILIES) -> Iterator[Measured]:
    """The rows behind every shipped fit that is taken where nothing is said, with the fit.

    Arguments are those of `own`.
    """
    for system in SYSTEMS:
        spec = read_spec(system)
        taken: dict[tuple[str, str], KernelFit] = {}
        known = read_fits(fit_path(system))[1]
        for each in sorted(known, key=lambda each: preference(each, SOFTWARE[0])):
            taken.setdefault((each.family, each.format), each)
        fits = {
            (each.family, each.format, each.source, each.kernel): each
            for each in taken.values()
            if each.family in families
        }
        for path, samples in kernels_of(system, data):
            found = fits.get((samples.family, samples.format, samples.source, samples.kernel))
            usable = None if found is None else usable_rows(samples, spec, path, _tell)
            if found is not None and usable is not None and usable[0].form is found.form.whole():
                yield Measured(system, *usable, found, spec.kind)


def alike(measured: Iterable[Measured]) -> list[Measured]:
    """The same kernels, those of a family and format with the same terms, so that they compare.

    A term is there if any of them needs it. Kernels whose own fit lacks one are fitted anew.
    """
    measured = list(measured)
    needed: dict[tuple[str, str], set[str]] = {}
    for each in measured:
        key = each.samples.family, each.samples.format
        needed.setdefault(key, set()).update(each.fit.values)
    found = []
    for each in measured:
        whole = each.samples.form
        missing = whole.priors().keys() - needed[each.samples.family, each.samples.format]
        form = whole.without(*missing)
        again = each.samples if form is whole else dataclasses.replace(each.samples, form=form)
        own = each.fit if each.fit.form is form else fit(again, each.hardware, starts=STARTS)
        found.append(Measured(each.system, again, each.hardware, own, each.kind))
    return found


def _tell(words: str) -> None:
    print(f"left out: {words}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
