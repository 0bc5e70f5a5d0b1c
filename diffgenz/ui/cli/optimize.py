"""`diffgenz optimize`: a study in; the best numbers and plan, with what each limit costs, out."""

import argparse
import json
from pathlib import Path
from typing import Any

from diffgenz.core.errors import InputError, NoSolution
from diffgenz.core.files import written_aside
from diffgenz.ui.cli.cache import cache_compilations
from diffgenz.ui.cli.flags import COUNT, add_plot, add_progress
from diffgenz.ui.cli.progress import progress_line


def flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        "study", metavar="STUDY.toml", help="the objective, what is free, and the limits"
    )
    parser.add_argument(
        "--fit",
        help="what times kernels: trtllm, vllm or sglang, like:SYSTEM, a file of `diffgenz "
        "calibrate`, or none (default: what the file says, else measured ones)",
    )
    parser.add_argument("--out", metavar="FILE.json", help="save what was found")
    parser.add_argument(
        "--accelerator",
        metavar="FILE.toml",
        help="save the accelerator that was found, for --system",
    )
    parser.add_argument(
        "--front",
        metavar="FORMULA",
        action="append",
        help="another objective, and again for a third: instead of one optimum, all choices "
        "between the objectives that no other beats; of a metric such as throughput more is "
        "better, of a formula less",
    )
    parser.add_argument(
        "--worth",
        metavar="NAME=FACTOR",
        help="instead: what a multiple of a number that is not free is worth, such as "
        "network[0].bandwidth=2",
    )
    parser.add_argument(
        "--path",
        metavar="NAME=FACTOR",
        help="instead: which limits are active, one after another, as a number grows to a multiple",
    )
    parser.add_argument(
        "--what-if",
        metavar="NAME",
        help="instead: what a number that is not free does to the optimum, by its elasticity and "
        "solved again, for 0.7 to 2 times as much",
    )
    parser.add_argument(
        "--points",
        type=COUNT,
        help="of --front: limits of each further objective, and directions, that are tried "
        "(default: 24; 8 of three objectives)",
    )
    add_plot(parser, "draw what one percent more of each number does; of a front, its objectives")
    add_progress(parser)


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """Solve a study: text and JSON."""
    from diffgenz.studies.optimize.study_file import load_study
    from diffgenz.ui.plots.figure import check_picture
    from diffgenz.ui.plots.optimum import optimum_plot
    from diffgenz.ui.text.optimize import optimum_text

    cache_compilations()
    for flag, suffix in (("out", ".json"), ("accelerator", ".toml")):
        path = getattr(options, flag)
        if path is not None and Path(path).suffix != suffix:
            raise InputError(f"--{flag}: {Path(path).name!r} does not end in {suffix}")
    if options.points is not None and not options.front:
        raise InputError("--points: is of a front; add --front FORMULA")
    asked = [flag for flag in ("front", "worth", "path", "what-if") if _given(options, flag)]
    if len(asked) > 1:
        raise InputError(f"--{asked[1]}: another question than --{asked[0]}; ask one at a time")
    if options.plot is not None:
        if asked and not options.front:
            raise InputError(f"--plot: --{asked[0]} has no picture; leave out one of them")
        check_picture(Path(options.plot))
    if asked and options.accelerator is not None:
        raise InputError(f"--accelerator: --{asked[0]} has several; leave out one of them")
    study = load_study(options.study, fit=options.fit)
    if options.accelerator is not None and study.chooses_systems:
        raise InputError("--accelerator: the study chooses among systems; state the one it found")
    if asked and asked[0] != "front":
        return _improved(options, study, asked[0])
    if options.front:
        return _front(options, study)
    with progress_line(options.progress) as line:
        found = study.solve(
            line and (lambda what, done, count: line.write(f"{what}: {done} of {count} starts"))
        )
    data = found.to_dict()
    if options.out is not None:
        with written_aside(Path(options.out), "--out") as aside:
            aside.write_text(json.dumps(data, indent=2, allow_nan=False))
    if found.best is None:
        raise NoSolution(found.verdict)
    text = optimum_text(study, found)
    if options.out is not None:
        text += f"\n\nwrote {options.out}"
    if options.accelerator is not None:
        _save(Path(options.accelerator), study, found)
        text += f"\n\nwrote {options.accelerator}"
    if options.plot is not None:
        optimum_plot(found, Path(options.plot), Path(options.study).stem)
        text += f"\n\nwrote {options.plot}"
    return text, data


