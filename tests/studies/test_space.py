"""Spaces: every index is one configuration, the same on the device, on the host and by an independent count; bad ones are refused."""

import inspect
import itertools
import math
import pickle
import random

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import qmc
from support import CHIP, FABRIC, NODE
from sweep_cases import axes, scenario, space

import diffgenz as dgz
from diffgenz import InputError
from diffgenz.core.leaves import find, leaf_at, leaf_names, with_leaves
from diffgenz.hardware.platform import Accelerator, Level, Platform
from diffgenz.studies.expressions import Expression
from diffgenz.studies.sweep.sobol import MOST_DIMENSIONS, Sobol
from diffgenz.studies.sweep.space import MOST_BATCH

FLAT = Platform(Accelerator(**CHIP | {"name": "flat"}), (Level(**NODE | {"size": 64}),), 8)
FAST = Platform(
    Accelerator(**CHIP | {"name": "fast", "memory_bandwidth": 9e12}),
    (Level(**NODE), Level(**FABRIC | {"latency": 1e-6})),
    16,
)
LEAN = Platform(
    Accelerator(
        **CHIP | {"name": "lean", "peak_flops": {"bf16": 5e14}, "energy_per_flop": {"bf16": 1e-13}}
    ),
    (Level(**NODE),),
    8,
)
LESS = Platform(
    Accelerator(
        **CHIP | {"name": "less", "peak_flops": {"bf16": 3e14}, "energy_per_flop": {"bf16": 2e-13}}
    ),
    (Level(**NODE),),
    8,
)


def points(sobol, start, count):
    return np.stack(sobol.place(start).points(jnp.arange(count, dtype=jnp.uint32)), 1)


def gray(number):
    return number ^ (number >> 1)


# Sobol


@pytest.mark.parametrize("start", [0, 3 * 2**17 + 12345])
def test_the_plain_sequence_is_that_of_scipy_in_gray_code_order(start):
    theirs = qmc.Sobol(MOST_DIMENSIONS, scramble=False, bits=32)
    if start:
        theirs.fast_forward(start)
    expected = np.floor(theirs.random(64 if start else 512) * 2**23)
    mine = Sobol(MOST_DIMENSIONS, None)
    order = [gray(start + n) for n in range(len(expected))]
    lowest = min(order)
    found = points(mine, lowest, max(order) - lowest + 1)[np.asarray(order) - lowest]
    np.testing.assert_array_equal(np.floor(found.astype(float) * 2**23), expected)


@pytest.mark.parametrize("block", [0, 5, 2**27, 2**50 + 3])
@pytest.mark.parametrize("seed", [0, 7])
def test_a_scrambled_block_is_a_net(seed, block):
    count = 2**6
    found = points(Sobol(MOST_DIMENSIONS, seed), block * count, count).astype(float)
    assert ((found > 0) & (found < 1)).all()
    for dimension in range(MOST_DIMENSIONS):
        assert sorted(np.floor(found[:, dimension] * count)) == list(range(count))
    for split in range(7):  # the first two dimensions: every elementary interval once
        rows, columns = np.floor(found[:, 0] * 2**split), np.floor(found[:, 1] * 2 ** (6 - split))
        assert len({*zip(rows, columns, strict=True)}) == count


