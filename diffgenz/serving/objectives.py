"""`Objectives`: what a service promises its users."""

from collections.abc import Iterable

from diffgenz.core.checks import Condition
from diffgenz.core.errors import InputError
from diffgenz.core.record import Record, number
from diffgenz.core.smooth import Leaf

OBJECTIVES = ("ttft", "tpot", "end_to_end")
"""Latencies that may be promised."""

KINDS = ("mean", "p50", "p90", "p99")
"""Of which requests a promise holds."""


class Objectives(Record):
    """Limits of latencies (service-level objectives).

    Arguments:
        ttft: s until the first token, above 0; None: no limit.
        tpot: s between tokens, above 0; None: no limit.
        end_to_end: s until the last token, above 0; None: no limit.

    Raises:
        InputError: no limit at all, or one that is not above 0.
    """

    ttft: Leaf | None = number("s", above=0, default=None)
    tpot: Leaf | None = number("s", above=0, default=None)
    end_to_end: Leaf | None = number("s", above=0, default=None)

    def conditions(self) -> Iterable[Condition]:
        if not self.limits:
            raise InputError("objectives: none given; give ttft, tpot or end_to_end in s")
        return ()

    @property
    def limits(self) -> dict[str, Leaf]:
        """The limits that there are, by latency."""
        named = {name: getattr(self, name) for name in OBJECTIVES}
        return {name: limit for name, limit in named.items() if limit is not None}
