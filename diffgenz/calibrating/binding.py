"""What measured kernels ran on: the accelerator's numbers in float64, as forms take them."""

from typing import Any

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.hardware.spec import Spec
from diffgenz.kernels.form import Form
from diffgenz.kernels.hardware import Chip, Wire, Wires
from diffgenz.kernels.kernel_format import KernelFormat


def hardware_of(spec: Spec, form: type[Form], format: str) -> Any:
    """What kernels of a form run on.

    Arguments:
        spec: the accelerator.
        form: their form.
        format: theirs, "weights/activations" where these differ.

    Returns:
        of `form.hardware`: the accelerator, the innermost level of its network, or the two
        innermost.

    Raises:
        InputError: the accelerator does not multiply the format, or its file lacks a figure.
    """
    if form.hardware is Chip:
        return chip_of(spec, format)
    if form.hardware is Wire:
        return wire_of(spec)
    return Wires.of(wire_of(spec), wire_of(spec, 1))


def lacks(spec: Spec, format: str) -> str | None:
    """The peak that kernels of `format` need and the accelerator does not have; None if it has."""
    peak = KernelFormat.of(format).wider.peak
    return None if peak in spec.peak_flops else peak


def chip_of(spec: Spec, format: str) -> Chip:
    """The accelerator as kernels of `format` see it.

    Raises:
        InputError: it does not multiply that format, or states no compute units or launch latency.
    """
    lacking = lacks(spec, format)
    if lacking is not None:
        raise InputError(
            f"{spec.id}: peak_flops: it has no {lacking}, which rows in {format} need; "
            "add it to the accelerator's file"
        )
    return Chip(
        flops=np.float64(spec.peak_flops[KernelFormat.of(format).wider.peak]),
        bandwidth=np.float64(spec.memory["bandwidth"]),
        launch=_stated(spec, "launch_latency"),
        units=_stated(spec, "compute_units"),
    )


def wire_of(spec: Spec, level: int = 0) -> Wire:
    """A level of the network, the innermost by default.

    Raises:
        InputError: the accelerator's file has no such level, or states no launch latency.
    """
    if level >= len(spec.network):
        raise InputError(
            f"{spec.id}: network: it has {len(spec.network)} level(s), and level {level + 1} is "
            "needed; add it to the accelerator's file"
        )
    figures = spec.network[level].figures
    return Wire(
        bandwidth=np.float64(figures["bandwidth"]),
        latency=np.float64(figures["latency"]),
        launch=_stated(spec, "launch_latency"),
    )


def _stated(spec: Spec, name: str) -> np.float64:
    if not spec.execution.get(name):
        raise InputError(
            f"{spec.id}: execution.{name}: it is not stated, and kernel models need it; "
            "add it to the accelerator's file"
        )
    return np.float64(spec.execution[name])
