"""Which fits time the kernels of an accelerator: its own, those of one that it is like, or none.

- measured: there are fits of this very accelerator.
- like: it has numbers of its own, and the fits of another one, because its file says so
  (`[kernels] like = "b200_sxm"`), because somebody asks for it (`--fit like:b200_sxm`), or because
  its file changes the numbers of a shipped one and keeps its name.
- transferred: what all measured GPUs have in common, on its numbers.
- roofline: nothing is fitted; times are bounds.
"""

import dataclasses
import functools
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from diffgenz.core.errors import InputError, unknown
from diffgenz.core.files import data_folder
from diffgenz.kernels.fits import KernelFit, read_fits
from diffgenz.kernels.form import Form
from diffgenz.kernels.forms.gemm import QuantisedGemm
from diffgenz.kernels.kind import Kind
from diffgenz.kernels.library import Library, Origin
from diffgenz.kernels.relatives import STARTS_LATE
from diffgenz.kernels.software import DEFAULT, NONE, SOFTWARE, TAKEN_FIRST

TRANSFERRED = "transferred"
"""Name of the file of what all measured GPUs have in common, for those without measurements."""

ROOFLINE = "roofline"
"""The source of what no fitted kernel times."""

LIKE = "like:"
"""How people ask for the fits of another accelerator: "like:b200_sxm"."""

ON = " as on "
"""Between the source of a fit and the other accelerator that it was measured on."""

QUANTISED_APART = 3.0
"""Launch latencies above which TensorRT-LLM's products were measured with an eager quantisation.

They take 3.1 to 7.9 in its tables of fp8 and nvfp4. Its bf16 products take 1.1, and the other
engines' quantised ones on the same accelerators 0.6 to 2.8, which served models agree with
(docs/serving.md).
"""

UNTUNED = "modeloptfp8moe_flashinfer_cutlass"
"""Experts in fp8 per tensor by FlashInfer's CUTLASS, as vLLM 0.24.0 runs them.

Its tables of Hopper were measured without tuned tactics: they take 3 to 5 times as long as those of
TensorRT-LLM on the same GPU, and as vLLM's own did in 0.19.0.
"""

TUNED_MEMORY = 0.6
"""The share of memory bandwidth that `UNTUNED` exceeds where it was tuned.

It is 0.71 to 0.75 on Blackwell, and 0.19 and 0.57 on Hopper.
"""

NO_GPUS = {
    "ampere computing",
    "aws",
    "amazon",
    "apple",
    "cerebras",
    "google",
    "graphcore",
    "groq",
    "huawei",
    "intel",
    "qualcomm",
    "sambanova",
    "tenstorrent",
}
"""Vendors, in small letters, whose accelerators are unlike the measured GPUs: bounds time them."""


def fit_path(system: str) -> Path:
    """Where the shipped fits of an accelerator are; there may be none."""
    return data_folder("calibration") / "fits" / f"{system}.toml"


def fitted_systems() -> list[str]:
    """The ids of the accelerators that there are shipped fits of, sorted."""
    paths = (data_folder("calibration") / "fits").glob("*.toml")
    return sorted(path.stem for path in paths if path.stem != TRANSFERRED)


