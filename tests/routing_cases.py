"""Requests that differ in the experts they use, drawn from a logistic-normal factor model.

Parameters are those fitted to a trace of Llama-4-Maverick: 128 experts, one per token, 24 layers,
requests of three domains.
"""

import numpy as np


def maverick(
    seed: int,
    *,
    requests: int = 387,
    layers: int = 24,
    experts: int = 128,
    factors: int = 8,
    domains: int = 3,
) -> tuple[np.ndarray, np.ndarray]:
    """Choices in prefill and in decode: [requests, layers, experts] each.

    Arguments:
        seed: of the random numbers.
        requests: how many.
        layers: how many.
        experts: how many a layer has.
        factors: of which requests differ.
        domains: from which requests come in turn.
    """
    random = np.random.default_rng(seed)
    popularity = random.normal(size=(layers, experts))
    spread = 1.06 * np.exp(0.25 * random.normal(size=(layers, 1)))
    loading = random.normal(size=(layers, experts, factors)) / np.sqrt(factors)
    of_phase = random.normal(size=(layers, experts))
    of_domain = random.normal(size=(domains, factors))
    domain = np.arange(requests) % domains
    topic = 1.47 * of_domain[domain] + 0.95 * random.normal(size=(requests, factors))
    private = 0.62 * random.normal(size=(requests, layers, experts))
    common = spread * popularity + private
    decode = common + np.einsum("lef,rf->rle", loading, topic)
    shifted = topic + 0.28 * random.normal(size=(requests, factors))
    prefill = common + 0.74 * of_phase + np.einsum("lef,rf->rle", loading, shifted)
    tokens = np.maximum(1, random.geometric(1 / 15, size=requests))
    generated = np.maximum(8, random.normal(126, 40, size=requests)).astype(int)
    return _drawn(random, prefill, tokens), _drawn(random, decode, generated)


def _drawn(random: np.random.Generator, logits: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    chances = np.exp(logits - logits.max(-1, keepdims=True))
    chances /= chances.sum(-1, keepdims=True)
    return random.multinomial(np.repeat(tokens[:, None], logits.shape[1], 1), chances).astype(float)
