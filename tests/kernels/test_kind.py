"""How accelerators are related to measured ones, and how much less is known of them."""

import dataclasses

import numpy as np
import pytest

from diffgenz.hardware.specs import list_systems, read_spec
from diffgenz.kernels.families import FAMILIES
from diffgenz.kernels.fits import read_fits
from diffgenz.kernels.kind import UNKNOWN, Kin, Kind
from diffgenz.kernels.library import Origin
from diffgenz.kernels.selection import TRANSFERRED, fit_path, fits_of

MEASURED = ("a100_sxm", "h100_sxm", "h200_sxm", "b200_sxm", "b300_sxm", "gb200", "l40s")
SHIPPED = read_fits(fit_path(TRANSFERRED))[1]


def kin(system, *, of_network=False, among=MEASURED):
    kinds = [read_spec(each).kind for each in among]
    return read_spec(system).kind.kin(kinds, of_network=of_network)


@pytest.mark.parametrize(
    ("system", "compute", "network"),
    [
        ("h20", "sibling", "sibling"),
        ("gb300", "sibling", "sibling"),  # sm_103 runs what sm_100f is compiled for
        ("h100_pcie", "sibling", "stranger"),  # of H100's kernels, over PCIe
        ("rtx_4090", "sibling", "sibling"),  # of L40S
        ("v100_sxm", "relative", "relative"),
        ("rtx_a6000", "stranger", "stranger"),  # GDDR, of another architecture than L40S
        ("rtx_5090", "stranger", "stranger"),
        ("jetson_thor", "stranger", "stranger"),  # LPDDR, Ethernet
        ("mi300x", "stranger", "stranger"),  # another maker's kernels, though with HBM
    ],
)
def test_relations_follow_from_architecture_memory_and_wiring(system, compute, network):
    assert kin(system) == compute
    assert kin(system, of_network=True) == network


def test_a_gpu_is_a_stranger_where_none_of_its_memory_was_measured():
    assert kin("l40s", among=MEASURED[:-1]) is Kin.STRANGER
    assert kin("a100_sxm", among=MEASURED[1:]) is Kin.RELATIVE
    assert UNKNOWN.kin([read_spec(each).kind for each in MEASURED], of_network=False) == "stranger"
    assert UNKNOWN.kin([], of_network=True) == "stranger"


def test_kinds_are_written_and_read():
    for system in list_systems():
        kind = read_spec(system).kind
        assert Kind.read(str(kind)) == kind
    nvidia = [each for each in list_systems() if read_spec(each).vendor in ("NVIDIA", "AMD")]
    assert all(kind.architecture and kind.memory for kind in (read_spec(s).kind for s in nvidia))


def test_strangers_are_known_less_well_than_siblings():
    for fit in SHIPPED:
        widths = [fit.widths[each.value] for each in Kin]
        assert widths == sorted(widths), (fit.family, fit.format)
        assert 0.1 < widths[0] < widths[-1] < 10


@pytest.mark.parametrize("system", ["h20", "v100_sxm", "rtx_5090", "mi300x"])
def test_an_estimate_takes_the_wiring_and_the_width_of_its_kin(system):
    spec = read_spec(system)
    found = fits_of(Origin(system, spec.vendor, "vllm", kind=spec.kind))
    assert len({(fit.family, fit.format) for fit in found}) == len(found) > 20
    for fit in found:
        network = FAMILIES[fit.family].kind == "network"
        bases = [each for each in SHIPPED if (each.family, each.format) == (fit.family, fit.format)]
        wired = [each for each in bases if f"/{spec.kind.wiring}" in "".join(each.among)]
        base = wired[-1] if network and wired else bases[0]
        kinds = [Kind.read(each) for each in base.among]
        width = base.widths[spec.kind.kin(kinds, of_network=network).value]
        np.testing.assert_allclose(fit.covariance, width**2 * base.covariance)
        assert fit.scatter == pytest.approx(width * base.scatter)
        assert fit.values == base.values


def test_a_fit_of_one_accelerator_is_the_same_anywhere():
    fit = dataclasses.replace(SHIPPED[0], among=(), widths={})
    assert fit.on(UNKNOWN) is fit


def test_collectives_over_pcie_are_those_of_the_gpu_on_pcie():
    """L40S, which a pool of GPUs with NVLink leaves 50 % off."""
    own = {(f.family, f.format): f for f in read_fits(fit_path("l40s"))[1] if "nccl" in f.source}
    spec = read_spec("rtx_5090")
    for fit in fits_of(Origin("rtx_5090", spec.vendor, "vllm", kind=spec.kind)):
        if fit.family in ("all_gather", "all_to_all"):
            assert fit.values == pytest.approx(own[fit.family, fit.format].values, rel=1e-5)