def _given(options: argparse.Namespace, flag: str) -> Any:
    """The value of a flag."""
    return getattr(options, flag.replace("-", "_"))


def _improved(options: argparse.Namespace, study: Any, flag: str) -> tuple[str, Any]:
    """What more of a number is worth, does, or which limits are next: text and JSON."""
    from diffgenz.ui.text.improvement import path_text, what_if_text, worth_text

    name, factor = _given(options, flag), 1.0
    if flag != "what-if":
        name, factor = _multiple(flag, name)
    with progress_line(options.progress) as line:
        said = line and (lambda what, done, count: line.write(f"{what}: {done} of {count} starts"))
        if flag == "worth":
            found = study.worth(name, factor, said)
            data, shown = found._asdict(), worth_text(found, study)
        elif flag == "path":
            parts = study.bottlenecks(name, factor, said)
            data, shown = [part._asdict() for part in parts], path_text(parts, name, study)
        else:
            found = study.what_if(name, said)
            data, shown = found.to_dict(), what_if_text(found, study)
    if options.out is not None:
        with written_aside(Path(options.out), "--out") as aside:
            aside.write_text(json.dumps(data, indent=2, allow_nan=False))
        shown += f"\n\nwrote {options.out}"
    return shown, data


def _multiple(flag: str, given: str) -> tuple[str, float]:
    """The name and factor of NAME=FACTOR."""
    name, _, text = given.rpartition("=")
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not name or not factor > 0:
        raise InputError(f"--{flag}: {given!r} is no NAME=FACTOR; write network[0].bandwidth=2")
    return name, factor


def _front(options: argparse.Namespace, study: Any) -> tuple[str, Any]:
    """What is possible between several objectives: text and JSON."""
    from diffgenz.ui.plots.front import front_plot
    from diffgenz.ui.text.front import front_text

    if options.plot is not None and len(options.front) > 2:
        raise InputError("--plot: two or three objectives are drawn; give one --front, or two")
    with progress_line(options.progress) as line:
        found = study.front(
            options.front,
            options.points,
            line and (lambda what, done, count: line.write(f"{what}: {done} of {count} limits")),
        )
    data, text = found.to_dict(), front_text(found)
    if options.out is not None:
        with written_aside(Path(options.out), "--out") as aside:
            aside.write_text(json.dumps(data, indent=2, allow_nan=False))
        text += f"\n\nwrote {options.out}"
    if options.plot is not None:
        front_plot(found, Path(options.plot), Path(options.study).stem)
        text += f"\n\nwrote {options.plot}"
    return text, data


def _save(path: Path, study: Any, found: Any) -> None:
    """Write the accelerator of the exact optimum."""
    from diffgenz.hardware.spec_text import spec_of, spec_text
    from diffgenz.hardware.specs import read_spec
    from diffgenz.scenario.mix import parts_of

    if found.exact is None:
        raise NoSolution(f"--accelerator: nothing to write: {'; '.join(found.notes)}")
    base = read_spec(study.system)
    platform = parts_of(found.exact.scenario)[0].platform
    spec = spec_of(platform, base, f"{base.name}, optimized")
    goal = "most" if found.maximise else "least"
    source = f"found by `diffgenz optimize`: {goal} {found.objective}"
    with written_aside(path, "--accelerator") as aside:
        aside.write_text(spec_text(spec, base, source))
