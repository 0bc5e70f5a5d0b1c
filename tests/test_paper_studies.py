"""GenZ's platform studies: all published times, slopes that follow, and files that can be read."""

from pathlib import Path

import paper_scaling
import paper_studies
import pytest

import diffgenz as dgz

EXAMPLES = Path(__file__).parents[1] / "examples" / "genz"


def test_all_forty_published_times_are_met_and_elasticities_explain_their_slopes():
    for curve, again in zip(paper_scaling.CURVES, paper_scaling.reproduce(), strict=True):
        assert again.milliseconds == pytest.approx(curve.published, rel=0.005)  # as printed
        if curve.study in ("link_bandwidth", "link_latency"):  # a + b x: one point gives all
            x = [f if curve.study == "link_latency" else 1 / f for f in curve.factors]
            slope = abs(again.elasticities[-1]) * again.milliseconds[-1] / x[-1]
            told = [again.milliseconds[-1] + slope * (there - x[-1]) for there in x]
            assert told == pytest.approx(curve.published, rel=0.005)


def test_decode_of_gpt4_waits_for_links_by_the_closed_form():
    last = next(c for c in paper_scaling.CURVES if (c.study, c.model) == ("link_latency", "GPT4"))
    (again,) = paper_scaling.reproduce((last,))
    hops = 2 * 128 * 2 * (21 - 1) + 3  # two rings a layer, three passes between stages
    assert again.elasticities[-1] * again.milliseconds[-1] == pytest.approx(hops * 2e-3, rel=1e-6)


@pytest.mark.parametrize(
    ("study", "metric", "name", "sign"),
    [
        ("compute", "ttft", "accelerator.peak_flops[fp8]", -1),
        ("memory", "tpot", "accelerator.memory_bandwidth", -1),
        ("link_bandwidth", "ttft", "network[0].bandwidth", -1),
        ("link_latency", "tpot", "network[0].latency", 1),
    ],
)
def test_each_file_is_a_curve_whose_elasticity_has_the_sign_of_its_slope(study, metric, name, sign):
    space, reductions = dgz.load_space(EXAMPLES / f"{study}.toml")
    assert (space.size, set(reductions)) == (5, {"curve"})
    case = space.configuration(1)
    assert isinstance(case, dgz.Scenario)
    now = dgz.estimate(case)
    assert bool(now.memory.fits)
    slope = float(dgz.elasticities(case, metric)[name])
    assert 0 < sign * slope < 1


def test_assistants_of_ten_trillion_parameters_need_what_the_paper_says():
    """8 and 40 TB/s, rounded as published; not with the few KV heads of the model that it ships."""
    for tokens, published in paper_studies.CONTEXTS:
        use = paper_studies.assistant(tokens)
        bandwidth, _, _ = paper_studies.TEN_TRILLION.closed_forms(use)
        assert bandwidth == pytest.approx(published, rel=0.05)
    assert paper_studies.AS_SHIPPED.closed_forms(use)[0] < published * 0.6
