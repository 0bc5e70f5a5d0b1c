"""`diffgenz calibrate`: measurements in, a fit file and its table out.

With `--suggest`: which measurement would help most.
"""

import argparse
from pathlib import Path
from typing import Any

from diffgenz.core.errors import InputError, NoSolution
from diffgenz.kernels.software import DEFAULT
from diffgenz.scenario.words import WORDS
from diffgenz.ui.cli.cache import cache_compilations
from diffgenz.ui.cli.calibrate_serving import WORDS_OF, run_serving
from diffgenz.ui.cli.flags import COUNT, add_plot, add_progress, add_words, typed
from diffgenz.ui.cli.progress import is_terminal, say, working

_SUGGESTED = {"tp": 1, "isl": 1024, "osl": 128, "batch": 16}
"""What --suggest asks of where nothing is said."""


def flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="*",
        help="measured kernels: tables, or folders of them; or results of serving benchmarks "
        "(docs/calibration.md lists both)",
    )
    parser.add_argument(
        "--system",
        help="the accelerator that was measured (see `diffgenz list systems`), or a TOML file; "
        "needed unless benchmarks say it",
    )
    parser.add_argument(
        "--fit",
        metavar="KINDS",
        help="some of gemm,attention,recurrence,experts,network (default: all that the files hold)",
    )
    parser.add_argument(
        "--out",
        metavar="FIT.toml",
        help="save the fits there, for `--fit FIT.toml` of the other commands",
    )
    add_plot(parser, "draw predicted against measured times")
    parser.add_argument(
        "--starts", type=COUNT, default=256, help="points that each fit starts from (default: 256)"
    )
    parser.add_argument(
        "--posterior",
        action="store_true",
        help="sample each fit's posterior for means and errors (needs diffgenz[posterior])",
    )
    parser.add_argument(
        "--suggest",
        type=COUNT,
        metavar="N",
        help="no fit, but the N measurements that would narrow a metric most; FILE is then a fit",
    )
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="what is served: with --suggest, and of benchmarks that do not say it",
    )
    add_words(parser, ("generic",))
    for name, default in _SUGGESTED.items():
        what = WORDS[name].help.partition(" (default")[0]
        words = f"{what} (default: {default} with --suggest; of benchmarks what they say)"
        parser.add_argument(f"--{name}", type=typed(WORDS[name].value_of), help=words)
    of_benchmarks = [name for name in WORDS_OF if name not in ("generic", *_SUGGESTED)]
    unsaid: dict[str, dict[str, Any]] = {}
    for name in of_benchmarks:
        what = WORDS[name].help.partition(" (default")[0]
        unsaid[name] = {"default": None, "help": f"of benchmarks that do not say it: {what}"}
    add_words(parser, of_benchmarks, unsaid)
    parser.add_argument(
        "--metric",
        default="tpot",
        help="with --suggest: what shall be known better (default: tpot)",
    )
    add_progress(parser)


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """Fits, or what to measure next: text and JSON."""
    from diffgenz.calibrating.readers.serving.registry import holds_benchmarks
    from diffgenz.ui.plots.figure import check_picture

    if options.plot is not None:
        check_picture(Path(options.plot))
        if options.suggest is not None:
            raise InputError(
                "--plot: --suggest fits nothing that could be drawn; leave one of them out"
            )
    if options.suggest is None and options.files and holds_benchmarks(options.files):
        return run_serving(options)
    if options.system is None:
        raise InputError(
            "--system: it is missing; name the accelerator that was measured, such as "
            "--system h100_sxm"
        )
    return _fits(options) if options.suggest is None else _suggestions(options)


def _fits(options: argparse.Namespace) -> tuple[str, Any]:
    """Fit what the files hold, save it, and say how well it holds."""
    from diffgenz.calibrating.calibrate import KINDS, calibrate
    from diffgenz.hardware.specs import read_spec
    from diffgenz.kernels.fits import write_fits
    from diffgenz.ui.plots.calibrate import calibrate_plot
    from diffgenz.ui.text.fits import fit_json, fit_line, fits_table, remarks

    if not options.files:
        raise InputError(
            "FILE: no measurements are given; name tables or folders of them (docs/calibration.md)"
        )
    cache_compilations()
    spec = read_spec(options.system)
    kinds = tuple(KINDS)
    if options.fit is not None:
        kinds = tuple(name.strip() for name in options.fit.split(","))
    told = is_terminal() or options.progress
    done = []

    def show(measured: Any) -> None:
        done.append(measured)
        working(f"{len(done)} fits done, at the next")
        if told:
            say(fit_line(measured.fit))

    working("reading the files, fitting the first kernel")
    fits = calibrate(
        options.files,
        options.system,
        kinds,
        starts=options.starts,
        posterior=options.posterior,
        progress=show,
        skipped=say,
    )
    count = "1 fit" if len(fits) == 1 else f"{len(fits)} fits"
    title = f"{spec.name}: {count}, each with a fifth of the shapes held out"
    text = [title, "", fits_table(fits)]
    further = remarks(fits)
    text += ["", *further] if further else []
    if options.out is not None:
        write_fits(Path(options.out), spec.id, fits, _command(options))
        text += ["", f"saved: {options.out}; use it with `--fit {options.out}`"]
    if options.plot is not None:
        calibrate_plot(done, Path(options.plot), f"{spec.name}: {count}")
        text += ["", f"wrote {options.plot}"]
    return "\n".join(text), [fit_json(fit) for fit in fits]


def _command(options: argparse.Namespace) -> str:
    """The command, as the fit file states it."""
    how = [
        f"--starts {options.starts}",
        *(["--posterior"] if options.posterior else []),
        *([f"--fit {options.fit}"] if options.fit else []),
    ]
    files = " ".join(options.files)
    system = f"--system {options.system}"
    return f"diffgenz calibrate {files} {system} {' '.join(how)} --out {options.out}"


def _suggestions(options: argparse.Namespace) -> tuple[str, Any]:
    """The measurements that would narrow a metric of a deployment most."""
    from diffgenz.calibrating.suggest import suggest
    from diffgenz.scenario.from_words import from_words
    from diffgenz.ui.text.fits import percent, suggestions_table
    from diffgenz.ui.text.scenario import note_lines

    if options.suggest < 1:
        raise InputError(f"--suggest: {options.suggest} is not allowed; it must be at least 1")
    if options.model is None:
        raise InputError(
            "--model: it is missing; --suggest needs what is served, such as --model "
            "meta-llama/Llama-3.1-70B --tp 8 --batch 64"
        )
    if len(options.files) > 1:
        raise InputError(
            f"FILE: --suggest starts from one fit file, not from {len(options.files)}; give one, "
            "or none for the shipped fits"
        )
    cache_compilations()
    words = {name: getattr(options, name) for name in ("model", "generic", "system")}
    for name, default in _SUGGESTED.items():
        given = getattr(options, name)
        words[name] = default if given is None else given
    fit = options.files[0] if options.files else DEFAULT
    case = from_words(words | {"fit": fit}).scenario
    found = suggest(case, options.metric, options.suggest)
    if not found:
        raise NoSolution(f"no measurement of these kernels would narrow {options.metric}")
    machine = f"{words['tp']} x {case.platform.accelerator.name}"
    known = f"{options.metric} is known to {percent(found[0].before)}"
    title = f"{case.model.name} on {machine}, batch {words['batch']}: {known}"
    table = suggestions_table(found, options.metric)
    above = "\n".join([title, *note_lines(case)])
    return f"{above}\n\n{table}", [each._asdict() for each in found]
