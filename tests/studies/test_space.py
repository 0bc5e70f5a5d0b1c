"""Spaces: every index is one configuration, the same on the device, on the host and by counting.

Bad spaces are refused.
"""

import itertools
import math
import pickle
import random

import jax.numpy as jnp
import numpy as np
import pytest
from support import CHIP, FABRIC, NODE
from sweep_cases import scenario, sobol_points, space, varied

import diffgenz as dgz
from diffgenz import Accelerator, InputError, Level, Mix, Platform, axes
from diffgenz.studies.sweep.sobol import Sobol

FLAT = Platform(Accelerator(**CHIP | {"name": "flat"}), (Level(**NODE | {"size": 64}),), 8)
FAST = Platform(
    Accelerator(**CHIP | {"name": "fast", "memory_bandwidth": 9e12}),
    (Level(**NODE), Level(**FABRIC | {"latency": 1e-6})),
    16,
)
LEAN, LESS = (
    Platform(
        Accelerator(
            **CHIP | {"name": name, "peak_flops": {"bf16": peak}, "compute_power": power},
        ),
        (Level(**NODE),),
        8,
    )
    for name, peak, power in (("lean", 5e14, 50), ("less", 3e14, 60))
)


# Numbering


def test_indices_enumerate_every_combination_the_last_axis_fastest():
    mixed = dgz.Space(
        scenario(),
        {
            "batch": axes.integers(1, 3),
            "platform": axes.choice(
                {"flat": FLAT, "fast": FAST}
            ),  # another network: compiled apart, and slowest
            "plan": axes.choice({"1": dgz.Parallelism(1), "2": dgz.Parallelism(2)}),
            "accelerators": axes.values(8, 32),  # a number inside the record that is chosen
            "input_tokens": axes.linear(100, 200, 3),
        },
    )
    expected = [
        {"batch": b, "platform": p, "plan": plan, "accelerators": a, "input_tokens": tokens}
        for p, b, plan, a, tokens in itertools.product(
            ("flat", "fast"), (1, 2, 3), ("1", "2"), (8, 32), (100, 150, 200)
        )
    ]
    assert mixed.size == len(expected) == 72
    table = mixed.coordinates(range(72))
    assert [
        dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)
    ] == expected
    for index in (0, 17, 40, 71):
        built, wanted = mixed.configuration(index), expected[index]
        assert built.platform.accelerator.name == wanted["platform"]
        assert float(built.platform.accelerators) == wanted["accelerators"]
        assert (float(built.plan.tensor), float(built.workload.batch)) == (
            float(wanted["plan"]),
            wanted["batch"],
        )
        assert len(built.platform.network) == (1 if wanted["platform"] == "flat" else 2)


def test_a_choice_brings_its_structure_with_it():
    chosen = dgz.Space(
        scenario(),
        {
            "platform": axes.choice({"lean": LEAN, "less": LESS}),
            "memory_bandwidth": axes.values(1e12, 2e12),
        },
    )
    assert chosen.variant_count == 1
    for index, (platform, bandwidth) in enumerate(itertools.product((LEAN, LESS), (1e12, 2e12))):
        expected = platform.replace(
            accelerator=platform.accelerator.replace(memory_bandwidth=bandwidth)
        )
        assert str(chosen.configuration(index).platform) == str(expected)


def test_options_of_several_numbers_are_matched_by_name():
    pairs = axes.choice(
        {
            "short": {"input_tokens": 10, "output_tokens": 20},
            "long": {"output_tokens": 40, "input_tokens": 30},
        }
    )
    for drawn in (False, True):
        both = dgz.Space(
            scenario(),
            {"requests": pairs.sampled() if drawn else pairs},
            samples=8 if drawn else None,
        )
        for index in range(both.size):
            workload = both.configuration(index).workload
            expected = (10, 20) if both.coordinates([index])["requests"] == ["short"] else (30, 40)
            assert (float(workload.input_tokens), float(workload.output_tokens)) == expected


