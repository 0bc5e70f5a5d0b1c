"""`diffgenz optimize`: a study in; the best numbers and plan, with what each limit costs, out."""

import argparse
import json
from pathlib import Path
from typing import Any

from diffgenz.core.errors import InputError, NoSolution
from diffgenz.core.files import written_aside
from diffgenz.ui.cli.cache import cache_compilations
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
        "--progress",
        action="store_true",
        help="report progress on stderr even where that is no terminal",
    )


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """Solve a study: text and JSON."""
    from diffgenz.studies.optimize.study_file import load_study
    from diffgenz.ui.text.optimize import optimum_text

    cache_compilations()
    for flag, suffix in (("out", ".json"), ("accelerator", ".toml")):
        path = getattr(options, flag)
        if path is not None and Path(path).suffix != suffix:
            raise InputError(f"--{flag}: {Path(path).name!r} does not end in {suffix}")
    study = load_study(options.study, fit=options.fit)
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
