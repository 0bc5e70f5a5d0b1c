"""Specifications of accelerators as forms take them."""

import pytest

from diffgenz.calibrating.binding import hardware_of, wire_of
from diffgenz.core.errors import InputError
from diffgenz.hardware.specs import read_spec
from diffgenz.kernels.forms.deepep import Dispatch


def test_wires_come_from_the_accelerators_file():
    spec = read_spec("h100_sxm")
    near, far = (level.figures for level in spec.network)
    wires = hardware_of(spec, Dispatch, "fp8")
    assert (wires.bandwidth, wires.latency, wires.far_bandwidth) == (
        near["bandwidth"],
        near["latency"],
        far["bandwidth"],
    )
    with pytest.raises(InputError, match="2 level"):
        wire_of(spec, 2)
