"""`diffgenz calibrate` where its files are serving benchmarks: hosts, engines, deployments."""

import argparse
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffgenz.core.errors import InputError
from diffgenz.ui.cli.cache import cache_compilations
from diffgenz.ui.cli.flags import words_in
from diffgenz.ui.cli.progress import is_terminal, say, working

WORDS_OF = (
    "gpus", "tp", "pp", "dp", "ep", "attention-dp", "weights", "activations", "kv-cache", "chunk",
    "isl", "osl", "batch", "generic",
)  # fmt: skip
"""What a person may say of benchmarks, beside the model and the system."""

_KERNELS = ("fit", "posterior", "suggest")


_PAUSE = 10.0
"""Seconds between two lines of progress where stderr is no terminal."""


def _teller(always: bool) -> Callable[[str], None]:
    """What is told how far the calibration is.

    Arguments:
        always: whether to say it even where stderr is no terminal.
    """
    if is_terminal() or not always:
        return working
    last = [time.monotonic()]

    def told(text: str) -> None:
        if time.monotonic() - last[0] > _PAUSE:
            last[0] = time.monotonic()
            say(text)

    return told


def run_serving(options: argparse.Namespace) -> tuple[str, Any]:
    """Fit what the benchmarks say of servers, save it, and say how well it holds.

    Arguments:
        options: the flags of `diffgenz calibrate`.
    """
    from diffgenz.calibrating.end_to_end.calibrate_serving import calibrate_serving
    from diffgenz.calibrating.readers.serving.registry import read_benchmarks
    from diffgenz.serving.serving_fit import save_serving_fit
    from diffgenz.ui.plots.calibrate_serving import calibrate_serving_plot
    from diffgenz.ui.text.serving_fit import calibration_json, calibration_text

    for name in _KERNELS:
        if getattr(options, name) not in (None, False):
            raise InputError(f"--{name}: is of measured kernels, not of benchmarks; leave it out")
    cache_compilations()
    working("reading the files")
    benchmarks = read_benchmarks(options.files)
    words = {"model": options.model, "system": options.system, **words_in(options, WORDS_OF)}
    words = {name: value for name, value in words.items() if value not in (None, False)}
    found = calibrate_serving(benchmarks, words, skipped=say, told=_teller(options.progress))
    text = calibration_text(found)
    if options.out is not None:
        command = shlex.join(["diffgenz", *sys.argv[1:]])
        save_serving_fit(found.fit, options.out, command)
        text += f"\n\nsaved: {options.out}; use it with `--serving-fit {options.out}`"
    if options.plot is not None:
        count = f"{len(found.rows):,} configurations"
        calibrate_serving_plot(found, Path(options.plot), f"serving benchmarks: {count}")
        text += f"\n\nwrote {options.plot}"
    return text, calibration_json(found)
