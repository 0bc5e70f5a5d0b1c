"""Synthetic traces: a generative model of which experts tokens choose, and traces drawn from it.

A token chooses the k experts with the largest values of

    popularity b_e + A_e . (domain z_domain + request z_request + prefill_request z_prompt)
        + private n_(request, e) + prefill h_e + block_bonus (blocks of e that the token is in)
        + Gumbel noise

b, the rows of A (of variance 1), h and n are standard normal and drawn for each layer; the terms
with h and z_prompt are of prompts only. The factors z are shared by all layers, which is why one
group of requests can suit all layers. Every partition divides the experts of a layer into blocks at
random. A token is in `block_choices` blocks of each partition, the same in all layers, drawn from
its request's own mixture of them, which is Dirichlet: experts of one block are chosen together.
With Gumbel noise the k choices are draws without replacement in proportion to the exponential of
the other terms (`gumbel.py`).
"""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import numpy as np
from scipy.special import gammaincinv

from diffgenz.core.checks import check, check_whole
from diffgenz.core.errors import InputError
from diffgenz.routing.checking import check_layers, positions
from diffgenz.routing.gumbel import gumbel, top, top_of_groups
from diffgenz.routing.trace import DECODE, PREFILL, Trace

PER_LAYER = ("popularity", "domain")
"""Parameters of which each layer may have its own."""
_NOT_NEGATIVE = (
    *PER_LAYER,
    "popularity_spread",
    "request",
    "private",
    "prefill",
    "prefill_request",
    "block_bonus",
)
_VALUES = 2**18
"""Logits that one thread holds at once."""
_REQUESTS = 1024
"""Requests whose popularities one thread holds at once."""