def fits_of(origin: Origin) -> list[KernelFit]:
    """The fits that time the kernels of an accelerator, one for each family and format.

    The first that there is: of a fit file, among those of the accelerator or of the one that it is
    like, or transferred.

    Raises:
        InputError: an unknown software, an accelerator that there are no fits of, or a fit file of
            another accelerator.
    """
    own: list[KernelFit] = []
    software, like = origin.fit, origin.like
    if origin.fit.endswith(".toml"):
        system, own = read_fits(Path(origin.fit))
        if system != origin.system:
            raise InputError(
                f"fit: {origin.fit} is of {system}, not of {origin.system}; "
                "give a fit of the same accelerator, or none"
            )
        own, software = sorted(own, key=lambda each: preference(each, DEFAULT)), DEFAULT
    elif origin.fit.startswith(LIKE):
        like, software = origin.fit.removeprefix(LIKE), DEFAULT
    elif origin.fit not in SOFTWARE:
        raise unknown("fit", origin.fit, [*SOFTWARE, NONE, f"{LIKE}SYSTEM", "FIT.toml"])
    kind, base = _base(origin.system, like, origin.vendor, origin.changed)
    shipped = [] if base is None else sorted(_shipped(base), key=lambda e: preference(e, software))
    if kind == "like":
        shipped = [_moved(each.plain, str(base), origin.kind) for each in shipped]
    transferred = [] if kind == ROOFLINE else _transferred(origin.kind)
    best: dict[tuple[str, str], KernelFit] = {}
    for each in (*own, *shipped, *transferred):
        best.setdefault((each.family, each.format), each.plain)
    return list(best.values())


def _base(system: str, like: str, vendor: str, changed: bool) -> tuple[str, str | None]:
    """How an accelerator without a fit file is timed, and whose shipped fits it takes.

    Arguments:
        system: its id.
        like: what it is said to be like: an accelerator, "transferred", "none", or "" for nothing.
        vendor: who makes it.
        changed: whether its file has other numbers than the shipped one of the same id.

    Returns:
        "measured", "like", "transferred" or "roofline"; and the id of the accelerator whose fits
        come first, or None.

    Raises:
        InputError: there are no fits of what it is said to be like.
    """
    known = fitted_systems()
    if like in (TRANSFERRED, NONE):
        return (TRANSFERRED if like == TRANSFERRED else ROOFLINE), None
    if like:
        if like not in known:
            raise unknown("like", like, [*known, TRANSFERRED, NONE])
        return ("measured" if like == system and not changed else "like"), like
    if system in known:
        return ("like" if changed else "measured"), system
    return (ROOFLINE if vendor.strip().lower() in NO_GPUS else TRANSFERRED), None


def _transferred(kind: Kind) -> list[KernelFit]:
    """What measured GPUs have in common, as it is known on an accelerator of some kind.

    Of collectives there is a fit for each wiring; that of most GPUs comes first and is taken where
    there is none of the accelerator's own.
    """
    found: dict[tuple[str, str], KernelFit] = {}
    for each in _shipped(TRANSFERRED):
        wirings = {Kind.read(other).wiring for other in each.among}
        if (each.family, each.format) not in found or kind.wiring in wirings:
            found[each.family, each.format] = each
    return [each.on(kind) for each in found.values()]


def _moved(fit: KernelFit, system: str, kind: Kind) -> KernelFit:
    """A fit that times another accelerator than the one that it was fitted to.

    It is known less well there: the covariance of GPUs among each other (`transferred`) comes on
    top of its own. Where that is not known, the prior's does.

    Arguments:
        fit: the fit.
        system: the accelerator that it was fitted to.
        kind: of the one that it times.
    """
    among = [each for each in _transferred(kind) if each.family == fit.family]
    alike = [each for each in among if each.form.whole() is fit.form.whole()]
    nearest = [each for each in alike if each.format == fit.format] or alike
    spread = np.diag([prior.spread**2 for prior in fit.form.priors().values()])
    if nearest:
        shared = [name for name in fit.values if name in nearest[0].values]
        here, there = ([*each.values] for each in (fit, nearest[0]))
        ours, theirs = ([names.index(name) for name in shared] for names in (here, there))
        spread[np.ix_(ours, ours)] = nearest[0].covariance[np.ix_(theirs, theirs)]
    source = f"{fit.source}{ON}{system}"
    return dataclasses.replace(fit, source=source, covariance=fit.covariance + spread)