def test_huge_spaces_are_numbered_exactly():
    radices = (1021, 4099, 257)
    huge = dgz.Space(
        scenario(),
        {
            "batch": axes.integers(1, radices[0]),
            "memory_bandwidth": axes.log_uniform(1e12, 4e12),
            "input_tokens": axes.integers(1, radices[1]),
            "output_tokens": axes.integers(1, radices[2]),
            "overlap": axes.linear(0, 1, 11).sampled(),
        },
        samples=2**31 + 11,
        seed=5,
    )
    combinations = math.prod(radices)
    assert huge.size == combinations * (2**31 + 11) > 2**60
    rng = random.Random(1)
    samples = [0, 2**18 - 1, 2**18, 2**31 + 10, *(rng.randrange(2**31) for _ in range(12))]
    indices = [sample * combinations + rng.randrange(combinations) for sample in samples]
    table = huge.coordinates(indices)
    sobol = Sobol(2, 5)
    for row, (index, sample) in enumerate(zip(indices, samples, strict=True)):
        rest = index % combinations
        assert table["output_tokens"][row] == rest % 257 + 1
        assert table["input_tokens"][row] == rest // 257 % 4099 + 1
        assert table["batch"][row] == rest // 257 // 4099 + 1
        first, second = sobol_points(sobol, sample, 1)[0].astype(float)
        assert table["memory_bandwidth"][row] == pytest.approx(1e12 * 4**first, rel=1e-6)
        assert table["overlap"][row] == pytest.approx(math.floor(second * 11) / 10)
    for start in (
        combinations - 300,
        2**18 * combinations - 300,
        indices[5],
    ):  # a batch on the device, over the ends of axes and of tables
        columns = huge.decoder(start).decoded(jnp.arange(600, dtype=jnp.uint32))[1]
        for ours, theirs in zip(columns, huge.numbers(range(start, start + 600)), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=2e-7)


