"""Prefill and decode attention: forms worked by hand, their limits and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffgenz.kernels.forms.attention_decode import Decode
from diffgenz.kernels.forms.attention_prefill import Prefill, mean_keys
from diffgenz.kernels.hardware import Chip
from diffgenz.kernels.shapes import DecodeShape, PrefillShape

CHIP = Chip(flops=1e15, bandwidth=4e12, launch=2e-6, units=100.0)

PROMPT = PrefillShape(2.0, 256.0, 0.0, 8.0, 2.0, 128.0, np.inf, 2.0)

STEP = DecodeShape(4.0, 1.0, 1024.0, 8.0, 2.0, 128.0, np.inf, 2.0)

FORMS = [(Prefill, PROMPT), (Decode, STEP)]


def optional(form):
    return [name for name, prior in form.priors().items() if prior.neutral is not None]


def seconds(form, shape):
    return float(form.seconds(shape, CHIP))


@pytest.mark.parametrize(
    ("q", "c", "w"),
    [
        (1, 0, 1),
        (5, 0, 5),
        (5, 0, 2),
        (5, 0, 1),
        (4, 7, 11),
        (4, 7, 9),
        (4, 7, 3),
        (1, 9, 10),
        (4, 7, 99),
        (4, 7, np.inf),
    ],
)
def test_mean_keys_counts_pairs(q: int, c: int, w: float) -> None:
    assert float(mean_keys(q, c, w)) * q == pytest.approx(
        sum(min(w, c + i) for i in range(1, q + 1))
    )


# ---- by hand

LEAN_PREFILL = dict(
    compute=0.5, memory=0.5, launch=2.0, softmax=0.5, margin=0.5, pad=0.5, longest=1.0, latency=1.0
)


def test_the_leanest_prefill_by_hand() -> None:
    form = Prefill.without(*optional(Prefill))(**LEAN_PREFILL)
    block = 4 * 128**3 * 100 / (1e15 * 0.5) + 1e-6
    x = 2 * 8 * 2 / 100  # two full blocks of queries for each of 16 heads: no padding
    longest = block * 2.5 + 2e-6
    moved = 2 * 2 * 128 * (2 * 256 * 8 + 2 * 2 * (256 + 256))
    by_hand = np.hypot(block * (128.5 / 128 + 0.5) * x, longest) + moved / 2e12 + 4e-6
    assert seconds(form, PROMPT) == pytest.approx(by_hand, rel=1e-5)


def test_prefill_by_hand() -> None:
    """A chunk of 160 queries with a window, over a narrow cache, of a head that is `other`."""
    form = Prefill(
        **LEAN_PREFILL,
        narrow_launch=1.5,
        narrow=2.0,
        narrow_softmax=3.0,
        other=1.25,
        prologue=0.5,
        window=0.25,
        blind=0.5,
        unpacked=0.5,
        packed=0.8,
        packed_window=0.5,
        split=0.5,
        merge=0.1,
        append=0.2,
        depth=0.5,
        saturation=0.25,
        narrow_append=2.0,
        passes=0.5,
        fills=2.0,
    )
    shape = PrefillShape(1.0, 160.0, 96.0, 8.0, 2.0, 64.0, 64.0, 1.0)
    block = (64 * 4 * 128**2 * 100 / 0.5e15 * 2 + 0.5 * 2e-6 * 3) * 1.25
    margin = 0.75
    mean = 64 + 0.5 * (96 + 80.5 - 64)  # of 96 + i keys each query sees 64, and half of the rest
    most = 64 + 0.5 * (256 - 64)
    heads = 2 + 6 * 0.5 * (1 - 0.4 / 160)
    x = (8 * 1.25 + 0.5 * heads * 0.75) / 100
    idle = 1 / (1 + x**8)
    a = block * (mean / 128 + margin) + 0.5 * 2e-6 * 1.25
    longest = block * (most / 128 * (1 - 0.5 * idle) + margin) + 2e-6
    moved = 2 * 64 * (0.5 * 2 * 160 * 8 + 2 * (64 + 160 - 1 + 2 * 160))
    token = 0.2 * 2 * 2 * (0.5 + 0.5) / (1 + 0.25 * 2) + 0.1 * 8 * idle
    by_hand = np.hypot(a * x, longest) + moved / 2e12 + 2e-6 * 2 * 1.5 + 160 * 2e-6 / 100 * token
    assert seconds(form, shape) == pytest.approx(by_hand, rel=1e-5)


LEAN_DECODE = dict(memory=0.5, compute=0.5, launch=2.0, stream=0.1, depth=1.0, fixed=0.5, slots=2.0)


def test_the_leanest_decode_by_hand() -> None:
    form = Decode.without(*optional(Decode))(**LEAN_DECODE)
    tile = 0.1 * 2e-6 * 2 + 512 * 200 * 4 * 128 / (1e15 * 0.5)
    x, a = 8 / 200, 8 * tile + 1e-6
    moved = 2 * 4 * 128 * (2 * 1024 * 2 + 2 * 8)
    by_hand = np.sqrt((a * x) ** 2 + tile**2 + (moved / 2e12) ** 2) + 4e-6
    assert seconds(form, STEP) == pytest.approx(by_hand, rel=1e-5)


SOME = dict(
    solo_launch=1.5,
    solo_depth=3.0,
    solo=2.0,
    solo_fixed=4.0,
    lonely=0.5,
    merge=0.5,
    join=0.5,
    alone=0.25,
    window=0.5,
    wasted=2.0,
)


def by_hand_decode(rows: float, solo: float, apart: float, cut: float = 0.0) -> float:
    """`STEP` with 8 query heads on 2 KV heads, of whose rows the share `solo` is of one head."""
    x = 4 * rows / 200
    x *= 1 + 0.5 * solo / (1 + x)
    steps = (1 + 1) + (2 * (3 + 1) - (1 + 1)) * solo
    tile = 0.1 * 2e-6 * steps + 512 * 200 * (8 / rows) * 128 / 0.5e15
    a, m = 8 * tile + 1e-6 * (1 + 3 * solo), 1e-6
    moved = 2 * 4 * 128 * (2 * 1024 * 2 + 2 * 8)
    alone = 0.25 * solo
    return (
        np.sqrt(a * a * (x * x + alone**2 + m / (a + m)) + tile**2 + (moved / 2e12) ** 2)
        + 4e-6 * (1 + 0.5 * solo)
        + 1e-6 * 7 / (8 * (1 + x))
        + cut * 2e-6
    )


@pytest.mark.parametrize(
    ("share", "shape", "rows", "solo"),
    [
        ({}, STEP, 2, 0.0),
        # any window, whether or not it reaches, or too few pairs: r = 100 / 4 / (8 * 7)
        ({"window_apart": 0.5}, STEP, 2, 0.0),
        ({"window_apart": 0.5}, STEP._replace(window=4096.0), 5, 0.5),
        ({"few": 0.5}, STEP, 2 + 6 * 0.5 * (25 / 56) ** 8 / (1 + (25 / 56) ** 8), None),
        ({"pair": 0.5}, STEP, 2, 0.0),  # groups of 4 are none
        ({"wide_apart": 0.5}, STEP, 2, 0.0),
    ],
)
def test_decode_by_hand(share, shape, rows, solo) -> None:
    absent = {"window_apart", "wide_apart", "pair", "few"} - set(share)
    form = Decode.without("narrow", *absent)(**LEAN_DECODE, **SOME, **share)
    apart = (rows - 2) / 6
    expected = by_hand_decode(rows, apart if solo is None else solo, apart)
    assert seconds(form, shape) == pytest.approx(expected, rel=1e-5)


def test_a_window_that_cuts_is_paid_for() -> None:
    form = Decode.without("window_apart", "pair", "few")(**LEAN_DECODE, **SOME)
    cut = STEP._replace(length=65536.0, window=1024.0)
    crowd = (8 / 550) ** 4
    cost = 0.5 + 2 * (8 * 65536) / ((8 * 65536 + 51200) * (1 + crowd))
    assert seconds(form, cut) == pytest.approx(by_hand_decode(2, 0, 0, cost), rel=1e-5)
    narrow = seconds(form, cut._replace(cache_size=1.0))
    whole = seconds(form, cut._replace(cache_size=1.0, length=1024.0))
    assert narrow - whole == pytest.approx(0.5 * 2e-6, rel=1e-3)  # nothing is wasted


def test_narrow_caches_by_hand() -> None:
    lean = Decode.without(*(name for name in optional(Decode) if "arrow" not in name))
    form = lean(**LEAN_DECODE, narrow_launch=1.5, narrow=2.0, narrow_fixed=3.0, narrow_alone=0.5)
    tile = 0.1 * 2e-6 * 2 * 2 + 512 * 200 * 4 * 128 / 0.5e15
    x, a = 8 / 200, 8 * tile + 3e-6
    moved = 2 * 4 * 128 * (2 * 1024 + 2 * 8)
    by_hand = np.sqrt(a * a * (x * x + 0.25) + tile**2 + (moved / 2e12) ** 2) + 6e-6
    assert seconds(form, STEP._replace(cache_size=1.0)) == pytest.approx(by_hand, rel=1e-5)


# ---- limits


def test_a_huge_prompt_tends_to_its_compute_efficiency() -> None:
    form = Prefill().replace(compute=0.5, softmax=1e-6)
    shape = PrefillShape(64.0, 131072.0, 0.0, 64.0, 8.0, 128.0, np.inf, 2.0)
    assert float(form.seconds(shape, CHIP)) == pytest.approx(
        float(Prefill.work(shape).flops) / 0.5e15, rel=0.02
    )


def test_a_huge_cache_tends_to_its_memory_efficiency() -> None:
    form = Decode().replace(memory=0.5, stream=1e-6, compute=1.0, launch=1.0)
    shape = DecodeShape(64.0, 1.0, 131072.0, 8.0, 8.0, 128.0, np.inf, 2.0)
    assert float(form.seconds(shape, CHIP)) == pytest.approx(
        float(Decode.work(shape).moved) / 2e12, rel=0.05
    )


@pytest.mark.parametrize(("form", "shape"), FORMS)
def test_more_work_takes_longer_and_never_less_than_the_roofline(form, shape) -> None:
    def time(shape):
        return form().seconds(shape, CHIP)

    base = float(time(shape))
    assert base >= float(form.work(shape).bound(CHIP))
    for name in ("sequences", "queries", "heads", "head_dim"):
        more = shape._replace(**{name: 2 * getattr(shape, name)})
        assert float(time(more)) > base, name


@pytest.mark.parametrize(("form", "shape"), FORMS)
def test_a_window_that_does_not_reach_is_none_but_for_the_kernel_that_it_runs(form, shape) -> None:
    wide = shape._replace(window=1e6)
    whole = form(window=0.5) if form is Prefill else form(window_apart=0.5)
    indifferent = form.without("packed_window", "window_apart")
    assert form.work(wide) == form.work(shape)
    assert seconds(indifferent(), wide) == seconds(indifferent(), shape)
    one = shape._replace(queries=1.0)
    assert seconds(whole, wide._replace(queries=1.0)) != seconds(whole, one)


def test_one_head_per_kv_head_is_solo_wherever_heads_are_read_apart() -> None:
    alone = STEP._replace(kv_heads=8.0)
    shares = ("window_apart", "wide_apart", "pair", "few")
    none = seconds(Decode.without(*shares)(), alone)
    assert seconds(Decode(**dict.fromkeys(shares, 0.9)), alone) == pytest.approx(none, rel=1e-6)


@pytest.mark.parametrize(("form", "shape"), FORMS)
def test_absent_terms_are_those_at_their_neutral_values(form, shape) -> None:
    shapes = [
        shape,
        shape._replace(cache_size=1.0, head_dim=64.0),
        shape._replace(window=300.0, kv_heads=shape.heads),
    ]
    for name in optional(form):
        neutral, most = form.priors()[name].neutral, form.priors()[name].maximum
        close = neutral * (1 - 1e-7) if neutral == most else neutral + 1e-7 * (not neutral)
        for each in shapes:
            lean, whole = form.without(name)(), form(**{name: close})
            assert seconds(lean, each) == pytest.approx(seconds(whole, each), rel=1e-5), name


def test_prefix_window_and_drafts_have_their_limits() -> None:
    def prefill(shape):
        return Prefill.without("blind")().seconds(shape, CHIP)

    def decode(shape):
        return Decode().seconds(shape, CHIP)

    chunk = PROMPT._replace(context=4096.0)
    assert float(prefill(chunk)) > float(prefill(PROMPT))
    windowed = chunk._replace(window=256.0)
    assert float(prefill(PROMPT)) < float(prefill(windowed)) < float(prefill(chunk))
    assert float(prefill(windowed)) == pytest.approx(
        float(prefill(windowed._replace(context=65536.0))), rel=1e-5
    )
    assert float(decode(STEP)) < float(decode(STEP._replace(queries=4.0))) < 4 * float(decode(STEP))
    assert float(decode(STEP._replace(length=8192.0, window=128.0))) < float(
        decode(STEP._replace(length=8192.0))
    )


# ---- gradients

ROWS = {
    Decode: [
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0],
        [1.0, 1.0, 1.0, 96.0, 1.0, 256.0, np.inf, 0.5],
        [2048.0, 8.0, 131072.0, 128.0, 1.0, 512.0, np.inf, 1.0],
        [1.0, 8.0, 131072.0, 64.0, 64.0, 64.0, 1.0, 1.0],
        [4.0, 1.0, 1000.0, 8.0, 2.0, 128.0, 300.0, 2.0],
        [4.0, 2.0, 1000.0, 24.0, 8.0, 96.0, 3000.0, 2.0],
    ],
    Prefill: [
        [1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 2.0],
        [1.0, 1.0, 0.0, 96.0, 1.0, 256.0, np.inf, 0.5],
        [2048.0, 131072.0, 8.0, 128.0, 1.0, 512.0, np.inf, 1.0],
        [1.0, 8.0, 131072.0, 64.0, 64.0, 64.0, 1.0, 1.0],
        [4.0, 200.0, 1000.0, 8.0, 2.0, 128.0, 300.0, 2.0],
        [1.0, 300.0, 90.0, 24.0, 8.0, 96.0, 3000.0, 1.0],
    ],
}
"""Degenerate, huge and ordinary shapes."""


@pytest.mark.parametrize("form", [Prefill, Decode])
def test_gradients_are_those_of_float64_differences(form) -> None:
    """Jitted and batched, in float32, along every parameter and number of hardware."""
    rows = np.array(ROWS[form])
    shape = form.Shape(*jnp.asarray(rows, jnp.float32).T)

    def time(form, shape, chip):
        return form.seconds(shape, chip)

    chip = Chip(*(jnp.float32(x) for x in CHIP))
    slopes = jax.value_and_grad(time, argnums=(0, 1, 2))
    # apart from where shares of heads are equal, and the larger one counts
    values = {name: prior.median for name, prior in form.priors().items()}
    values |= {"pair": 0.2, "wide_apart": 0.3, "few": 0.4} if form is Decode else {}
    batched = jax.jit(jax.vmap(slopes, in_axes=(None, 0, None)))
    times, gradients = batched(form(**values), shape, chip)
    assert bool((times > 0).all())
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves((times, gradients)))

    columns = form.Shape(*rows.T)
    exact = {name: np.float64(value) for name, value in values.items()}
    numbers, step, scale = Chip(*map(np.float64, CHIP)), 1e-5, np.asarray(times, np.float64)

    def slope(varied):
        high, low = (_of(form, *varied(by), columns) for by in (1 + step, 1 - step))
        return (high - low) / (2 * step * scale)

    for name, value in exact.items():
        found = np.asarray(getattr(gradients[0], name)) * value / scale
        right = slope(lambda by, at=name: (exact | {at: exact[at] * by}, numbers))
        np.testing.assert_allclose(found, right, rtol=2e-3, atol=2e-5, err_msg=name)
    for name, value in numbers._asdict().items():
        found = np.asarray(getattr(gradients[2], name)) * value / scale
        right = slope(
            lambda by, at=name: (exact, numbers._replace(**{at: by * getattr(numbers, at)}))
        )
        np.testing.assert_allclose(found, right, rtol=2e-3, atol=2e-5, err_msg=name)


def _of(form, values, chip, shape):
    """Seconds in float64, without the records' conversion to the default float."""

    class Doubles(form):
        def __init__(self):
            for name, value in values.items():
                object.__setattr__(self, name, value)

    with jax.enable_x64(True):
        return np.asarray(Doubles().seconds(shape, chip), np.float64)
