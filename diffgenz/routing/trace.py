"""Expert-activation traces: which experts the tokens of requests chose, in each layer.

A `Trace` has a row per token. Where only counts were recorded there is a `Counts`, to which a trace
reduces. The file format is in docs/routing.md.
"""

import copy
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from diffgenz.core.errors import InputError, unknown
from diffgenz.core.files import written_aside
from diffgenz.routing.checking import (
    checked_names,
    chosen_experts,
    per_token,
    positions,
    router_weights,
)

FORMAT = "diffgenz-trace-1"
"""What files of traces are marked with."""

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

_FILLED: Any = None
"""The default of fields that are arrays once a record is made, whether or not they were given."""


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
    phase: Array = _FILLED
    domain: Array = _FILLED
    domains: Names = ("all",)
    weights: Array | None = None
    rank: Array | None = None
    step: Array | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        """Makes arrays of what was given, and checks it."""
        fields = checked_names(self.experts, self.layers, self.domains)
        fields["chosen"] = chosen = chosen_experts(self.chosen, self.experts, len(fields["layers"]))
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
                fields[name] = per_token(name, given, tokens, dtype, end)
        if self.weights is not None:
            fields["weights"] = router_weights(self.weights, chosen.shape)
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
            index = positions(kept, self.layers)
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

    def save(self, path: str | Path) -> None:
        """Write it in the format of docs/routing.md, which `load_trace` reads.

        The tokens of each request are written together; where they were not, and no steps are
        known, the place of each token is kept as its step.

        Arguments:
            path: where; its name should end in .npz.

        Raises:
            InputError: it cannot be written.
        """
        trace = self.together()
        small = np.uint8 if self.experts <= 2**8 else np.uint16 if self.experts <= 2**16 else None
        arrays: dict[str, Any] = {
            "format": np.array(FORMAT),
            "experts": np.array(self.experts),
            "layers": np.array(self.layers),
            "domains": np.array(self.domains),
            "chosen": trace.chosen.astype(small or trace.chosen.dtype),
        }
        for name in ("request", "phase", "domain", "rank", "step", "weights", "model"):
            if getattr(trace, name) is not None:
                arrays[name] = np.asarray(getattr(trace, name))
        with written_aside(Path(path), "trace") as aside, aside.open("wb") as file:
            np.savez(file, **arrays)

    def together(self) -> Self:
        """The same tokens with those of each request standing together, in order of first tokens.

        Where they do not yet, and no steps are known, the place of each token becomes its step.
        """
        runs = np.count_nonzero(self.request[1:] != self.request[:-1]) + 1
        if runs <= len(self.requests) or not self.tokens:
            return self
        _, first, index = np.unique(self.request, return_index=True, return_inverse=True)
        order = np.argsort(first[index], kind="stable")
        trace = self.select(order)
        if trace.step is None:
            object.__setattr__(trace, "step", order.astype(np.int32))
        return trace

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
        names = checked_names(counts.shape[2], self.layers, self.groups, "groups")
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
