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

PROMPT = PrefillShape(2.0, 256.0, 0.0, 8.0, 2.0, 128.0, 256.0, 2.0)

STEP = DecodeShape(4.0, 1.0, 1024.0, 8.0, 2.0, 128.0, 1024.0, 2.0)

FORMS = [(Prefill, PROMPT), (Decode, STEP)]


@pytest.mark.parametrize(
    ("q", "c", "w"),
    [(1, 0, 1), (5, 0, 5), (5, 0, 2), (5, 0, 1), (4, 7, 11), (4, 7, 9), (4, 7, 3), (1, 9, 10)],
)
def test_mean_keys_counts_pairs(q: int, c: int, w: int) -> None:
    assert float(mean_keys(q, c, w)) * q == pytest.approx(
        sum(min(w, c + i) for i in range(1, q + 1))
    )


def test_prefill_by_hand() -> None:
    form = Prefill().replace(
        compute=0.5,
        memory=0.5,
        launch=2.0,
        softmax=0.5,
        prologue=0.5,
        edge=0.5,
        longest=1.0,
        latency=1.0,
        append=0.1,
        depth=1.0,
        saturation=0.5,
    )
    block = 4 * 128**3 * 100 / (1e15 * 0.5) + 1e-6
    x = 2 * 8 * 2 / 100  # two full blocks of queries for each of 16 heads: no padding
    a = block * (128.5 / 128 + 0.5) + 1e-6
    longest = block * 2.5 + 2e-6
    moved = 2 * 128 * 2 * (2 * 256 * 8 + 2 * 256 * 2)
    append = 0.1 * 2e-6 / 100 * 2 * 256 * 2 * 2 / 2
    by_hand = np.hypot(a * x, longest) + moved / (4e12 * 0.5) + append + 4e-6
    assert float(form.seconds(PROMPT, CHIP)) == pytest.approx(by_hand, rel=1e-5)


def test_decode_by_hand() -> None:
    form = Decode().replace(
        memory=0.5,
        compute=0.5,
        launch=2.0,
        stream=0.1,
        depth=1.0,
        fixed=0.5,
        slots=2.0,
        merge=1.0,
        crowd=1.0,
        row=0.01,
    )
    tile = 0.1 * 2e-6 * 2 + 512 * 4 * 128 * 200 / (1e15 * 0.5)
    x = 8 / 200
    a, b = 8 * tile + 1e-6, 2e-6 + 2e-6 * x
    moved = 2 * 4 * 128 * (2 * 1024 * 2 + 2 * 8)
    by_hand = (
        np.sqrt(a * a * (x * x + b / (a + b)) + tile**2 + (moved / 2e12) ** 2)
        + 4e-6
        + 0.01 * 4 * 2e-6
    )
    assert float(form.seconds(STEP, CHIP)) == pytest.approx(by_hand, rel=1e-5)


def test_a_huge_prompt_tends_to_its_compute_efficiency() -> None:
    form = Prefill().replace(compute=0.5, softmax=1e-6)
    shape = PrefillShape(64.0, 131072.0, 0.0, 64.0, 8.0, 128.0, 131072.0, 2.0)
    assert float(form.seconds(shape, CHIP)) == pytest.approx(
        float(Prefill.work(shape).flops) / 0.5e15, rel=0.02
    )


def test_a_huge_cache_tends_to_its_memory_efficiency() -> None:
    form = Decode().replace(memory=0.5, stream=1e-6, compute=1.0, launch=1.0)
    shape = DecodeShape(64.0, 1.0, 131072.0, 8.0, 8.0, 128.0, 131072.0, 2.0)
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
        if form is Prefill:
            more = more._replace(window=more.context + more.queries)
        assert float(time(more)) > base, name


def test_prefix_window_and_drafts_have_their_limits() -> None:
    def prefill(shape):
        return Prefill().seconds(shape, CHIP)

    def decode(shape):
        return Decode().seconds(shape, CHIP)

    chunk = PROMPT._replace(context=4096.0, window=4352.0)
    assert float(prefill(chunk)) > float(prefill(PROMPT))
    windowed = chunk._replace(window=256.0)
    assert float(prefill(PROMPT)) < float(prefill(windowed)) < float(prefill(chunk))
    assert float(prefill(windowed)) == pytest.approx(
        float(prefill(windowed._replace(context=65536.0))), rel=1e-5
    )
    assert float(decode(STEP)) < float(decode(STEP._replace(queries=4.0))) < 4 * float(decode(STEP))
    assert float(decode(STEP._replace(length=8192.0, window=128.0))) < float(
        decode(STEP._replace(length=8192.0, window=8192.0))
    )


@pytest.mark.parametrize("form", [Prefill, Decode])
def test_gradients_are_finite_in_float32_at_degenerate_shapes(form) -> None:
    one = [1.0] * 3 if form is Decode else [1.0, 1.0, 0.0]
    rows = [
        [*one, 1.0, 1.0, 1.0, 1.0, 2.0],
        [*one, 96.0, 1.0, 256.0, 1.0, 0.5],
        [2048.0, 8.0, 131072.0, 128.0, 1.0, 512.0, 131072.0 if form is Decode else 131080.0, 1.0],
        [1.0, 8.0, 131072.0, 64.0, 64.0, 64.0, 1.0, 1.0],
    ]
    shape = form.Shape(*jnp.asarray(rows, jnp.float32).T)

    def seconds(form, shape, chip):
        return form.seconds(shape, chip)

    chip = Chip(*(jnp.float32(x) for x in CHIP))
    gradient = jax.jit(
        jax.vmap(jax.value_and_grad(seconds, argnums=(0, 1, 2)), in_axes=(None, 0, None))
    )
    times, gradients = gradient(form(), shape, chip)
    assert bool((times > 0).all())
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves((times, gradients)))