def test_seeds_differ_and_repeat():
    one, again, other = (points(Sobol(3, seed), 0, 64) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@pytest.mark.parametrize("start", [0, 2**18 - 3, 2**33 - 5, 2**62 - 8])
def test_points_do_not_depend_on_where_a_batch_begins(start):
    sobol = Sobol(4, 3)
    together = points(sobol, start, 8)
    np.testing.assert_array_equal(
        together, np.concatenate([points(sobol, start + n, 1) for n in range(8)])
    )


@pytest.mark.parametrize("start", [0, 2**18 - 3, 2**40 + 2**18 - 50_000])
def test_copied_runs_are_what_lookups_give(start):
    place, offsets = Sobol(3, 1).place(start), jnp.arange(MOST_BATCH, dtype=jnp.uint32)
    np.testing.assert_array_equal(
        np.stack(place.points(offsets, run=True)), np.stack(place.points(offsets))
    )


# Numbering


def test_indices_enumerate_every_combination_the_last_axis_fastest():
    mixed = dgz.Space(
        scenario(),
        {
            "batch": dgz.integers(1, 3),
            "platform": dgz.choice(
                {"flat": FLAT, "fast": FAST}
            ),  # another network: compiled apart, and slowest
            "plan": dgz.choice({"1": dgz.Parallelism(1), "2": dgz.Parallelism(2)}),
            "accelerators": dgz.values(8, 32),  # a number inside the record that is chosen
            "input_tokens": dgz.linear(100, 200, 3),
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
        assert (float(built.served[0].plan.tensor), float(built.served[0].workload.batch)) == (
            float(wanted["plan"]),
            wanted["batch"],
        )
        assert len(built.platform.network) == (1 if wanted["platform"] == "flat" else 2)


def test_a_choice_brings_its_structure_with_it():
    chosen = dgz.Space(
        scenario(),
        {
            "platform": dgz.choice({"lean": LEAN, "less": LESS}),
            "memory_bandwidth": dgz.values(1e12, 2e12),
        },
    )
    assert chosen.variant_count == 1
    for index, (platform, bandwidth) in enumerate(itertools.product((LEAN, LESS), (1e12, 2e12))):
        expected = platform.replace(
            accelerator=platform.accelerator.replace(memory_bandwidth=bandwidth)
        )
        assert str(chosen.configuration(index).platform) == str(expected)


def test_options_of_several_numbers_are_matched_by_name():
    pairs = dgz.choice(
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
            workload = both.configuration(index).served[0].workload
            expected = (10, 20) if both.coordinates([index])["requests"] == ["short"] else (30, 40)
            assert (float(workload.input_tokens), float(workload.output_tokens)) == expected


def test_huge_spaces_are_numbered_exactly():
    radices = (1021, 4099, 257)
    huge = dgz.Space(
        scenario(),
        {
            "batch": dgz.integers(1, radices[0]),
            "memory_bandwidth": dgz.log_uniform(1e12, 4e12),
            "input_tokens": dgz.integers(1, radices[1]),
            "output_tokens": dgz.integers(1, radices[2]),
            "overlap": dgz.linear(0, 1, 11).sampled(),
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
        first, second = points(sobol, sample, 1)[0].astype(float)
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
        scenario(), {"batch": dgz.integers(1, 3), "input_tokens": dgz.integers(1, 2**20)}
    )
    for start in (0, 2**20 - 2**16, 2**21 - 7):
        batch, tokens = long.decoder(start).decoded(jnp.arange(2**17, dtype=jnp.uint32))[1]
        numbers = np.arange(start, min(start + 2**17, long.size))
        np.testing.assert_array_equal(batch[: len(numbers)], numbers // 2**20 + 1)
        np.testing.assert_array_equal(tokens[: len(numbers)], numbers % 2**20 + 1)


def test_ranges_stay_within_their_bounds_and_fill_them():
    both = dgz.Space(
        scenario(),
        {"compute_efficiency": dgz.log_uniform(0.1, 1), "memory_efficiency": dgz.uniform(0.3, 1)},
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
        {"peak_flops[bf16]": dgz.values(1e14, 4e14), "batch": dgz.values(2, 8)},
        derived=derived,
    )
    chips = [doubled.configuration(index).platform.accelerator for index in range(4)]
    assert [float(chip.idle_power) for chip in chips] == pytest.approx([22, 23, 82, 83])
    assert [float(chip.peak_flops["fp8"]) for chip in chips] == pytest.approx(
        [2e14, 2e14, 8e14, 8e14]
    )


def test_a_name_that_fits_every_model_of_a_mix_sets_all():
    one = scenario()
    mix = one.replace(served=(one.served[0], one.served[0].replace(share=3)))
    both = dgz.Space(mix, {"batch": dgz.values(2, 8), "served[1].plan.tensor": dgz.values(1, 4)})
    built = both.configuration(3)
    assert [float(part.workload.batch) for part in built.served] == [8, 8]
    assert [float(part.plan.tensor) for part in built.served] == [2, 4]


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
        dgz.Space(scenario(), axes() | {"batch": dgz.values(1, 65)}, samples=100),
        dgz.Space(scenario(), dict(reversed(axes().items())), samples=100),
        dgz.Space(scenario().replace(platform=FAST), axes(), samples=100),
    ]
    assert space().description() == base.description()
    assert len({str(other.description()) for other in (base, *others)}) == len(others) + 1


# Formulas and names


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2 + 3 * a ** 2 - -b / 4", 2 + 3 * 9 + 5 / 4),
        ("2 ** a ** 2", 2.0**9),
        ("max(a, b, 1) - min(a, b)", 2),
        ("sqrt(a * 12) + abs(-b) + floor(2.7) + ceil(0.1)", 6 + 5 + 2 + 1),
        ("log(exp(a))", 3),
        ("1 <= a < b", True),
        ("not a == 3 or b != 5", False),
        ("a > 2 and b >= 5 and c.d[0].e", True),
        ("c.d[0].e * x[fp8]", 70),
        ("1 / (1 - c.d[0].e)", math.inf),
    ],
)
def test_formulas(text, value):
    numbers = {"a": 3.0, "b": 5.0, "c.d[0].e": 1.0, "x[fp8]": 70.0}
    formula = Expression(text)
    assert float(formula(lambda name: jnp.float32(numbers[name]))) == pytest.approx(
        float(value), rel=1e-6
    )
    assert formula.names == {name for name in numbers if name in text}
    assert formula.conditional == isinstance(value, bool)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a +",
        "a if b else c",
        "[a]",
        "f(a)",
        "sqrt(a, b)",
        "'a'",
        "a % b",
        "lambda: 1",
        "a @ b",
        "~a",
        "min()",
    ],
)
def test_what_is_no_formula_is_refused(text):
    with pytest.raises(InputError, match=r"^expression: "):
        Expression(text)


@pytest.mark.parametrize("text", ["1 / 0", "9 ** 9 ** 9", "(-1) ** 0.5 + a"])
def test_constants_without_a_value_are_refused(text):
    with pytest.raises(InputError, match="constant part"):
        Expression(text)


def test_leaves_are_found_by_the_end_of_their_name():
    record = scenario()
    assert leaf_names(record).keys() >= {
        "platform.accelerator.memory_bandwidth",
        "served[0].plan.tensor",
    }
    assert float(leaf_at(record, find(record, "network[1].latency")[0])) == pytest.approx(5e-6)
    assert find(record, "plan.tensor") == find(record, "served[0].plan.tensor")
    with pytest.raises(
        InputError, match=r"leaf: 'latency' is the end of several names: .*network\[0\].*write more"
    ):
        find(record, "latency")
    with pytest.raises(InputError, match="did you mean .*memory_bandwidth"):
        find(record, "memory_bandwith", alike="served")
    with pytest.raises(InputError, match="memory_bandwidth: -1 is not allowed"):
        with_leaves(record, {find(record, "memory_bandwidth")[0]: -1.0})


# Bad input


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: dgz.values(), "no values; give at least one"),
        (lambda: dgz.values(1, math.nan), "infinite, NaN"),
        (lambda: dgz.values(1, 1e39), "too large for float32"),
        (
            lambda: dgz.integers(2**24, 2**24 + 2),
            "16777216.* and .*16777217.* are the same number in float32",
        ),
        (lambda: dgz.integers(1, 2**40), f"{2**40} values are too many; at most 1048576"),
        (lambda: dgz.linear(0, 1, 2**40), "values are too many"),
        (lambda: dgz.linear(0, 1, 0), "a count of 0 is not allowed; it must be at least 1"),
        (lambda: dgz.linear(2, 1, 5), "the lower bound 2 exceeds the upper bound 1; exchange them"),
        (lambda: dgz.geometric(0, 1, 5), "a lower bound of 0 has no logarithm; give one above 0"),
        (lambda: dgz.log_uniform(-1, 1), "has no logarithm"),
        (lambda: dgz.uniform(0, math.inf), "bounds of 0 and inf are not allowed; give finite ones"),
        (lambda: dgz.integers(1, 5, 0), "a step of 0 is not allowed"),
        (lambda: dgz.choice({}), "a choice has no options; give at least one"),
    ],
)
def test_bad_axes_are_refused(build, message):
    with pytest.raises(InputError, match=rf"^axis: .*{message}"):
        build()


