"""Laws of what accelerators take to build, and one accelerator worked by hand."""

import jax
import numpy as np
import pytest
from technology_cases import DESIGNED, GROWING, NUMBERS, chip, chip_with, platform, scattered

import diffgenz as dgz
from diffgenz.core.differences import as_double, in_double
from diffgenz.hardware.specs import read_spec
from diffgenz.technology.area import edge_of
from diffgenz.technology.build import QUANTITIES
from diffgenz.technology.chip import sixteen_bit
from diffgenz.technology.coefficients import coefficients_of
from diffgenz.technology.cost import dies_of
from diffgenz.technology.fitting import drawn, with_values

STRUCTURES = ("h100_sxm", "mi300x", "l40s")
"""A monolithic die, dies on dies of another process, and one with GDDR."""


@pytest.mark.parametrize("system", DESIGNED)
def test_stacks_are_those_published(system):
    published = read_spec(system).design["stacks"]
    assert float(dgz.technology_of(platform(system)).whole_stacks) == published


@pytest.mark.parametrize("system", STRUCTURES[1:])
def test_more_takes_more(system):
    with in_double():
        numbers = scattered(system, 50, seed=1)
        technology = as_double(dgz.load_technology())
        before = dgz.technology_of(chip_with(system, numbers), technology)
        for name in NUMBERS:
            if name in ("clock", "nominal_clock", "stack", "compute_dies", "io_dies"):
                continue
            more = numbers | {name: 1.3 * numbers[name]}
            after = dgz.technology_of(chip_with(system, more), technology)
            for quantity in GROWING:
                least = getattr(before, quantity) * (1 - 1e-12)
                if quantity == "tdp" and name in ("peak_flops", "spare_units", "compute_units"):
                    continue  # wider units, at the same sustained rate, share their control
                assert np.all(getattr(after, quantity) >= least), (quantity, name)
            if not chip(system).io_process:
                assert np.all(after.die_yield <= before.die_yield + 1e-12), name
        taller = dgz.technology_of(
            chip_with(system, numbers | {"stack": 1.3 * numbers["stack"]}), technology
        )
        assert np.all(taller.stacks <= before.stacks)


@pytest.mark.parametrize("system", STRUCTURES)
def test_it_is_convex_in_logarithms(system):
    """At the geometric mean of two chips, each quantity is at most the geometric mean of both."""
    with in_double():
        technology = as_double(dgz.load_technology())
        one, other = (scattered(system, 2000, seed) for seed in (2, 3))
        middle = {name: np.sqrt(one[name] * other[name]) for name in NUMBERS}
        a, b, m = (
            dgz.technology_of(chip_with(system, numbers), technology)
            for numbers in (one, other, middle)
        )
        for quantity in GROWING:
            most = np.sqrt(getattr(a, quantity) * getattr(b, quantity))
            assert np.all(getattr(m, quantity) <= most * (1 + 1e-9)), quantity
        # twice as many lie clearly below: a test that could not fail would find equality
        assert np.mean(m.unit_cost < 0.99 * np.sqrt(a.unit_cost * b.unit_cost)) > 0.5
        if not chip(system).io_process:
            assert np.all(1 / m.die_yield <= (1 + 1e-9) / np.sqrt(a.die_yield * b.die_yield))


def test_gradients_jitted_and_batched_are_those_of_differences_in_double():
    """Of a random mixture of all quantities, in logarithms, with respect to every number."""
    weights = np.random.default_rng(5).uniform(0.5, 1.5, len(QUANTITIES))

    def mixture(values, log):
        build = dgz.technology_of(chip_with("mi300x", values), technology)
        parts = zip(weights, QUANTITIES, strict=True)
        return sum(weight * log(getattr(build, name)) for weight, name in parts)

    with in_double():
        technology = as_double(dgz.load_technology())
        numbers = scattered("mi300x", 4, seed=4)
        columns = {name: jax.numpy.asarray(column) for name, column in numbers.items()}
        found = jax.jit(jax.vmap(jax.grad(lambda values: mixture(values, jax.numpy.log))))(columns)
        for name in NUMBERS:
            step = 1e-5 * numbers[name]
            up, down = (
                mixture(numbers | {name: numbers[name] + sign * step}, np.log) for sign in (1, -1)
            )
            elasticity = np.asarray(found[name]) * numbers[name]
            assert elasticity == pytest.approx((up - down) / 2e-5, abs=1e-6), name


