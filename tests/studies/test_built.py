"""Sweeps whose formulas name what an accelerator takes to build."""

import pytest

import diffgenz as dgz


def space(axes, **options):
    scenario = dgz.Scenario(
        dgz.load_model("Qwen/Qwen2.5-0.5B"),
        dgz.load_platform("h100_sxm", 8, fit="none"),
        dgz.Workload(4, 600, 60),
        dgz.Parallelism(tensor=2),
    )
    return dgz.Space(scenario, axes, **options)


AXES = {
    "memory_bandwidth": dgz.axes.values(3e12, 6e12, 9e12),
    "network[0].bandwidth": dgz.axes.values(2e11, 9e11),
}


def test_quantities_of_technology_are_those_of_each_configuration():
    asked = space(
        AXES,
        quantities={"per_watt": "throughput / tdp", "unit_price": "7 * stacks"},
        constraints=["tdp <= 800", "fits"],
    )
    kept = {
        "best": dgz.Top(maximize="per_watt", count=6),
        "dear": dgz.Top(maximize="unit_price", count=6),
    }
    found = dgz.sweep(asked, kept)
    builds = [dgz.technology_of(asked.configuration(i).platform) for i in range(asked.size)]
    meant = [i for i, build in enumerate(builds) if float(build.tdp) <= 800]
    assert 0 < len(meant) < asked.size
    best, dear = found.table("best", 6), found.table("dear", 6)
    assert sorted(best["index"]) == meant
    tdp = [float(builds[i].tdp) for i in best["index"]]
    expected = [rate / watts for rate, watts in zip(best["throughput"], tdp, strict=True)]
    assert best["per_watt"] == pytest.approx(expected, rel=1e-5)
    # a quantity of the space comes before ours of that name
    stacks = [7 * float(builds[i].stacks) for i in dear["index"]]
    assert dear["unit_price"] == pytest.approx(stacks, rel=1e-5)


def test_what_a_program_cannot_know_is_refused():
    platforms = [dgz.load_platform(system, 8, fit="none") for system in ("h100_sxm", "h200_sxm")]
    axes = {"platform": dgz.axes.choice(dict(zip("ab", platforms, strict=True)))}
    kept = {"best": dgz.Top(minimize="unit_cost")}
    with pytest.raises(dgz.InputError, match="unit_cost: axis platform chooses among accelerators"):
        dgz.sweep(space(axes), kept)
    bare = platforms[0].accelerator.replace(design=None)
    axes = {"platform": dgz.axes.choice({"a": platforms[0].replace(accelerator=bare)})}
    with pytest.raises(dgz.InputError, match="design: .* does not say how it is built"):
        dgz.sweep(space(axes), kept)
