"""Serving options as records: what they refuse, and the tokens of a verification."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_close, assert_finite

from diffgenz import (
    Draft,
    InputError,
    Serving,
    Speculation,
    load_model,
)


@pytest.mark.parametrize("drafts", [1.0, 2.0, 4.0, 7.0, 16.0])
def test_tokens_of_a_verification(drafts, double):
    """A polynomial of the acceptance, and so are its derivatives.

    On both sides of the point from which it is computed as a series, and at both ends.
    """
    powers = np.arange(drafts + 1)
    a = np.array([0.0, 1e-6, 0.3, 0.5, 0.8, 0.9, 0.95, 0.97, 0.99, 1 - 1e-9, 1.0])

    def tokens(acceptance):
        return Speculation(jnp.asarray(drafts, float), acceptance).tokens

    slopes = jax.vmap(jax.grad(tokens))(jnp.asarray(a))
    curvatures = jax.vmap(jax.grad(jax.grad(tokens)))(jnp.asarray(a))
    assert_close(jax.vmap(tokens)(jnp.asarray(a)), (a[:, None] ** powers).sum(1), rtol=1e-6)
    assert_close(slopes, (powers[1:] * a[:, None] ** (powers[1:] - 1)).sum(1), rtol=1e-5)
    assert_finite(curvatures)
    by_drafts = jax.vmap(jax.grad(lambda m, x: Speculation(m, x).tokens), (None, 0))(
        jnp.asarray(drafts), jnp.asarray(a)
    )
    assert_finite(by_drafts)
    assert (np.asarray(by_drafts) >= 0).all()


BAD = [
    (lambda: Serving(chunk=0), "chunk: 0 is not allowed.*--chunk whole"),
    (lambda: Serving(prefix_hit=1.1), "prefix_hit: 1.1 is not allowed"),
    (lambda: Serving(prefix_hit=-0.1), "prefix_hit: -0.1 is not allowed"),
    (lambda: Serving(memory_utilization=0), "memory_utilization: 0 is not allowed"),
    (lambda: Serving(memory_utilization=1.1), "memory_utilization: 1.1 is not allowed"),
    (lambda: Serving(chunk=None, mixed=True), "mixed: whole prompts are no part of decode"),
    (lambda: Serving(beams=0.5), "beams: 0.5 is not allowed"),
    (lambda: Speculation(0, 0.5), "drafts: 0 is not allowed.*leave speculation out"),
    (lambda: Speculation(3, 1.5), "acceptance: 1.5 is not allowed"),
    (lambda: Speculation(3, float("nan")), "acceptance: nan is not allowed"),
    (
        lambda: Draft(load_model("meta-llama/Llama-3.2-1B"), 64),
        "tensor: 64 exceeds 32, the heads of the draft model",
    ),
    (lambda: Serving().replace(chunks=3), "chunks"),
    (lambda: Serving(offload="weight"), r"offload: 'weight' is not known; did you mean weights\?"),
]


@pytest.mark.parametrize(("build", "message"), BAD, ids=[message for _, message in BAD])
def test_what_cannot_be_is_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()
