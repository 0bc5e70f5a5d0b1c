"""Which formats a search tries."""

import pytest

from diffgenz import load_platform
from diffgenz.studies.search.formats import formats_for


@pytest.mark.parametrize(
    ("system", "four_bit"),
    [("b200_sxm", {"mxfp4", "nvfp4"}), ("mi355x", {"mxfp4"}), ("h100_sxm", set())],
)
def test_of_the_4_bit_floats_only_those_whose_scales_an_accelerator_multiplies_are_tried(
    system, four_bit
):
    accelerator = load_platform(system).accelerator
    assert {"mxfp4", "nvfp4"} & set(accelerator.peak_flops) == four_bit
    tried = {precision.activations for precision in formats_for(accelerator)}
    assert {"mxfp4", "nvfp4"} & tried == {max(four_bit)} if four_bit else tried == {"bf16", "fp8"}
