"""Serving options: what a server does besides batching. They compose.

`inference.prefill_decode` makes the iterations that follow from them, and `inference.jobs` lists
all that is served.
"""

import enum
from collections.abc import Iterable

import equinox as eqx

from diffgenz.core import xp
from diffgenz.core.checks import Condition, at_most
from diffgenz.core.errors import InputError, unknown
from diffgenz.core.record import Record, number
from diffgenz.core.smooth import Leaf, Scalar
from diffgenz.hardware.platform import Platform
from diffgenz.models.model import Model
from diffgenz.operators.precision import Precision
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.words import CHUNK, UTILIZATION

_TERMS = 8  # of the series near acceptance 1; those left out there are below float32's rounding


class Draft(Record):
    """A model that proposes tokens to the model that is served.

    It runs on the accelerators of that model, or on accelerators of its own.

    Arguments:
        model: the draft model, from `load_model` or built by hand.
        tensor: ranks that share it, among those of one replica, at least 1; the others wait.
        precision: its formats.
        platform: accelerators of its own, `tensor` of them for each attention group of the model.
            They cost money and draw power, too. Token ids travel to them in no time. None: the
            accelerators of the model.

    Raises:
        InputError: fewer than one rank, more ranks than the draft model has heads, or more than its
            own platform has accelerators.
    """

    model: Model
    tensor: Leaf = number(at_least=1, whole="ranks", structure=True, default=1.0)
    precision: Precision = eqx.field(default_factory=Precision)
    platform: Platform | None = None

    def conditions(self) -> Iterable[Condition]:
        if self.platform is not None:
            what = "the accelerators of the draft model's platform; use more of them"
            yield at_most("tensor", self.tensor, self.platform.accelerators, what)
        what = f"the heads of the draft model {self.model.name}; use fewer ranks for it"
        yield at_most("tensor", self.tensor, self.model.most_shards, what)

    @property
    def plan(self) -> Parallelism:
        """Its layout: one stage, one replica."""
        return Parallelism(self.tensor).as_structure()


class MTP(Record):
    """The model's own multi-token-prediction module (`models.mtp`) as what proposes tokens.

    It proposes one token at each step, on the ranks and in the formats of the model.
    """


class Speculation(Record):
    """Speculative decoding (arXiv 2211.17192).

    Several tokens are proposed, and one iteration verifies them all.

    Arguments:
        drafts: tokens proposed for each verification, at least 1.
        acceptance: the probability that a proposed token is accepted, given that those before it
            are; in [0, 1].
        draft: what proposes tokens: another model, the model's own module, or None where proposing
            is free (n-grams of the prompt).

    Raises:
        InputError: fewer than one draft, or an acceptance outside [0, 1].
    """

    drafts: Leaf = number(at_least=1, remedy="leave speculation out to decode token by token")
    acceptance: Leaf = number(at_most=1)
    draft: Draft | MTP | None = None

    @property
    def tokens(self) -> Scalar:
        """Expected tokens of one verification, at least 1.

        They are (1 - a**m) / (1 - a) for acceptance a and m = drafts + 1, or m where a is 1. Near
        a = 1 they are computed as the series sum_j C(m, j + 1) (a - 1)**j, so that the value and
        its derivatives are exact there, too.
        """
        most, rejected = self.drafts + 1, 1 - self.acceptance
        near = most * rejected < 0.5
        series = term = most
        for j in range(1, _TERMS + 1):
            term = -term * xp.where(near, rejected, 0.0) * ((most - j) / (j + 1))
            series = series + term
        far = xp.where(near, 0.0, self.acceptance)
        return xp.where(near, series, (1 - far**most) / (1 - far))


class Offload(enum.Enum):
    """What may live in slower memory, as far as the main memory is too small for it."""

    WEIGHTS = "weights"  # those of the layers' matrices; embedding and LM head stay
    KV_CACHE = "kv_cache"  # and the states of state-space and linear-attention blocks


def _named_offload(what: Offload | str | None) -> Offload | None:
    """`what` as a member of `Offload`, which may be given by its value."""
    names = [member.value for member in Offload]
    if isinstance(what, str) and what not in names:
        raise unknown("offload", what, names)
    return None if what is None else Offload(what)


class Serving(Record):
    """What a server does besides batching.

    Each option can be used alone or together with any others. By default prompts are computed in
    chunks, and memory is not used to its end, as engines do it.

    Arguments:
        chunk: prompt tokens of one iteration of a micro-batch, at least 1 (chunked prefill,
            Sarathi, arXiv 2308.16369); None: whole prompts at once.
        prefix_hit: the share of each prompt that is in the KV cache already (prefix caching), in
            [0, 1]; at least one token is always computed. None or 0: nothing is in the cache.
        speculation: speculative decoding, or None.
        beams: sequences that are decoded for each request and share the prompt's KV cache (beam
            search), at least 1; None: one.
        offload: what may live in the accelerator's slower memory tiers where its main memory is
            full, or its name; None: nothing may.
        memory_utilization: the share of an accelerator's main memory that the server may use, in
            (0, 1].
        mixed: whether decode iterations that carry a chunk of prompts are timed, too
            (`Estimate.mixed_tpot`); off by default.

    Raises:
        InputError: a chunk or beams below 1, a prefix hit outside [0, 1], mixed iterations without
            chunks, a utilization outside (0, 1], or something to offload that is not in `Offload`.
    """

    chunk: Leaf | None = number(
        at_least=1, default=float(CHUNK), remedy="use None (--chunk whole) to prefill whole prompts"
    )
    prefix_hit: Leaf | None = number(at_most=1, default=None, off=0)
    speculation: Speculation | None = None
    beams: Leaf | None = number(
        at_least=1,
        default=None,
        remedy="leave it out to decode one sequence for each request",
    )
    offload: Offload | None = eqx.field(static=True, converter=_named_offload, default=None)
    memory_utilization: Leaf = number(above=0, at_most=1, default=UTILIZATION)
    mixed: bool = eqx.field(static=True, default=False)

    def conditions(self) -> Iterable[Condition]:
        if self.mixed and self.chunk is None:
            raise InputError(
                "mixed: whole prompts are no part of decode iterations; give a chunk (--chunk)"
            )
        return ()

    @property
    def draft(self) -> Draft | MTP | None:
        """What proposes tokens; None without speculation, or where proposing is free."""
        return None if self.speculation is None else self.speculation.draft

    @property
    def draft_platform(self) -> Platform | None:
        """Accelerators of the draft model's own.

        None where it runs on those of the model, and where no other model drafts.
        """
        return self.draft.platform if isinstance(self.draft, Draft) else None

    @property
    def widens_decode(self) -> bool:
        """Whether an option makes decode iterations wider, or prefill iterations narrower.

        Only then can a decode iteration hold more activations than a prefill one.
        """
        options = (self.chunk, self.prefix_hit, self.speculation, self.beams)
        return any(option is not None for option in options)
