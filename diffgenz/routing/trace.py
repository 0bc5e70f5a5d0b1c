"""Expert-activation traces: which experts the tokens of requests chose, in each layer.

A `Trace` has a row per token. Where only counts were recorded there is a `Counts`, to which a trace
reduces. The file format is in docs/routing.md.
"""

import copy
import dataclasses
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from diffgenz.core.errors import InputError, unknown

PREFILL, DECODE = 0, 1
"""The phases of a token: part of a prompt, or generated."""

PHASES = ("prefill", "decode")
"""Their names, in the order of their numbers."""

if TYPE_CHECKING:
    Array = np.ndarray
    Layers = tuple[int, ...]
    Names = tuple[str, ...]
else:
    Array = Layers = Names = Any  # lists, too: the records make arrays and tuples of them


@dataclasses.dataclass(frozen=True, eq=False)
class Trace:
    """The experts that each token chose in each mixture-of-experts layer.

    Tokens stand in the order in which they were recorded. Nothing is known of what is None.

    Arguments:
        experts: routed experts per layer, at least 1.
        layers: the model's indices of the recorded layers, ascending.
        chosen: [tokens, layers, k]; the chosen experts, from 0 to experts - 1, all different within
            a token and layer. Kept as int16, or as int32 beyond 32,768 experts.
        request: [tokens]; the number of the request that a token belongs to, at least 0.
        phase: [tokens]; `PREFILL` or `DECODE`. Default: all `DECODE`.
        domain: [tokens]; an index into `domains`. Default: all 0.
        domains: the names of the domains (code, mathematics, ...). Default: one, called "all".
        weights: [tokens, layers, k]; the router's weights of the chosen experts, at least 0.
        rank: [tokens]; the rank that computed the token's attention, at least 0.
        step: [tokens]; the engine's iteration that computed the token, at least 0.
        model: the model's name.

    Raises:
        InputError: shapes differ, an expert is out of range or chosen twice, or a number is not one
            that its field allows.
    """

    experts: int
    layers: Layers
    chosen: Array
    request: Array
    phase: Array = None  # type: ignore[assignment]
    domain: Array = None  # type: ignore[assignment]
    domains: Names = ("all",)
    weights: Array | None = None
    rank: Array | None = None
    step: Array | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        """Makes arrays of what was given, and checks it."""
        fields = _checked_names(self.experts, self.layers, self.domains)
        fields["chosen"] = chosen = _chosen(self.chosen, self.experts, len(fields["layers"]))
        tokens = len(chosen)
        for name, dtype, end in (
            ("request", np.int32, None),
            ("phase", np.int8, len(PHASES)),
            ("domain", np.int16, len(fields["domains"])),
            ("rank", np.int16, None),
            ("step", np.int32, None),
        ):
            given = getattr(self, name)
            if given is None and name in ("phase", "domain"):
                given = np.full(tokens, DECODE if name == "phase" else 0)
            if given is not None:
                fields[name] = _per_token(name, given, tokens, dtype, end)
        if self.weights is not None:
            fields["weights"] = _weights(self.weights, chosen.shape)
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def tokens(self) -> int:
        """How many tokens."""
        return len(self.chosen)

    @property
    def k(self) -> int:
        """How many experts a token chooses in a layer."""
        return self.chosen.shape[2]

    @property
    def requests(self) -> np.ndarray:
        """The numbers of its requests, ascending."""
        return np.unique(self.request)

    def select(
        self,
        tokens: Any = None,
        *,
        requests: Any = None,
        phase: int | None = None,
        domain: str | None = None,
        layers: Any = None,
    ) -> Self:
        """A part of the trace: the tokens that satisfy all conditions given, in their order.

        Arguments:
            tokens: a mask, a slice, or the indices of tokens.
            requests: the numbers of requests.
            phase: `PREFILL` or `DECODE`.
            domain: the name of a domain.
            layers: the model's indices of layers.

        Raises:
            InputError: the trace has no such domain or layer.
        """
        mask = np.ones(self.tokens, bool)
        if requests is not None:
            mask &= np.isin(self.request, requests)
        if phase is not None:
            mask &= self.phase == phase
        if domain is not None:
            if domain not in self.domains:
                raise unknown("domain", domain, self.domains)
            mask &= self.domain == self.domains.index(domain)
        rows: Any = slice(None) if mask.all() else mask
        if tokens is not None:
            rows = tokens if mask.all() else np.arange(self.tokens)[tokens][mask[tokens]]
        part = copy.copy(self)
        for name in ("chosen", "weights", "request", "phase", "domain", "rank", "step"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(part, name, value[rows])
        if layers is not None:
            kept = tuple(int(layer) for layer in layers)
            for layer in kept:
                if layer not in self.layers:
                    raise unknown("layers", str(layer), map(str, self.layers))
            index = [self.layers.index(layer) for layer in kept]
            object.__setattr__(part, "layers", kept)
            object.__setattr__(part, "chosen", part.chosen[:, index])
            if part.weights is not None:
                object.__setattr__(part, "weights", part.weights[:, index])
        return part

    def split(self, requests: Any) -> tuple["Trace", "Trace"]:
        """The tokens of some requests, and those of all others.

        Arguments:
            requests: the numbers of the requests.
        """
        inside = np.isin(self.request, requests)
        return self.select(inside), self.select(~inside)

    def halves(self, seed: int = 0) -> tuple["Trace", "Trace"]:
        """Two traces, of a random half of the requests each.

        Arguments:
            seed: of the random numbers; the same seed gives the same halves.
        """
        order = np.random.default_rng(seed).permutation(self.requests)
        return self.split(order[: len(order) // 2])

    def groups(self, by: str) -> tuple[tuple[str, ...], np.ndarray]:
        """The names of groups of tokens, and the index of each token's group.

        Requests and ranks are named by their numbers, ascending; only those that occur are groups.
        Domains and phases are groups whether or not they have tokens.

        Arguments:
            by: what tokens are grouped by: "request", "domain", "phase", "rank" or "all".

        Raises:
            InputError: `by` is not known, or ranks are asked for and were not recorded.
        """
        if by == "all":
            return ("all",), np.zeros(self.tokens, np.intp)
        if by == "domain":
            return self.domains, self.domain.astype(np.intp)
        if by == "phase":
            return PHASES, self.phase.astype(np.intp)
        if by not in ("request", "rank"):
            raise unknown("by", by, ("request", "domain", "phase", "rank", "all"))
        value = self.request if by == "request" else self.rank
        if value is None:
            raise InputError("by: the trace has no ranks; group by request, domain, phase or all")
        names, index = np.unique(value, return_inverse=True)
        return tuple(map(str, names)), index

    def counts(self, by: str = "request", phase: int | None = None) -> np.ndarray:
        """How often each group of tokens chose each expert: [groups, layers, experts], float64.

        Arguments:
            by: what tokens are grouped by; the groups stand as in `groups`.
            phase: count only tokens of this phase, `PREFILL` or `DECODE`. Groups stay the same.

        Raises:
            InputError: as of `groups`.
        """
        names, group = self.groups(by)
        chosen = self.chosen
        if phase is not None:
            mask = self.phase == phase
            chosen, group = chosen[mask], group[mask]
        return counted(chosen, group, len(names), self.experts)

    def reduced(self, by: str = "request", phase: int | None = None) -> "Counts":
        """What remains of it when only counts are kept.

        Arguments:
            by: what tokens are grouped by: "request", "domain", "phase", "rank" or "all".
            phase: count only tokens of this phase, `PREFILL` or `DECODE`.
        """
        return Counts(
            counts=self.counts(by, phase),
            groups=self.groups(by)[0],
            by=by,
            layers=self.layers,
            phase=phase,
            k=self.k,
            model=self.model,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Counts:
    """How often groups of tokens chose each expert: what sources record that keep no tokens.

    Arguments:
        counts: [groups, layers, experts]; choices, at least 0.
        groups: the names of the groups.
        by: what the groups are: "request", "domain", "phase", "rank", "step" or "all".
        layers: the model's indices of the layers, ascending.
        phase: `PREFILL` or `DECODE`; None: both, or not known.
        k: how many experts a token chooses in a layer; None: not known.
        model: the model's name; None: not known.

    Raises:
        InputError: shapes differ, or a count is negative or not finite.
    """

    counts: Array
    groups: Names
    by: str
    layers: Layers
    phase: int | None = None
    k: int | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        """Makes an array of the counts, and checks them."""
        counts = np.asarray(self.counts, np.float64)
        if counts.ndim != 3 or not counts.shape[2]:
            raise InputError(
                f"counts: have shape {list(counts.shape)}; give [groups, layers, experts]"
            )
        names = _checked_names(counts.shape[2], self.layers, self.groups, "groups")
        if counts.shape[:2] != (len(names["groups"]), len(names["layers"])):
            raise InputError(
                f"counts: have {counts.shape[0]} groups of {counts.shape[1]} layers, but "
                f"{len(names['groups'])} and {len(names['layers'])} are named; name each"
            )
        if not np.all(np.isfinite(counts)) or np.any(counts < 0):
            raise InputError("counts: one is negative or not finite; counts are at least 0")
        for name, value in (("counts", counts), *names.items()):
            if name != "experts":
                object.__setattr__(self, name, value)

    @property
    def experts(self) -> int:
        """Routed experts per layer."""
        return self.counts.shape[2]


def counted(chosen: np.ndarray, group: np.ndarray, groups: int, experts: int) -> np.ndarray:
    """How often each group chose each expert: [groups, layers, experts], float64.

    Arguments:
        chosen: [tokens, layers, k]; experts, from 0 to experts - 1.
        group: [tokens]; the group of each token, from 0 to groups - 1.
        groups: how many groups there are.
        experts: how many experts a layer has.
    """
    layers = chosen.shape[1]
    out = np.zeros((groups, layers, experts))
    start = np.asarray(group, np.int64)[:, None] * experts
    for layer in range(layers):
        flat = (start + chosen[:, layer]).ravel()
        out[:, layer] = np.bincount(flat, minlength=groups * experts).reshape(groups, experts)
    return out


def _checked_names(
    experts: int, layers: Any, names: Any, called: str = "domains"
) -> dict[str, Any]:
    """The number of experts, the layers and the names of domains or groups, checked."""
    if isinstance(experts, bool) or int(experts) != experts or experts < 1:
        raise InputError(f"experts: {experts!r} is not a number of experts; give 1 or more")
    indices = tuple(int(layer) for layer in layers)
    if not indices or indices[0] < 0 or any(np.diff(indices) <= 0):
        raise InputError(
            f"layers: {list(indices)[:8]} are not layer indices; give one or more, ascending from 0"
        )
    known = tuple(map(str, names))
    if not known or len(set(known)) < len(known):
        raise InputError(f"{called}: {list(known)[:8]} are not different names; name each once")
    return {"experts": int(experts), "layers": indices, called: known}


def _integers(name: str, given: Any) -> np.ndarray:
    """An array of whole numbers, from a rectangle of them."""
    try:
        array = np.asarray(given)
    except ValueError:
        raise InputError(f"{name}: rows have different lengths; give each the same") from None
    if array.dtype.kind not in "iu":
        if array.size and (array.dtype.kind != "f" or not np.all(array == np.floor(array))):
            raise InputError(f"{name}: holds {array.dtype}, not whole numbers; give integers")
        array = array.astype(np.int64)
    return array


def _chosen(given: Any, experts: int, layers: int) -> np.ndarray:
    """The chosen experts as an array of the smallest type, checked."""
    chosen = _integers("chosen", given)
    if chosen.ndim != 3 or chosen.shape[1] != layers:
        raise InputError(
            f"chosen: has shape {list(chosen.shape)}; give [tokens, {layers} layers, k]"
        )
    k = chosen.shape[2]
    if not 1 <= k <= experts:
        raise InputError(
            f"chosen: has {k} experts per token and layer, of {experts}; give 1 to {experts}"
        )
    if chosen.size and not (chosen.min() >= 0 and chosen.max() < experts):
        bad = int(chosen.min()) if chosen.min() < 0 else int(chosen.max())
        raise InputError(
            f"chosen: expert {bad} is out of range; {experts} experts have ids 0 to {experts - 1}"
        )
    for first in range(k):
        for second in range(first):
            twice = chosen[..., first] == chosen[..., second]
            if twice.any():
                token, layer = (int(i) for i in np.argwhere(twice)[0])
                raise InputError(
                    f"chosen: token {token} has expert {int(chosen[token, layer, first])} twice in "
                    f"the layer at position {layer}; the k experts of a token are different"
                )
    return chosen.astype(np.int16 if experts <= 2**15 else np.int32, copy=False)


def _per_token(name: str, given: Any, tokens: int, dtype: Any, end: int | None) -> np.ndarray:
    """A number for each token, checked."""
    array = _integers(name, given)
    if array.shape != (tokens,):
        raise InputError(f"{name}: has shape {list(array.shape)}; give one for each of the tokens")
    end = np.iinfo(dtype).max if end is None else end
    if tokens and not (array.min() >= 0 and array.max() < end):
        bad = int(array.min()) if array.min() < 0 else int(array.max())
        raise InputError(f"{name}: {bad} is out of range; give 0 to {end - 1}")
    return array.astype(dtype, copy=False)


def _weights(given: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The router's weights, checked."""
    weights = np.asarray(given, np.float32)
    if weights.shape != shape:
        raise InputError(
            f"weights: have shape {list(weights.shape)}; give that of chosen, {list(shape)}"
        )
    if not np.all(np.isfinite(weights)) or np.any(weights < 0):
        raise InputError("weights: one is negative or not finite; weights are at least 0")
    return weights