@pytest.mark.slow
def test_in_single_precision_gradients_are_finite_where_numbers_are_zero():
    base = chip("l40s").replace(link_bandwidth=0.0, cache=0.0, unit_sram=0.0, fp64_flops=0.0)
    both = jax.jit(jax.value_and_grad(lambda chip: dgz.technology_of(chip).unit_cost))
    cost, slopes = both(jax.tree.map(jax.numpy.asarray, base))
    assert all(np.isfinite(leaf) for leaf in jax.tree.leaves(slopes))
    assert float(cost) == pytest.approx(float(dgz.technology_of(base).unit_cost), rel=1e-5)


def test_an_accelerator_worked_by_hand():
    """One die of N5 whose coefficients are round numbers."""
    values = {
        "matrix_area": 0.1,  # mm2 per 1000 FLOP/cycle
        "fp64_area": 2.0,
        "unit_area": 1.0,
        "unit_sram_area": 2.0,
        "cache_area": 3.0,
        "other_area": 20.0,
        "link_phy_area": 0.04,
        "link_logic_area": 0.06,
        "die_to_die_area": 10.0,
        "flop_energy": 0.5,
        "leakage": 0.1,
        "link_energy": 5.0,
        "critical_share": 1.0,
        "test_share": 0.1,
        "module_cost": 100.0,
        "markup": 4.0,
        "processes.N5.wafer_price": 7068.6,  # 0.1 USD/mm2
        "processes.N5.defects": 0.1,
        "memories.HBM3.phy_area": 10.0,
        "memories.HBM3.logic_area": 5.0,
        "memories.HBM3.energy": 4.0,
        "memories.HBM3.price": 10.0,
        "memories.HBM3.footprint": 100.0,
        "memories.HBM3.packaging": 0.5,
        "memories.HBM3.edge": 10.0,
        "link_edge": 4.0,
        "other_edge": 6.0,
    }
    with in_double():
        technology = with_values(
            as_double(dgz.load_technology()), tuple(values), list(values.values())
        )
        build = dgz.technology_of(
            dgz.Chip(
                process="N5",
                memory="HBM3",
                peak_flops=0.4096e15,  # 409,600 FLOP in a cycle, 4096 in each unit
                sustained_flops=200e12,
                fp64_flops=10e12,
                memory_bandwidth=819e9,
                memory_capacity=96e9,  # four stacks; bandwidth needs but one
                link_bandwidth=500e9,
                stack=24e9,
                clock=1e9,
                nominal_clock=1e9,
                compute_units=100,
                unit_sram=0.25e6,
                cache=10e6,
            ),
            technology,
            sharpness=dgz.HARD,
        )
    assert float(build.stacks) == float(build.whole_stacks) == 4
    parts = {
        "arithmetic": 40.96 + 20,
        "units": 100,
        "sram": 50,
        "cache": 30,
        "memory": 60,
        "links": 50,
        "between_dies": 0,
        "other": 20,
    }
    for name, area in parts.items():
        assert float(getattr(build.areas, name)) == pytest.approx(area), name
    area = 370.96
    assert float(build.die_area) == pytest.approx(area)
    assert float(build.shoreline) == pytest.approx(4 * 10 + 5 * 4 + 6)
    assert float(build.die_edge) == pytest.approx(4 * area**0.5)
    watts = (100, 0.1 * area, 8 * 819e9 * 4e-12, 16 * 500e9 * 5e-12)
    assert float(build.tdp) == pytest.approx(sum(watts))
    good = np.exp(-area / 100 * 0.1)
    assert float(build.die_yield) == pytest.approx(good)
    lost = (2 * area) ** 0.5 / 150
    dies = 0.1 * area * (1 + lost + lost**2 + lost**3) / good
    packaging = 0.5 * (area + 4 * 100)
    cost = 1.1 * (dies + 960 + packaging) + 100
    assert float(build.unit_cost) == pytest.approx(cost, rel=1e-6)
    assert float(build.unit_price) == pytest.approx(4 * cost, rel=1e-6)