@pytest.mark.parametrize(
    ("changed", "options", "message"),
    [
        ({}, {}, "space: it has no axes; give at least one"),
        ({"batsch": dgz.values(1)}, {}, "leaf: 'batsch' is not known; did you mean .*batch"),
        ({"latency": dgz.values(1)}, {}, "end of several names"),
        ({"batch": dgz.values(0, 1)}, {}, "axis batch: batch: 0 is not allowed; it must be"),
        (
            {"plan.tensor": dgz.values(1, 2.5)},
            {},
            "axis plan.tensor: tensor: 2.5 is not a whole number of ranks",
        ),
        (
            {"plan.tensor": dgz.uniform(1, 8)},
            {"samples": 4},
            "axis plan.tensor: tensor: .* is not a whole number of ranks",
        ),
        (
            {"memory_bandwidth": dgz.uniform(-1, 1)},
            {"samples": 4},
            "axis memory_bandwidth: memory_bandwidth: -1 is not allowed",
        ),
        (
            {"batch": dgz.values(1), "workload.batch": dgz.values(2)},
            {},
            "axis workload.batch: .* is set by the axis batch already; drop one",
        ),
        (
            {
                "platform": dgz.choice({"a": FAST}),
                "accelerator": dgz.choice({"b": FAST.accelerator}),
            },
            {},
            "axis accelerator: .* set by the axis platform",
        ),
        (
            {
                "platform": dgz.choice({"a": FAST, "b": LEAN}),
                "accelerator": dgz.choice({"b": FAST.accelerator}),
            },
            {},
            "set by the axis platform already",
        ),
        (
            {"platform": dgz.choice({"a": FAST, "b": LEAN}), "network[1].latency": dgz.values(1)},
            {},
            "is not in every option of the choices",
        ),
        (
            {"platform": dgz.choice({"a": FAST, "b": FLAT}).sampled()},
            {"samples": 4},
            "differ in structure and cannot be sampled; enumerate them",
        ),
        (
            {"platform": dgz.choice({"a": FAST.accelerator})},
            {},
            "axis platform: a Accelerator does not go there; a Platform does",
        ),
        (
            {"batch": dgz.uniform(1, 2)},
            {},
            "samples: needed, since batch is sampled; give their number",
        ),
        (
            {"batch": dgz.values(1)},
            {"samples": 4},
            "samples: 4 asked for, but no axis is sampled; leave it out",
        ),
        (
            {"batch": dgz.uniform(1, 2)},
            {"samples": 0},
            "samples: 0 is not allowed; it must be at least 1",
        ),
        (
            {"batch": dgz.uniform(1, 2)},
            {"samples": 4, "seed": -1},
            "seed: -1 is not allowed; it must be at least 0",
        ),
        (
            {"batch": dgz.uniform(1, 2)},
            {"samples": 2**62},
            r"configurations are more than 2\*\*62; use fewer",
        ),
        ({"batch": dgz.values(1)}, {"derived": {"nothing": "1"}}, "leaf: 'nothing' is not known"),
        (
            {"batch": dgz.values(1)},
            {"derived": {"overlap": "nothing"}},
            "leaf: 'nothing' is not known",
        ),
        (
            {"platform": dgz.choice({"a": FAST, "b": LEAN})},
            {"derived": {"peak_flops[fp8]": "1"}},
            r"derived: .*fp8.* is not in every option",
        ),
        (
            {"batch": dgz.values(1)},
            {"constraints": ("tpot",)},
            "constraint: 'tpot' is a number, not a condition; compare it",
        ),
        (
            {"batch": dgz.values(1)},
            {"quantities": {"q": "2 * tpot"}, "constraints": ("q",)},
            "constraint: 'q' is a number",
        ),
        (
            {"batch": dgz.values(1)},
            {"quantities": {"tpot": "1000 * tpot"}},
            "quantity: tpot is made of itself",
        ),
        (
            {"batch": dgz.values(1)},
            {"quantities": {"p": "q + 1", "q": "r", "r": "q"}},
            "quantity: q is made of itself; give it a name of its own",
        ),
    ],
)
def test_bad_spaces_are_refused(changed, options, message):
    with pytest.raises(InputError, match=message):
        dgz.Space(scenario(), changed, **options)


def test_more_sampled_axes_than_sobol_has_dimensions_are_refused():
    with pytest.raises(
        InputError,
        match=f"sampled axes: {MOST_DIMENSIONS + 1} are too many; at most {MOST_DIMENSIONS}",
    ):
        Sobol(MOST_DIMENSIONS + 1, 0)


def test_fractional_bounds_of_integers_are_refused():
    with pytest.raises(InputError, match="1.5 is not a whole number; use linear"):
        inspect.unwrap(dgz.integers)(1.5, 4)  # past the run-time type check


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