@dataclasses.dataclass(frozen=True)
class Synthetic:
    """The parameters of the generative model of routing.

    Standard deviations are of the logarithm of an expert's weight.

    Arguments:
        experts: routed experts per layer, at least 1.
        k: experts that a token chooses in a layer, from 1 to `experts`.
        layers: the model's indices of its mixture-of-experts layers, ascending.
        domains: the names of domains, at least one.
        popularity: standard deviation over experts of what all tokens share, at least 0; one
            number, or one for each layer.
        popularity_spread: standard deviation over layers of the logarithm of `popularity`, at
            least 0.
        factors: the number of factors of domains and requests, at least 1.
        domain: standard deviation of what the tokens of a domain share, at least 0; one number, or
            one for each layer. Domains are equally far from each other: their factors are
            orthogonal where there are no more domains than factors.
        request: standard deviation of what the tokens of a request share by factors, at least 0.
        private: standard deviation of what the tokens of a request share apart from factors, in
            each layer and expert by itself, at least 0.
        prefill: standard deviation of what all prompt tokens share, at least 0.
        prefill_request: standard deviation of what the prompt tokens of a request share by factors
            beyond what they share with its decode tokens, at least 0.
        partitions: independent partitions of the experts into blocks; 0: no blocks.
        blocks: blocks of a partition, at most `experts`.
        block_choices: blocks of each partition that a token is in, from 1 to `blocks`.
        block_bonus: what an expert's logarithm gains for each partition in which it is in one of
            the token's blocks, at least 0.
        concentration: of the Dirichlet distribution of a request's mixture of blocks, above 0;
            requests differ more the smaller it is.
        groups: groups of neighbouring experts of a group-limited router, which divide `experts`;
            1: not limited.
        used_groups: groups that a token's experts are in, from 1 to `groups`.
        model: the model's name.
        source: where the values come from.
        basis: per parameter, whether it is "fitted", "published" or "assumed".

    Raises:
        InputError: a value that its field does not allow.
    """

    experts: int
    k: int
    layers: tuple[int, ...]
    domains: tuple[str, ...] = ("all",)
    popularity: float | tuple[float, ...] = 1.0
    popularity_spread: float = 0.25
    factors: int = 8
    domain: float | tuple[float, ...] = 0.0
    request: float = 0.0
    private: float = 0.0
    prefill: float = 0.0
    prefill_request: float = 0.0
    partitions: int = 0
    blocks: int = 1
    block_choices: int = 1
    block_bonus: float = 0.0
    concentration: float = 1.0
    groups: int = 1
    used_groups: int = 1
    model: str | None = None
    source: str = ""
    basis: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks the values."""
        for name in (*_NOT_NEGATIVE, "concentration"):
            check(name, getattr(self, name), exclusive=name == "concentration")
        for name, what, least, most in (
            ("experts", "experts", 1, np.inf),
            ("k", "experts", 1, self.experts),
            ("factors", "factors", 1, np.inf),
            ("partitions", "partitions", 0, np.inf),
            ("blocks", "blocks", 1, self.experts),
            ("block_choices", "blocks", 1, self.blocks),
            ("groups", "groups", 1, self.experts),
            ("used_groups", "groups", 1, self.groups),
        ):
            check(name, getattr(self, name), minimum=least, maximum=most)
            check_whole(name, getattr(self, name), what)
        if not self.domains:
            raise InputError('domains: there are none; give one or more, such as ("all",)')
        if self.experts % self.groups:
            raise InputError(
                f"groups: {self.groups} does not divide the {self.experts} experts; choose a "
                "divisor"
            )
        width = self.experts // self.groups
        if self.used_groups < self.groups and (width < 2 or self.used_groups * width < self.k):
            raise InputError(
                f"used_groups: {self.used_groups} groups of {width} experts are too few to choose "
                f"{self.k} from; use more, or larger, groups"
            )
        check_layers(self.layers)
        for name in PER_LAYER:
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != len(self.layers):
                raise InputError(
                    f"{name}: has {len(value)} values for {len(self.layers)} layers; give one "
                    "number, or one for each layer"
                )

    def select(self, layers: Iterable[int]) -> Self:
        """The model of some of its layers.

        Arguments:
            layers: the model's indices of them, ascending.

        Raises:
            InputError: it has no such layer.
        """
        kept = tuple(layers)
        at = positions(kept, self.layers)
        values = {
            name: tuple(each[position] for position in at)
            for name in PER_LAYER
            if isinstance(each := getattr(self, name), tuple)
        }
        return dataclasses.replace(self, layers=kept, **values)


def synthesize(
    synthetic: Synthetic,
    requests: int,
    prefill_tokens: Any,
    decode_tokens: Any,
    *,
    domain: Any = None,
    seed: int = 0,
    progress: Callable[[int], Any] | None = None,
) -> Trace:
    """A trace drawn from the model: request by request, each with its prompt first.

    Beside the trace itself, memory is some MB, a number per factor and request, and two bytes
    per token and block that it is in.

    Arguments:
        synthetic: the model.
        requests: how many requests, at least 1.
        prefill_tokens: prompt tokens, at least 0: of all requests, or [requests].
        decode_tokens: generated tokens, at least 0: of all requests, or [requests].
        domain: [requests]; the domain of each request as an index into the model's domains.
            Default: one after the other in turn.
        seed: of the random numbers, at least 0; the same seed gives the same trace.
        progress: called with the number of the layers that are done, after each.

    Raises:
        InputError: a number of requests or tokens, a domain or a seed that is not allowed.
    """
    check("requests", requests, minimum=1)
    check_whole("requests", requests, "requests")
    check("seed", seed)
    check_whole("seed", seed, "draws")
    lengths = np.stack(
        [
            _per_request("prefill_tokens", prefill_tokens, requests),
            _per_request("decode_tokens", decode_tokens, requests),
        ],
        axis=1,
    )
    if not lengths.sum():
        raise InputError("decode_tokens: there are no tokens at all; give 1 or more to a request")
    if domain is None:
        domain = np.arange(requests) % len(synthetic.domains)
    domain = _per_request("domain", domain, requests)
    check("domain", domain, maximum=len(synthetic.domains) - 1)
    draw = _Draw(synthetic, seed, lengths, domain)
    chosen = np.empty((lengths.sum(), len(synthetic.layers), synthetic.k), np.int16)

    def fill(layer: int) -> None:
        start = 0
        for part in draw.layer(layer):
            chosen[start : start + len(part), layer] = part
            start += len(part)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for done, _ in enumerate(threads.map(fill, range(len(synthetic.layers))), 1):
            if progress is not None:
                progress(done)
    both = lengths.ravel()
    return Trace(
        experts=synthetic.experts,
        layers=synthetic.layers,
        chosen=chosen,
        request=np.repeat(np.repeat(np.arange(requests), 2), both),
        phase=np.repeat(np.tile([PREFILL, DECODE], requests), both),
        domain=np.repeat(np.repeat(domain, 2), both),
        domains=synthetic.domains,
        model=synthetic.model,
    )


def _per_request(name: str, value: Any, requests: int) -> np.ndarray:
    """A whole number for each request."""
    check(name, value)
    check_whole(name, value, "tokens")
    if np.shape(value) not in ((), (requests,)):
        raise InputError(
            f"{name}: has shape {list(np.shape(value))} for {requests} requests; give one number, "
            "or one for each request"
        )
    return np.broadcast_to(np.asarray(value, np.int64), requests)


class _Draw:
    """What a seed gives: factors and blocks of the requests, then the choices of layer by layer.

    Every part has random numbers of its own, which depend on no parameter: traces of neighbouring
    parameters are neighbours, and those of fewer layers are the same in the layers that they have.
    """

    def __init__(self, synthetic: Synthetic, seed: int, lengths: np.ndarray, domain: np.ndarray):
        self.model, self.seed, self.domain = synthetic, seed, domain
        self.lengths = lengths
        factors = synthetic.factors
        self.of_domain = _apart(self.rng(0), len(synthetic.domains), factors)
        self.of_request, self.of_prompt = self.rng(1).standard_normal(
            (2, len(lengths), factors), np.float32
        )
        shape = (synthetic.partitions, len(lengths), synthetic.blocks)
        amounts = gammaincinv(synthetic.concentration, self.rng(2).random(shape))
        with np.errstate(divide="ignore"):
            self.mixture = np.log(amounts / amounts.sum(-1, keepdims=True)).astype(np.float32)
        self.blocks = self.inside()

    def rng(self, *key: int) -> np.random.Generator:
        """Random numbers of their own for each key."""
        return np.random.default_rng(np.random.SeedSequence(int(self.seed), spawn_key=key))

    def slabs(self) -> Iterator[tuple[int, slice, np.ndarray]]:
        """Tokens in order: their first one, a slice of requests, and [tokens] which popularity.

        Popularities stand as prefill and decode of the first request, of the second, and so on.
        """
        size = max(_VALUES // self.model.experts, 1)
        start = 0
        for first in range(0, len(self.lengths), _REQUESTS):
            some = slice(first, first + _REQUESTS)
            counts = self.lengths[some].ravel()
            ends = np.cumsum(counts)
            for begin in range(0, ends[-1], size):
                token = np.arange(begin, min(begin + size, ends[-1]))
                yield start + begin, some, np.searchsorted(ends, token, side="right")
            start += ends[-1]

    def inside(self) -> np.ndarray:
        """The blocks each token is in, the same in all layers: [tokens, partitions, choices]."""
        model, rng = self.model, self.rng(3)
        shape = (self.lengths.sum(), model.partitions, model.block_choices)
        out = np.zeros(shape, np.int16)
        for start, some, row in self.slabs() if model.partitions else ():
            for partition, mixture in enumerate(self.mixture):
                values = gumbel(rng, len(row), model.blocks)
                values += mixture[some.start + row // 2]
                out[start : start + len(row), partition] = top(values, model.block_choices)
        return out

    def layer(self, index: int) -> Iterator[np.ndarray]:
        """The choices of all tokens in a layer, given by its position, slab by slab."""
        model, number = self.model, self.model.layers[index]
        rng = self.rng(4, number)
        shared, of_prompts, spread = (
            rng.standard_normal(model.experts),
            rng.standard_normal(model.experts),
            np.exp(model.popularity_spread * rng.standard_normal()),
        )
        loadings = rng.standard_normal((model.experts, model.factors)) / np.sqrt(model.factors)
        member = np.zeros((model.partitions, model.blocks, model.experts), np.float32)
        for each in member:
            block = rng.permutation(model.experts) * model.blocks // model.experts
            each[block, np.arange(model.experts)] = model.block_bonus
        shared *= np.broadcast_to(model.popularity, len(model.layers))[index] * spread
        scale = np.broadcast_to(model.domain, len(model.layers))[index]
        common = (shared, of_prompts * model.prefill, loadings.T, scale)
        noise, logits, held = self.rng(5, number), np.empty(0), None
        for start, some, row in self.slabs():
            if held != some:
                logits, held = (
                    self.popularities(some, common, self.rng(6, number, some.start)),
                    some,
                )
            values = gumbel(noise, len(row), model.experts)
            values += logits[row]
            blocks = self.blocks[start : start + len(row)]
            for partition in range(model.partitions):  # (a matrix product's threads would fight)
                for choice in range(model.block_choices):
                    values += member[partition, blocks[:, partition, choice]]
            yield top_of_groups(values, model.k, model.groups, model.used_groups)

    def popularities(self, some: slice, common: Any, rng: np.random.Generator) -> np.ndarray:
        """Logarithms of the experts' weights for some requests: [requests x phases, experts]."""
        model = self.model
        shared, prefill, loadings, scale = common
        both = scale * self.of_domain[self.domain[some]] + model.request * self.of_request[some]
        decode = shared + both @ loadings
        decode += model.private * rng.standard_normal(decode.shape, np.float32)
        prompt = decode + prefill + model.prefill_request * self.of_prompt[some] @ loadings
        return np.stack([prompt, decode], axis=1).reshape(-1, model.experts).astype(np.float32)


def _apart(rng: np.random.Generator, domains: int, factors: int) -> np.ndarray:
    """Factors of domains, of mean square 1 each and orthogonal where that is possible."""
    drawn = rng.standard_normal((domains, factors))
    if domains <= factors:
        drawn = np.linalg.qr(drawn.T)[0].T
    return drawn * np.sqrt(factors) / np.linalg.norm(drawn, axis=1, keepdims=True)
