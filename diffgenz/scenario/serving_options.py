"""Serving options: what a server does beside batching. They compose; `served` makes iterations of them."""

import enum

import equinox as eqx
import jax.numpy as jnp

from diffgenz.core.checks import check, check_at_most
from diffgenz.core.errors import InputError, unknown
from diffgenz.core.record import Record
from diffgenz.core.smooth import Leaf, Scalar, as_leaf
from diffgenz.hardware.platform import Accelerator, Platform
from diffgenz.models.model import Model
from diffgenz.operators.precision import Precision
from diffgenz.scenario.parallelism import Parallelism

_TERMS = 8  # of the series near acceptance 1: below float32's rounding where it is used


def _optional_leaf(x) -> Leaf | None:
    return None if x is None else as_leaf(x)


class Draft(Record):
    """A model that proposes tokens, on the accelerators of the model it proposes them to or on others.

    Arguments:
        model: from `load_model`, or built by hand.
        tensor: ranks that share it, among those of one replica; the others wait.
        precision: its formats.
        platform: accelerators of its own, `tensor` for each attention group of the model, which cost and draw power too. Token ids travel in no
            time. None: those of the model.

    Raises:
        InputError: fewer than one rank, more than the draft has heads, or more than its own platform has accelerators.
    """

    model: Model
    tensor: Leaf = eqx.field(converter=as_leaf, default=1.0)
    precision: Precision = eqx.field(default_factory=Precision)
    platform: Platform | None = None

    def __check_init__(self):
        check("tensor", self.tensor, minimum=1)
        if self.platform is not None:
            check_at_most(
                "tensor",
                self.tensor,
                self.platform.accelerators,
                "the accelerators of the draft model's platform; use more of them",
            )
        check_at_most(
            "tensor",
            self.tensor,
            self.model.most_shards,
            f"the heads of the draft model {self.model.name}; use fewer ranks for it",
        )

    @property
    def plan(self) -> Parallelism:
        """Its layout: one stage, one replica."""
        return Parallelism(self.tensor).as_structure()


class MTP(Record):
    """The model's own multi-token-prediction module (`models.mtp`) proposes, one token a step, on the ranks and in the formats of the model."""


class Speculation(Record):
    """Speculative decoding (arXiv 2211.17192): several tokens are proposed, one iteration verifies them all.

    Arguments:
        drafts: tokens proposed for each verification.
        acceptance: the probability that a proposed token is accepted, given that those before it are.
        draft: what proposes: another model, the model's own module, or None where proposing is free (n-grams of the prompt).

    Raises:
        InputError: fewer than one draft, or an acceptance outside [0, 1].
    """

    drafts: Leaf = eqx.field(converter=as_leaf)
    acceptance: Leaf = eqx.field(converter=as_leaf)
    draft: Draft | MTP | None = None

    def __check_init__(self):
        check(
            "drafts",
            self.drafts,
            minimum=1,
            remedy="leave speculation out to decode token by token",
        )
        check("acceptance", self.acceptance, maximum=1.0)

    @property
    def tokens(self) -> Scalar:
        """Expected tokens of one verification: (1 - a**m) / (1 - a) of acceptance a and m = drafts + 1; m where a is 1.

        Near 1 it is the series sum_j C(m, j + 1) (a - 1)**j, so that value and derivatives are exact there too.
        """
        most, rejected = self.drafts + 1, 1 - self.acceptance
        near = most * rejected < 0.5
        series = term = most
        for j in range(1, _TERMS + 1):
            term = -term * jnp.where(near, rejected, 0.0) * ((most - j) / (j + 1))
            series = series + term
        far = jnp.where(near, 0.0, self.acceptance)
        return jnp.where(near, series, (1 - far**most) / (1 - far))


class Offload(enum.Enum):
    """What may live in slower memory, as far as the main one is too small for it."""

    WEIGHTS = "weights"  # of the layers' matrices; embedding and LM head stay
    KV_CACHE = "kv_cache"  # and states


def _named_offload(what: Offload | str | None) -> Offload | None:
    names = [member.value for member in Offload]
    if isinstance(what, str) and what not in names:
        raise unknown("offload", what, names)
    return None if what is None else Offload(what)


class Serving(Record):
    """What a server does beside batching. Each option alone, or any together.

    Arguments:
        chunk: prompt tokens of one iteration of a micro-batch (chunked prefill, Sarathi, arXiv 2308.16369); None: whole prompts at once.
        prefix_hit: the share of each prompt that is in the KV cache already (prefix caching); at least one token is always computed.
        speculation: speculative decoding, or None.
        beams: sequences that are decoded for each request (beam search), sharing the prompt's KV cache; None: one.
        offload: what lives in the accelerator's slower memory tiers where its main memory is full, or its name; None: nothing may.

    Raises:
        InputError: a chunk or beams below 1, a prefix hit outside [0, 1], or something else to offload.
    """

    chunk: Leaf | None = eqx.field(converter=_optional_leaf, default=None)
    prefix_hit: Leaf = eqx.field(converter=as_leaf, default=0.0)
    speculation: Speculation | None = None
    beams: Leaf | None = eqx.field(converter=_optional_leaf, default=None)
    offload: Offload | None = eqx.field(static=True, converter=_named_offload, default=None)

    def __check_init__(self):
        if self.chunk is not None:
            check(
                "chunk",
                self.chunk,
                minimum=1,
                remedy="leave it out to prefill whole prompts at once",
            )
        check("prefix_hit", self.prefix_hit, maximum=1.0)
        if self.beams is not None:
            check(
                "beams",
                self.beams,
                minimum=1,
                remedy="leave it out to decode one sequence for each request",
            )

    @property
    def draft(self) -> Draft | MTP | None:
        """What proposes tokens, if there is something."""
        return None if self.speculation is None else self.speculation.draft


def check_serving(
    serving: Serving | None, model: Model, accelerator: Accelerator, plan: Parallelism
) -> None:
    """Raise `InputError` where the model, the accelerator or the plan lacks what an option needs. Traced numbers pass."""
    if serving is None:
        return
    draft = serving.draft
    if isinstance(draft, MTP) and not model.mtp:
        raise InputError(
            f"draft: {model.name} has no multi-token-prediction module that is modelled; name a draft model, or leave it out to draft by n-grams"
        )
    if isinstance(draft, Draft) and draft.platform is None:
        ranks = (
            plan.tensor * plan.pipeline
            if plan.context is None
            else plan.tensor * plan.context * plan.pipeline
        )
        check_at_most(
            "draft tensor",
            draft.tensor,
            ranks,
            "the ranks of a replica; use fewer for the draft model",
        )
    if serving.offload is not None and not accelerator.tiers:
        raise InputError(
            f"offload: {accelerator.name} has no slower memory to offload to; leave it out, or add a [[memory_tier]] to its file (Accelerator.tiers)"
        )
