"""Space files: what people write, and how mistakes are named."""

from pathlib import Path

import jax
import pytest
from space_cases import TINY

import diffgenz as dgz
from diffgenz.core.leaves import find, leaf_at
from diffgenz.core.sections import quantity
from diffgenz.core.smooth import HARD
from diffgenz.hardware.specs import specs_folder
from diffgenz.scenario.mix import parts_of
from diffgenz.studies.optimize.study_file import load_study
from diffgenz.studies.sweep.axis_tables import plan_label

EXAMPLES = Path(__file__).parents[2] / "examples"
LLAMA = "meta-llama/Llama-3.1-8B"


@pytest.fixture
def load(tmp_path):
    def load(text=TINY, **options):
        (tmp_path / "tiny.toml").write_text(text)
        return dgz.load_space(tmp_path / "tiny.toml", **options)

    return load


def test_a_file_is_the_space_that_python_would_make(load, llama_8b):
    space, reductions = load()
    assert space.size == 2 * 4 * 3
    kinds = {name: type(reduction).__name__ for name, reduction in reductions.items()}
    assert kinds == {"front": "Pareto", "map": "Best", "slow": "Histogram"}
    assert space.coordinates([23]) == {
        "memory_bandwidth": [pytest.approx(4e12)],
        "plan": ["tp 2"],
        "batch": [64.0],
    }
    made = space.configuration(23)
    platform = dgz.load_platform("h100_sxm", 2)
    platform = platform.replace(accelerator=platform.accelerator.replace(memory_bandwidth=4e12))
    chat = dgz.Workload(64, 512, 64)
    by_hand = dgz.Scenario(llama_8b, platform, chat, dgz.Parallelism(2))
    expected = float(dgz.estimate(by_hand).tpot)
    assert float(dgz.estimate(made).tpot) == pytest.approx(expected, rel=1e-6)


def test_reading_changes_nothing_in_the_process(load):
    before = jax.config.values.copy()
    load()
    assert jax.config.values == before


AXES = {
    "linear": ("launch_latency = { linear = ['1 us', '3 us'], count = 3 }", [1e-6, 2e-6, 3e-6]),
    "geometric": (
        "memory_capacity = { geometric = ['50 GB', '200 GB'], count = 3 }",
        [50e9, 100e9, 200e9],
    ),
    "integers": ("input_tokens = { integers = [128, 512], step = 128 }", [128, 256, 384, 512]),
    "numbers in SI": ("'peak_flops[bf16]' = { values = [1e15] }", [1e15]),
    "a number that is not set": ("prefix_hit = { values = [0.25, 0.5] }", [0.25, 0.5]),
    "a price": ("price = { values = ['3.6 USD/h'] }", [1e-3]),
    "systems": ("chip = { systems = ['h100_sxm', 'h200_sxm'] }", ["h100_sxm", "h200_sxm"]),
    "other structure": ("chip = { systems = ['h100_sxm', 'mi300x'] }", ["h100_sxm", "mi300x"]),
    "models": (
        "model = { models = ['Qwen/Qwen3-8B', 'Qwen/Qwen3-32B'] }",
        ["Qwen/Qwen3-8B", "Qwen/Qwen3-32B"],
    ),
    "plans": (
        "plan = { plans = [{ tp = 2 }, { dp = 2 }, {}, { tp = 2, sp = true }] }",
        ["tp 2", "dp 2", "tp 1", "tp 2, sp 1"],
    ),
    "formats": (
        "formats = { formats = [{}, { weights = 'fp8', kv-cache = 'fp8' }] }",
        ["bf16", "weights fp8, kv_cache fp8"],
    ),
    "options": (
        "hbm = { options = { a = { memory_bandwidth = '1 TB/s', memory_capacity = '40 GB' } } }",
        ["a"],
    ),
    "sampled": ("batch = { values = [1, 2], sampled = true }", [1, 2]),
}