def preference(fit: KernelFit, software: str) -> tuple[bool | int | list[int], ...]:
    """The order of fits of one family and format, best first.

    Fits of `software` come first, then those of others; of one software, the newest version's, of
    these the kernels that it takes by default (`TAKEN_FIRST`), and of these the one with most rows.
    Last come kernels that engines do not run as they were measured (`_set_apart`).
    """
    rank = SOFTWARE.index(fit.software) if fit.software in SOFTWARE else len(SOFTWARE)
    newest = [-int(number) for number in re.findall(r"\d+", fit.source)]
    default = fit.kernel in TAKEN_FIRST.get(fit.software, ())
    return (*_set_apart(fit), fit.software != software, rank, newest, not default, -fit.rows)


def _set_apart(fit: KernelFit) -> tuple[bool, bool, bool]:
    """Why engines do not run a kernel as it was measured.

    Returns:
        whether it, or the quantisation of its inputs, was launched eagerly, where engines run all
        in one CUDA graph; whether it is made for experts without gates, which few models have; and
        whether it was measured before it was tuned.
    """
    quantises = fit.software == "trtllm" and issubclass(fit.form, QuantisedGemm)
    eager = "eager" in fit.kernel or (quantises and fit.values["launch"] > QUANTISED_APART)
    untuned = UNTUNED in fit.kernel and fit.values["memory"] < TUNED_MEMORY
    return eager, "nongated" in fit.kernel, untuned


@functools.cache
def _shipped(name: str) -> list[KernelFit]:
    return read_fits(fit_path(name))[1] if fit_path(name).is_file() else []


def load_kernels(origin: Origin) -> Library | None:
    """The fitted kernels of an accelerator; None where there are none, or its fit is "none".

    Raises:
        InputError: as in `fits_of`.
    """
    if origin.fit == NONE:
        return None
    forms: dict[str, dict[str, Form]] = {}
    alone: list[tuple[str, str]] = []
    for each in fits_of(origin):
        forms.setdefault(each.family, {})[each.format] = each.fitted
        is_late = each.family == "gemm" and each.values["launch"] > STARTS_LATE
        alone += [(each.family, each.format)] if is_late else []
    return Library(forms, origin, tuple(alone)) if forms else None


def fits_behind(library: Library) -> list[KernelFit]:
    """The fits that a library was loaded from; none for one built by hand.

    Only those of families and formats that it still has.
    """
    fits = [] if library.origin is None else fits_of(library.origin)
    return [each for each in fits if each.format in library.forms.get(each.family, {})]


def timed_how(library: Library | None) -> str:
    """How the kernels of an accelerator are timed, in a word or two, for tables that compare.

    Returns:
        "measured", "like b200_sxm", "transferred", "roofline", or "by hand".
    """
    if library is None:
        return ROOFLINE
    origin = library.origin
    if origin is None:
        return "by hand"
    if origin.fit.endswith(".toml"):
        return "measured"
    like = origin.fit.removeprefix(LIKE) if origin.fit.startswith(LIKE) else origin.like
    kind, base = _base(origin.system, like, origin.vendor, origin.changed)
    return f"like {base}" if kind == "like" else kind


def sources(library: Library | None, used: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What times each of the kernels in `used`.

    Arguments:
        library: the fitted kernels, if any.
        used: families and formats.

    Returns:
        by "gemm bf16", the source of its fit ("trtllm-1.3.0rc20", "transferred"), "by hand" or
        "roofline". Where it was fitted to another accelerator, the source says so: "vllm-0.24.0 as
        on b200_sxm". Where kernels of another format stand in, it does, too: "vllm-0.24.0 for
        bf16".
    """
    fits = (
        {}
        if library is None
        else {(fit.family, fit.format): fit.source for fit in fits_behind(library)}
    )
    found = {}
    for family, format in used:
        name = None if library is None else library.format_of(family, format)
        source = ROOFLINE if name is None else fits.get((family, name), "by hand")
        found[f"{family} {format}"] = source if name in (None, format) else f"{source} for {name}"
    return found
