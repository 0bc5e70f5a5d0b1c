"""What accelerators have in common: how far fits of some may be off on another.

Kernels are written for an architecture and a memory, and collectives for a wiring. A GPU with the
architecture and the memory of a measured one is its sibling (H20 of H100). One of the same maker
with the memory, or the wiring, of most measured GPUs is a relative (V100, with HBM). All others are
strangers: kernels on GDDR live by their caches, and collectives over PCIe by the host.
"""

import enum
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

FAMILIES = {"sm_103": "sm_100"}
"""Architectures that run what is compiled for another one of their family ("sm_100f")."""


class Kin(enum.StrEnum):
    """How an accelerator is related to measured ones."""

    SIBLING = "sibling"
    RELATIVE = "relative"
    STRANGER = "stranger"


class Kind(NamedTuple):
    """What an accelerator has in common with others; "" where it is not known.

    Arguments:
        architecture: what compilers call it, the same within a family.
        memory: "HBM", "GDDR", "LPDDR" or another one, without its generation.
        wiring: "NVLink", "PCIe", "Infinity" or another one, without its generation.
    """

    architecture: str
    memory: str
    wiring: str

    @classmethod
    def of(cls, architecture: str, memory_type: str, network: str) -> "Kind":
        """The kind of an accelerator.

        Arguments:
            architecture: what compilers call it.
            memory_type: its memory, with its generation ("GDDR6X").
            network: the name of its innermost network level ("PCIe 4.0 x16"); "" without one.
        """
        family = FAMILIES.get(architecture, architecture)
        return cls(family, _letters(memory_type).upper(), _letters(network))

    @classmethod
    def read(cls, text: str) -> "Kind":
        """The kind that `str` wrote.

        Raises:
            ValueError: the text has not three parts.
        """
        architecture, memory, wiring = text.split("/")
        return cls(architecture, memory, wiring)

    def __str__(self) -> str:
        return "/".join(self)

    def kin(self, measured: Sequence["Kind"], *, of_network: bool) -> Kin:
        """How this accelerator is related to those that were measured.

        Arguments:
            measured: the kinds of these, one for each accelerator.
            of_network: whether collectives were measured: then wiring takes the place of memory.
        """

        def known_by(kind: Kind) -> tuple[str, str]:
            return kind.architecture, kind.wiring if of_network else kind.memory

        own = known_by(self)
        if all(own) and own in map(known_by, measured):
            return Kin.SIBLING
        makers = {each.maker for each in measured}
        counts = Counter(known_by(each)[1] for each in measured).most_common(1)
        is_common = [own[1]] == [name for name, _ in counts]
        is_relative = is_common and (of_network or self.maker in makers)
        return Kin.RELATIVE if is_relative else Kin.STRANGER

    @property
    def maker(self) -> str:
        """How the names of its maker's architectures begin: "sm" or "gfx"."""
        return _letters(self.architecture)


def _letters(name: str) -> str:
    """The letters that a name begins with."""
    found = re.match("[A-Za-z]*", name)
    return found[0] if found else ""


UNKNOWN = Kind("", "", "")
"""The kind of an accelerator that nothing is known of."""