def test_dies_on_dies_yield_better_and_show_only_the_lower_ones_edge():
    build = dgz.technology_of(platform("mi300x"))
    whole = chip("mi300x").replace(io_process="", compute_dies=1.0, io_dies=0.0)
    alone = dgz.technology_of(whole)
    assert float(build.die_yield) > 0.8 > float(alone.die_yield)
    assert float(edge_of(chip("mi300x"), build.areas)) == pytest.approx(
        4 * float(build.areas.rest) ** 0.5
    )


def test_dies_on_a_wafer_are_those_of_the_usual_count():
    """The wafer of a die, against pi r^2 / A - pi 2 r / sqrt(2 A) dies on it."""
    base, areas = chip("h100_sxm"), dgz.technology_of(platform("h100_sxm")).areas
    technology = dgz.load_technology()
    process = technology.process("N4")
    good, cost = dies_of(base, areas, technology)
    area = float(areas.total)
    dies = np.pi * 150**2 / area - np.pi * 300 / np.sqrt(2 * area)
    assert float(cost * good) == pytest.approx(float(process.wafer_price.value) / dies, rel=0.01)


def test_formats_that_agree_have_the_peak_of_any_and_others_lie_between():
    def bits(**peaks):
        return float(sixteen_bit({name: np.float64(peak) for name, peak in peaks.items()}))

    assert bits(bf16=1e15, fp8=2e15, mxfp4=4e15) == pytest.approx(1e15)
    uneven = bits(fp32=9e15, bf16=1e15, fp8=4e15)
    assert 1e15 < uneven < 2e15
    with pytest.raises(dgz.InputError, match="peak_flops: of fp32 none has 16 bits or less"):
        bits(fp32=1e13)


def test_a_faster_clock_takes_less_area_and_more_power():
    base = chip("h100_sxm")
    faster = base.replace(clock=1.2 * base.clock)
    slow, fast = dgz.technology_of(base), dgz.technology_of(faster)
    assert float(fast.die_area) < float(slow.die_area)
    # a fifth faster: 1 + 0.44 voltage_share, and units a fifth narrower
    share, sharing = (
        float(dgz.load_technology().voltage_share.value),
        float(dgz.load_technology().sharing.value),
    )
    expected = (1 + 0.44 * share) * 1.2**sharing
    assert float(fast.powers.compute / slow.powers.compute) == pytest.approx(expected, rel=1e-5)


def test_every_number_of_a_build_shows_its_unit():
    shown = repr(dgz.technology_of(platform("h100_sxm")))
    for part in ("die_area=", "mm2", "tdp=", " W", "unit_cost=", " USD", "shoreline=", " mm,"):
        assert part in shown


def test_drawn_technologies_have_the_deviations_of_the_fit():
    technology = dgz.load_technology()
    many = drawn(technology, 0, 4000)
    for name in ("leakage", "markup", "matrix_area", "memories.HBM3.price"):
        logs = np.log(np.asarray(coefficients_of(many)[name].value))
        about = coefficients_of(technology)[name]
        assert logs.mean() == pytest.approx(np.log(float(about.value)), abs=0.03)
        assert logs.std() == pytest.approx(float(about.deviation), rel=0.05)
    area = np.asarray(dgz.technology_of(chip("h100_sxm"), many).die_area)
    assert area.shape == (4000,)
    assert 0.02 < np.log(area).std() < 0.08  # the fit knows H100's area within some 4 %
    alone = technology.replace(covariance=None, uncertain=())
    independent = drawn(alone, 0, 4000)
    apart = np.asarray(dgz.technology_of(chip("h100_sxm"), independent).die_area)
    assert np.log(apart).std() > 1.5 * np.log(area).std()


def test_what_cannot_be_built_is_said_in_one_line():
    base = chip("h100_sxm")
    with pytest.raises(dgz.InputError, match="process: 'N1' is not known"):
        dgz.technology_of(dgz.Chip("N1", "HBM3", **{n: getattr(base, n) for n in NUMBERS}))
    with pytest.raises(dgz.InputError, match="memory: 'HBM9' is not known; did you mean HBM"):
        dgz.technology_of(dgz.Chip("N5", "HBM9", **{n: getattr(base, n) for n in NUMBERS}))
    with pytest.raises(dgz.InputError, match="clock: 0 is not allowed"):
        base.replace(clock=0.0)
    with pytest.raises(dgz.InputError, match="design: .* does not say how it is built; add"):
        dgz.technology_of(platform("gb10"))