@pytest.mark.parametrize("kind", AXES)
def test_axes(kind, load):
    line, levels = AXES[kind]
    samples = "samples = 4\n" if "sampled" in line else ""
    before = TINY[: TINY.index("memory_bandwidth")]
    space, _ = load(f'{samples}{before}{line}\n[keep.t]\nkind = "top"\nminimize = "tpot"')
    found = space.level_values(next(iter(space.axes)))
    assert found == levels if isinstance(levels[0], str) else found == pytest.approx(levels)


AXIS = "values = [1, 8, 64]"
WITHOUT_AXES = TINY[TINY.index("memory_b") : TINY.index("[keep.front]")]
WRONG = {
    "misspelt leaf": (
        "memory_bandwidth =",
        "memory_bandwith =",
        r"axes\.memory_bandwith: leaf: 'memory_bandwith' .*did you mean .*memory_bandwidth",
    ),
    "misspelt key": (
        "osl = 64",
        "olt = 64",
        "tiny.toml: scenario: key: 'olt' is not known; did you mean osl",
    ),
    "misspelt kind": (
        "{ plans = ",
        "{ plan = ",
        "axes.plan: key: 'plan' is not known; did you mean plans",
    ),
    "misspelt top": (
        "constraints =",
        "constraint =",
        "key: 'constraint' is not known; did you mean constraints",
    ),
    "misspelt word of a plan": (
        'plans = "all"',
        "plans = [{ isl = 8 }]",
        r"axes.plan: plans\[0\]: key: 'isl' is not known",
    ),
    "a flag's word": ("batch = {", "isl = {", "axes.isl: .*write input_tokens"),
    "a flag's word with a dash": ("batch = {", "prefix-hit = {", "write prefix_hit"),
    "unit of another kind": (
        '"2 TB/s"',
        '"2 TB"',
        r"axes.memory_bandwidth: values\[0\]: '2 TB' has the unit 'TB'",
    ),
    "unit of what has none": (AXIS, "values = ['8 GB']", r"axes.batch: values\[0\]: '8 GB' has"),
    "bounds the wrong way round": (
        AXIS,
        "linear = [8, 1], count = 3",
        "axes.batch: axis: the lower bound 8 exceeds the upper bound 1",
    ),
    "one bound": (AXIS, "log_uniform = [8]", r"axes.batch: log_uniform = \[8\] has 1 bounds"),
    "no count": (AXIS, "linear = [1, 8]", "axes.batch: count is missing"),
    "two kinds": (
        AXIS,
        "values = [1], uniform = [1, 2]",
        "axes.batch: has values and uniform; an axis has one",
    ),
    "no kind": (f"{{ {AXIS} }}", "{ sampled = true }", "axes.batch: does not say what the axis"),
    "not a table": (f"{{ {AXIS} }}", "8", "axes.batch: 8 is not a table"),
    "empty axis": (AXIS, "values = []", "axes.batch: axis: it has no values"),
    "value refused": (
        AXIS,
        "values = [0.5]",
        "tiny.toml: axis batch: batch: 0.5 is not allowed",
    ),
    "sampling without samples": (
        AXIS,
        "uniform = [1, 8]",
        "tiny.toml: samples: needed, since batch is sampled",
    ),
    "list where one value goes": (
        "isl = 512",
        "isl = [512, 1024]",
        r"scenario.isl: \[512, 1024\] is not one value; what varies is an axis",
    ),
    "text where a number goes": (
        "isl = 512",
        "isl = 'long'",
        "tiny.toml: scenario: argument --isl: invalid int value: 'long'",
    ),
    "ranks that do not divide": (
        "gpus = 2",
        "gpus = 2\ndp = 3",
        "tiny.toml: scenario: --gpus: 2 accelerators do not divide over the 3",
    ),
    "sharpness": (
        "isl = 512",
        "sharpness = 3",
        "tiny.toml: scenario: --sharpness: '3' is not available",
    ),
    "no model": (
        f'model = "{LLAMA}"',
        "",
        "scenario.model: is missing; see `diffgenz list models`",
    ),
    "no axes": (WITHOUT_AXES, "", "axes: is missing or empty"),
    "unknown reduction": (
        'kind = "best"',
        'kind = "bests"',
        "keep.map.kind: 'bests' is not one of pareto, top, best",
    ),
    "reduction's field": (
        'maximize = ["throughput"]',
        'maximise = ["throughput"]',
        "keep.front: key: 'maximise' is not known; did you mean maximize",
    ),
    "reduction's missing field": (
        "low = 1e-4",
        "",
        "keep.slow.low: is missing; a histogram needs it",
    ),
    "reduction's kind of value": (
        "bins = 4",
        "bins = 'many'",
        "keep.slow.bins: 'many' is not a whole number",
    ),
    "not TOML": ("[axes]", "[axes", "tiny.toml: not valid TOML"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_mistake_is_named_with_its_remedy(what, load):
    old, new, message = WRONG[what]
    assert old in TINY
    with pytest.raises(dgz.InputError, match=message) as error:
        load(TINY.replace(old, new, 1))
    assert "\n" not in str(error.value)


def test_n_is_what_sampling_makes_of_it(load):
    larger = r"n: 25 is larger than the space, which has 24 configurations; leave n out, or sample"
    for n, message in ((25, larger), (5, "n: 5 is not all"), (1.5, r"n: 1.5 is not allowed")):
        with pytest.raises(dgz.InputError, match=message):
            load(n=n)
    assert load(n=24).space.size == 24
    sampled = TINY.replace(AXIS, f"{AXIS}, sampled = true")
    assert load(sampled, n=1e6 + 1).space.size == 1_000_008  # 125,001 samples of 8 combinations


MIX = TINY.replace(f'model = "{LLAMA}"\n', "").replace(
    "[axes]",
    f"""[[scenario.mix]]
model = "Qwen/Qwen3-8B"
share = 3
[[scenario.mix]]
model = "{LLAMA}"
isl = 99
[axes]""",
)


def test_a_mix_shares_what_stands_above_it(load):
    space, _ = load(MIX)
    mix = space.scenario
    assert [float(share) for share in mix.shares] == [3, 1]
    assert [float(part.workload.input_tokens) for part in mix.scenarios] == [512, 99]
    assert len(find(mix, "memory_bandwidth", alike="scenarios")) == 2
    made = space.configuration(space.size - 1)
    for part in made.scenarios:
        assert float(part.platform.accelerator.memory_bandwidth) == pytest.approx(4e12)
    message = r"scenario.mix\[0\].gpus: all models of a mix run on the same accelerators"
    with pytest.raises(dgz.InputError, match=message):
        load(MIX.replace("share = 3", "gpus = 3"))
    with pytest.raises(dgz.InputError, match=r"scenario.mix\[1\]: .*chunk: 0 is not allowed"):
        load(MIX.replace("isl = 99", "chunk = 0"))


def test_systems_and_plans_of_a_mix(load):
    chips = "chip = { systems = ['h100_sxm', 'h200_sxm'] }"
    space, _ = load(MIX.replace(f"batch = {{ {AXIS} }}", chips))
    chosen = space.configuration(space.size - 1)
    assert {float(p.platform.accelerator.memory_capacity) for p in chosen.scenarios} == {
        float(dgz.load_platform("h200_sxm").accelerator.memory_capacity)
    }
    one = MIX.replace('plan = { plans = "all" }', '"scenarios[1].plan" = { plans = "all" }')
    space, _ = load(one)
    first, last = (space.configuration(index) for index in (0, space.size - 1))
    plans = [[float(part.plan.tensor) for part in case.scenarios] for case in (first, last)]
    assert [plan[0] for plan in plans] == [2, 2]
    assert plans[0][1] != plans[1][1]
    wrong = one.replace("scenarios[1]", "scenarios[2]")
    with pytest.raises(dgz.InputError, match=r"axis: 'scenarios\[2\].plan' is not known"):
        load(wrong)


@pytest.mark.parametrize(("fit", "measured"), [("", True), ('fit = "none"\n', False)])
def test_systems_are_timed_as_estimate_times_them(fit, measured, load):
    """A base without kernels of its own decides nothing about the others of an axis."""
    base = TINY.replace("osl = 64", f"osl = 64\n{fit}").replace("h100_sxm", "tpu_v6e")
    chips = "chip = { systems = ['tpu_v6e', 'h100_sxm'] }"
    space, _ = load(base.replace(f"batch = {{ {AXIS} }}", chips))
    found = [space.configuration(index) for index in range(space.size)]
    timed = [case for case in found if "H100" in case.platform.accelerator.name]
    assert len(timed) == space.size // 2
    assert {case.platform.accelerator.kernels is not None for case in timed} == {measured}
    case = timed[-1]
    own = dgz.load_platform("h100_sxm", 2, **({} if measured else {"fit": "none"}))
    chip = own.accelerator.replace(memory_bandwidth=case.platform.accelerator.memory_bandwidth)
    alone = case.replace(platform=own.replace(accelerator=chip))
    assert float(dgz.estimate(case).ttft) == pytest.approx(float(dgz.estimate(alone).ttft))


def test_what_is_written_with_a_dash_or_an_underscore(load):
    text = TINY.replace("isl = 512", 'kv_cache = "fp8"\nattention-dp = 1\nsharpness = "hard"')
    case = load(text).space.scenario
    assert case.precision.kv_cache == "fp8"
    assert case.sharpness == HARD


def test_files_beside_the_space_file_are_found(load, tmp_path):
    (tmp_path / "mine.toml").write_text((specs_folder() / "h100_sxm.toml").read_text())
    text = TINY.replace('"h100_sxm"', '"mine.toml"\nfit = "none"')
    space, _ = load(text)
    path = find(space.scenario, "memory_capacity")[0]
    expected = dgz.load_platform("h100_sxm").accelerator.memory_capacity
    assert float(leaf_at(space.scenario, path)) == float(expected)


def test_quantities_of_a_file():
    assert quantity("x", "60 W", "W") == pytest.approx(60.0)
    assert quantity("x", "132", None) == 132
    with pytest.raises(dgz.InputError, match="x: True is not a quantity"):
        quantity("x", True, "B")


@pytest.mark.parametrize(
    ("plan", "label"),
    [
        ({"tensor": 8.0, "pipeline": 2.0, "data": 1.0, "overlap": 0.5}, "tp 8, pp 2"),
        ({"tensor": 1.0, "attention_data": 4.0, "expert": 4.0}, "attention-dp 4, ep 4"),
        ({"tensor": 2.0, "context": 2.0, "sequence": 1.0}, "tp 2, cp 2, sp 1"),
        ({"tensor": 1.0, "sequence": 0.0}, "tp 1"),
    ],
)
def test_plans_in_words(plan, label):
    assert plan_label(plan) == label


SIZES = {"accelerators": 1_000_000, "best_plan_map": 2_032_128, "prefill_or_decode": 61 * 256}
FITTED = {"attention_map": 22 * 17 * 2 * 4 * 65}
"""Those whose kernels are bounds, and the others."""


def test_every_example_is_read():
    """Those with axes are spaces, those with numbers to optimize over are studies."""
    texts = {path: path.read_text() for path in EXAMPLES.glob("*.toml")}
    spaces = {path.stem for path, text in texts.items() if "[axes]" in text}
    assert spaces == {*SIZES, *FITTED, "under_load"}
    studies = [path for path, text in texts.items() if "[over]" in text]
    assert studies
    assert all(load_study(path).over for path in studies)


@pytest.mark.parametrize("name", SIZES | FITTED)
def test_spaces_among_the_examples(name):
    space, reductions = dgz.load_space(EXAMPLES / f"{name}.toml")
    assert space.size == (SIZES | FITTED)[name]
    assert reductions
    for part in parts_of(space.configuration(0)):
        assert (part.platform.accelerator.kernels is None) == (name in SIZES)


def test_a_file_of_ones_own_is_the_same_model_wherever_it_is_read_from(monkeypatch):
    """A sweep that was given a relative path is found again by the copy that its folder keeps."""
    monkeypatch.chdir(EXAMPLES)
    near, _ = dgz.load_space("genz/link_latency.toml")
    far, _ = dgz.load_space(EXAMPLES / "genz/link_latency.toml")
    here, there = (parts_of(space.configuration(0))[0] for space in (near, far))
    assert here.model == there.model