def test_the_longest_axes_are_decoded_exactly():
    long = dgz.Space(
        scenario(), {"batch": axes.integers(1, 3), "input_tokens": axes.integers(1, 2**20)}
    )
    for start in (0, 2**20 - 2**16, 2**21 - 7):
        batch, tokens = long.decoder(start).decoded(jnp.arange(2**17, dtype=jnp.uint32))[1]
        numbers = np.arange(start, min(start + 2**17, long.size))
        np.testing.assert_array_equal(batch[: len(numbers)], numbers // 2**20 + 1)
        np.testing.assert_array_equal(tokens[: len(numbers)], numbers % 2**20 + 1)


def test_ranges_stay_within_their_bounds_and_fill_them():
    both = dgz.Space(
        scenario(),
        {"compute_efficiency": axes.log_uniform(0.1, 1), "memory_efficiency": axes.uniform(0.3, 1)},
        samples=2**23,
    )
    for _, low in zip(both.axes, (0.1, 0.3), strict=True):
        column = both.decoder(0).decoded(jnp.arange(2**17, dtype=jnp.uint32))[1][
            0 if low == 0.1 else 1
        ]
        assert np.float32(low) <= column.min() < low * 1.001
        assert 0.999 < column.max() <= 1


def test_derived_numbers_follow_in_order():
    derived = {
        "peak_flops[fp8]": "2 * peak_flops[bf16]",
        "idle_power": "peak_flops[fp8] / 1e13 + min(batch, 3)",
    }
    doubled = dgz.Space(
        scenario(),
        {"peak_flops[bf16]": axes.values(1e14, 4e14), "batch": axes.values(2, 8)},
        derived=derived,
    )
    chips = [doubled.configuration(index).platform.accelerator for index in range(4)]
    assert [float(chip.idle_power) for chip in chips] == pytest.approx([22, 23, 82, 83])
    assert [float(chip.peak_flops["fp8"]) for chip in chips] == pytest.approx(
        [2e14, 2e14, 8e14, 8e14]
    )


def test_a_name_that_fits_every_model_of_a_mix_sets_all():
    mix = Mix((scenario(), scenario()), (1, 3))
    named = {"batch": axes.values(2, 8), "scenarios[1].plan.tensor": axes.values(1, 4)}
    platforms = axes.choice({"fast": FAST, "flat": FLAT})
    built = dgz.Space(mix, {"platform": platforms, **named}).configuration(3)
    assert [float(part.workload.batch) for part in built.scenarios] == [8, 8]
    assert [float(part.plan.tensor) for part in built.scenarios] == [2, 4]
    assert [part.platform.accelerator.name for part in built.scenarios] == ["fast", "fast"]


def test_configurations_whose_numbers_do_not_go_together_are_refused():
    """Plans, and numbers that follow from others; everything else is a scenario for `estimate`."""
    plans = dgz.Space(
        scenario(), {"plan.tensor": axes.values(2, 16), "plan.expert": axes.values(1, 2)}
    )
    assert float(plans.configuration(0).plan.tensor) == 2
    with pytest.raises(InputError, match="expert: 2 exceeds 1, since .* has no experts"):
        plans.configuration(1)
    with pytest.raises(InputError, match="ranks|accelerators"):
        plans.configuration(2)
    derived = dgz.Space(
        scenario(), {"batch": axes.values(2, 3)}, derived={"plan.pipeline": "batch / 2"}
    )
    assert float(derived.configuration(0).plan.pipeline) == 1
    with pytest.raises(InputError, match="derived: pipeline: 1.5 is not a whole number of"):
        derived.configuration(1)
    mix = dgz.Space(
        Mix((scenario(), scenario()), (1, 1)), {"scenarios[1].plan.tensor": axes.values(2, 16)}
    )
    assert float(mix.configuration(0).scenarios[1].plan.tensor) == 2
    with pytest.raises(InputError, match="ranks|accelerators"):
        mix.configuration(1)


def test_spaces_survive_pickling():
    ours = space(
        derived={"idle_power": "batch + 1"},
        quantities={"x": "2 * tpot"},
        constraints=("x <= 1", "fits"),
    )
    ours.numbers([0])
    theirs = pickle.loads(pickle.dumps(ours))
    assert theirs.description() == ours.description()
    assert theirs.coordinates([5, 1000]) == ours.coordinates([5, 1000])


def test_descriptions_tell_spaces_apart():
    base = space()
    others = [
        space(200),
        space(seed=1),
        space(constraints=()),
        space(quantities={"x": "tpot"}),
        space(derived={"idle_power": "batch"}),
        dgz.Space(scenario(), varied() | {"batch": axes.values(1, 65)}, samples=100),
        dgz.Space(scenario(), dict(reversed(varied().items())), samples=100),
        dgz.Space(scenario().replace(platform=FAST), varied(), samples=100),
    ]
    assert space().description() == base.description()
    assert len({str(other.description()) for other in (base, *others)}) == len(others) + 1


# Formulas and names


# Bad input


@pytest.mark.parametrize(
    ("changed", "options", "message"),
    [
        ({}, {}, "space: it has no axes; give at least one"),
        ({"batsch": axes.values(1)}, {}, "leaf: 'batsch' is not known; did you mean .*batch"),
        ({"latency": axes.values(1)}, {}, "end of several names"),
        ({"batch": axes.values(0, 1)}, {}, "axis batch: batch: 0 is not allowed; it must be"),
        (
            {"plan.tensor": axes.values(1, 2.5)},
            {},
            "axis plan.tensor: tensor: 2.5 is not a whole number of ranks",
        ),
        (
            {"plan.tensor": axes.uniform(1, 8)},
            {"samples": 4},
            "axis plan.tensor: tensor: .* is not a whole number of ranks",
        ),
        (
            {"memory_bandwidth": axes.uniform(-1, 1)},
            {"samples": 4},
            "axis memory_bandwidth: memory_bandwidth: -1 is not allowed",
        ),
        (
            {"batch": axes.values(1), "workload.batch": axes.values(2)},
            {},
            "axis workload.batch: .* is set by the axis batch already; drop one",
        ),
        (
            {
                "platform": axes.choice({"a": FAST}),
                "accelerator": axes.choice({"b": FAST.accelerator}),
            },
            {},
            "axis accelerator: .* set by the axis platform",
        ),
        (
            {
                "platform": axes.choice({"a": FAST, "b": LEAN}),
                "accelerator": axes.choice({"b": FAST.accelerator}),
            },
            {},
            "set by the axis platform already",
        ),
        (
            {"platform": axes.choice({"a": FAST, "b": LEAN}), "network[1].latency": axes.values(1)},
            {},
            "is not in every option of the choices",
        ),
        (
            {"platform": axes.choice({"a": FAST, "b": FLAT}).sampled()},
            {"samples": 4},
            "differ in structure and cannot be sampled; enumerate them",
        ),
        (
            {"platform": axes.choice({"a": FAST.accelerator})},
            {},
            "axis platform: a Accelerator does not go there; a Platform does",
        ),
        (
            {"batch": axes.uniform(1, 2)},
            {},
            "samples: needed, since batch is sampled; give their number",
        ),
        (
            {"batch": axes.values(1)},
            {"samples": 4},
            "samples: 4 asked for, but no axis is sampled; leave it out",
        ),
        (
            {"batch": axes.uniform(1, 2)},
            {"samples": 0},
            "samples: 0 is not allowed; it must be at least 1",
        ),
        (
            {"batch": axes.uniform(1, 2)},
            {"samples": 4, "seed": -1},
            "seed: -1 is not allowed; it must be at least 0",
        ),
        (
            {"batch": axes.uniform(1, 2)},
            {"samples": 2**62},
            r"configurations are more than 2\*\*62; use fewer",
        ),
        ({"batch": axes.values(1)}, {"derived": {"nothing": "1"}}, "leaf: 'nothing' is not known"),
        (
            {"batch": axes.values(1)},
            {"derived": {"overlap": "nothing"}},
            "leaf: 'nothing' is not known",
        ),
        (
            {"platform": axes.choice({"a": FAST, "b": LEAN})},
            {"derived": {"peak_flops[fp8]": "1"}},
            r"derived: .*fp8.* is not in every option",
        ),
        (
            {"batch": axes.values(1)},
            {"constraints": ("tpot",)},
            "constraint: 'tpot' is a number, not a condition; compare it",
        ),
        (
            {"batch": axes.values(1)},
            {"quantities": {"q": "2 * tpot"}, "constraints": ("q",)},
            "constraint: 'q' is a number",
        ),
        (
            {"batch": axes.values(1)},
            {"quantities": {"tpot": "1000 * tpot"}},
            "quantity: tpot is made of itself",
        ),
        (
            {"batch": axes.values(1)},
            {"quantities": {"p": "q + 1", "q": "r", "r": "q"}},
            "quantity: q is made of itself; give it a name of its own",
        ),
    ],
)
def test_bad_spaces_are_refused(changed, options, message):
    with pytest.raises(InputError, match=message):
        dgz.Space(scenario(), changed, **options)


@pytest.mark.parametrize("index", [-1, 2400])
def test_indices_outside_the_space_are_refused(index):
    with pytest.raises(
        InputError, match=f"index: {index} is not allowed; the space has 2400 configurations"
    ):
        space().configuration(index)


def test_values_are_those_of_grids_and_choices_only():
    ours = space()
    assert ours.level_values("plan.tensor") == [1, 2, 16]
    assert ours.coordinates([0])["memory_bandwidth"] == [
        1e12
    ]  # as given, not as rounded to float32
    with pytest.raises(
        InputError,
        match=r"axis: 'peak_flops\[bf16\]' has no values one by one; it must be a grid or a choice",
    ):
        ours.level_values("peak_flops[bf16]")
