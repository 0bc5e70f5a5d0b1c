"""`diffgenz sweep`: a space file in; a folder, a line of progress and a summary out."""

import argparse
import math
import shlex
from pathlib import Path
from typing import Any

from diffgenz.core.counts import real
from diffgenz.core.errors import InputError
from diffgenz.ui.cli.cache import cache_compilations
from diffgenz.ui.cli.flags import add_progress, typed
from diffgenz.ui.cli.progress import progress_line

_LEAST = 2**18
"""Configurations between checkpoints, at least."""

_STEPS = 64
"""Checkpoints of a small sweep."""

_AGAIN = {"n": None, "fit": None, "engine": "local", "address": None, "shard": "1/1"}
"""The flags that make a sweep what it is, and their defaults."""


def flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        "space", metavar="SPACE.toml", help="the axes, constraints and what to keep"
    )
    parser.add_argument(
        "--out", metavar="DIR", required=True, help="where checkpoints and results go"
    )
    parser.add_argument(
        "--n",
        type=typed(real),
        help="configurations, at least, where axes are sampled; 1e9 is a number (default: the "
        "file's samples)",
    )
    parser.add_argument(
        "--fit",
        help="what times kernels: trtllm, vllm or sglang, like:SYSTEM, a file of `diffgenz "
        "calibrate`, or none "
        "(default: what the file says, else measured ones)",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the sweep in DIR")
    parser.add_argument(
        "--shard",
        default=_AGAIN["shard"],
        metavar="i/n",
        help="only the i-th of n parts, for `diffgenz merge`",
    )
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default=_AGAIN["engine"],
        help="where it runs (ray needs diffgenz[ray]; default: local)",
    )
    parser.add_argument(
        "--address",
        help="of a Ray cluster, such as auto or ray://host:10001 (default: Ray on this machine)",
    )
    add_progress(parser)


def run(options: argparse.Namespace) -> tuple[str, Any]:
    """Run a sweep: text and JSON."""
    from diffgenz.studies.sweep.on_ray import on_ray
    from diffgenz.studies.sweep.space_file import load_space
    from diffgenz.studies.sweep.sweep import CHUNK, sweep
    from diffgenz.ui.sweep_folder import is_begun, write_origin
    from diffgenz.ui.text.sweep import begun, progress, summary

    cache_compilations()
    out, source = Path(options.out), Path(options.space)
    space, reductions = load_space(source, n=options.n, fit=options.fit)
    shard = _shard(options.shard)
    if options.engine != "ray" and options.address is not None:
        raise InputError(f"--address: {options.address!r} is of no use without --engine ray")
    if not is_begun(out):
        write_origin(out, source, options.n, options.fit)
    try:
        with progress_line(options.progress) as line:
            if line is not None:
                line.write(begun(space))
            findings = sweep(
                space,
                reductions,
                out=out,
                resume=options.resume,
                shard=shard,
                chunk=min(CHUNK, max(_LEAST, math.ceil(space.size / shard[1] / _STEPS))),
                reducer=on_ray(options.address) if options.engine == "ray" else None,
                progress=line and (lambda pace: line.write(progress(pace, reductions))),
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"; go on with: {_again(options, is_begun(out))}") from None
    return summary(findings, options.out, whole=shard[1] == 1)


def _shard(text: str) -> tuple[int, int]:
    first, slash, last = text.partition("/")
    if not (slash and first.isdigit() and last.isdigit()):
        raise InputError(f"--shard: {text!r} is not i/n; write 1/4 for the first of four")
    return int(first), int(last)


def _again(options: argparse.Namespace, begun: bool) -> str:
    """The command that goes on with an interrupted sweep."""
    words = ["diffgenz", "sweep", options.space, "--out", options.out]
    for name, default in _AGAIN.items():
        value = getattr(options, name)
        if value != default:
            words += [f"--{name}", f"{value:.0f}" if name == "n" else str(value)]
    return shlex.join([*words, *(["--resume"] if begun else [])])
