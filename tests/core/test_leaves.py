"""Names of numbers: finding, reading and replacing them."""

import pytest
from sweep_cases import scenario

from diffgenz import InputError, Mix
from diffgenz.core.leaves import find, leaf_at, leaf_names, number_at, with_leaves, with_unset


def test_numbers_are_found_by_the_end_of_their_name():
    case = scenario()
    assert leaf_names(case).keys() >= {
        "platform.accelerator.memory_bandwidth",
        "platform.accelerator.peak_flops[bf16]",
        "plan.tensor",
    }
    assert float(leaf_at(case, find(case, "network[1].latency")[0])) == pytest.approx(5e-6)
    assert find(case, "tensor") == find(case, "plan.tensor")
    with pytest.raises(
        InputError, match=r"leaf: 'latency' is the end of several names: .*network\[0\].*write more"
    ):
        find(case, "latency")


def test_a_name_that_fits_every_entry_means_all():
    mix = Mix((scenario(), scenario()), (1, 3))
    paths = find(mix, "plan.tensor", alike="scenarios")
    names = leaf_names(mix)
    assert paths == tuple(names[f"scenarios[{number}].plan.tensor"] for number in (0, 1))
    assert find(mix, "scenarios[1].plan.tensor", alike="scenarios") == paths[1:]
    with pytest.raises(InputError, match="did you mean .*memory_bandwidth"):
        find(mix, "memory_bandwith", alike="scenarios")
    with pytest.raises(InputError, match="is the end of several names"):
        find(mix, "plan.tensor")


def test_numbers_are_replaced_and_know_their_bounds():
    case = scenario()
    path = find(case, "memory_bandwidth")[0]
    changed = with_leaves(case, {path: 5.0})
    assert float(changed.platform.accelerator.memory_bandwidth) == 5
    assert float(case.platform.accelerator.memory_bandwidth) != 5
    about = number_at(case, path)
    assert about is not None
    assert about.unit == "B/s"
    with pytest.raises(InputError, match="memory_bandwidth: -1 is not allowed"):
        about.check("memory_bandwidth", -1.0)


def test_optional_numbers_that_are_left_out_can_be_set():
    case = scenario()
    assert case.plan.context is None
    assert float(with_unset(case, "plan.context", 2.0).plan.context) == 2
    assert float(with_unset(case, "context", 2.0).plan.context) == 2
    assert with_unset(case, "plan.tensor", 9.0) is case  # it is there
    assert with_unset(case, "plan.contexts", 9.0) is case
