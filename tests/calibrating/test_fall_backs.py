"""Collectives that fall back to another kernel from some number of ranks on."""

import numpy as np
import pytest

from diffgenz.calibrating.binding import wire_of
from diffgenz.calibrating.cleaning import cleaned
from diffgenz.calibrating.fall_backs import of_one_kernel
from diffgenz.calibrating.samples import Samples
from diffgenz.hardware.specs import read_spec
from diffgenz.kernels.forms.collective import AllReduce
from diffgenz.kernels.forms.custom_allreduce import CustomAllReduce
from diffgenz.kernels.shapes import CollectiveShape

VOLUMES = 2.0 ** np.arange(8, 28)


def measured(starts, per_byte=1e-11):
    """One kernel's times of all `VOLUMES`, from what small messages take by number of ranks."""
    ranks = np.repeat(list(starts), len(VOLUMES)).astype(float)
    volumes = np.tile(VOLUMES, len(starts))
    seconds = np.repeat(list(starts.values()), len(VOLUMES)) + volumes * per_byte
    shape = CollectiveShape(ranks, volumes)
    return Samples.of("all_reduce", "bf16", "vllm-1.0", "custom", shape, seconds)


@pytest.mark.parametrize(
    ("starts", "kept"),
    [
        ({2: 5e-6, 4: 6e-6, 8: 20e-6, 16: 40e-6}, [2, 4]),  # 8 ranks: 3.3 times, hops explain 2.3
        ({2: 5e-6, 4: 20e-6}, [2]),  # hops explain 3 times
        ({4: 5e-6, 8: 6e-6, 16: 50e-6}, [4, 8]),
        ({2: 5e-6, 4: 15e-6, 8: 35e-6, 64: 315e-6}, [2, 4, 8, 64]),  # a ring, all of it hops
        ({2: 5e-6, 4: 5e-6, 8: 5e-6}, [2, 4, 8]),
        ({8: 5e-6, 2: 7e-6, 4: 6e-6}, [2, 4, 8]),  # in any order
        ({1: 1e-9, 2: 5e-6, 4: 6e-6}, [1, 2, 4]),  # one rank does nothing
    ],
)
def test_more_ranks_may_start_as_much_later_as_their_hops(starts, kept):
    found = of_one_kernel(measured(starts))
    assert sorted(set(found.shape.ranks.tolist())) == kept
    dropped = (len(starts) - len(kept)) * len(VOLUMES)
    assert sum(found.dropped.values()) == dropped
    assert all("another kernel" in why for why in found.dropped)


@pytest.mark.parametrize("form", [AllReduce, CustomAllReduce])
@pytest.mark.parametrize("system", ["h100_sxm", "l40s", "b200_sxm"])
def test_no_form_falls_back_by_itself(form, system):
    ranks = np.repeat([2.0, 4.0, 8.0, 16.0, 72.0], len(VOLUMES))
    shape = CollectiveShape(ranks, np.tile(VOLUMES, 5))
    seconds = np.asarray(form().seconds(shape, wire_of(read_spec(system))))
    samples = Samples.of("all_reduce", "bf16", "vllm-1.0", "custom", shape, seconds)
    assert of_one_kernel(samples) is samples


def test_rows_of_the_fall_back_are_left_out_of_fits_and_counted():
    samples = measured({2: 5e-6, 4: 6e-6, 8: 20e-6})
    clean = cleaned(samples, wire_of(read_spec("h100_sxm")), "table.csv")
    assert clean.dropped == {
        "from 8 ranks on another kernel (small messages take 3.3 times as long as on 4, "
        "hops explain 2.3)": len(VOLUMES)
    }
