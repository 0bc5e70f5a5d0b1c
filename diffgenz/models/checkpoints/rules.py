"""Rules: what a quantisation section says, whatever tool wrote it.

A section is a list of rules, each an entry and the scheme of the modules that it means, and a
default for each kind of module. The first rule that means a module counts.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from diffgenz.models.blocks.module import HEAD, KINDS
from diffgenz.models.checkpoints.names import Names
from diffgenz.models.checkpoints.schemes import Scheme


class Rule(NamedTuple):
    """The scheme of some modules.

    Arguments:
        entry: which modules (`names`).
        scheme: their scheme; None: they are in dtype.
        key: the field that says so, for errors.
        expression: whether the entry is a regular expression without "re:".
    """

    entry: str
    scheme: Scheme | None
    key: str
    expression: bool = False


class Rules(NamedTuple):
    """All rules of a section.

    Arguments:
        rules: the rules, of which the first that means a module counts.
        default: the scheme of modules that no rule means, by their kind; None, or no such kind:
            they are in dtype.
        kv_cache: the format of keys and values; None for dtype.
        notes: sentences about what is not modelled.
    """

    rules: tuple[Rule, ...]
    default: Mapping[str, Scheme | None]
    kv_cache: str | None = None
    notes: tuple[str, ...] = ()


def everywhere(scheme: Scheme | None, *, head: bool = False) -> dict[str, Scheme | None]:
    """The default of a scheme for all linear layers, with the LM head or without it."""
    return {kind: scheme for kind in KINDS if head or kind != HEAD}


def left_wide(entries: Iterable[str], key: str) -> tuple[Rule, ...]:
    """The rules of a list of modules that stay in dtype."""
    return tuple(Rule(entry, None, key) for entry in entries)


def assigned(rules: Rules, names: Names) -> list[Scheme | None]:
    """The scheme of each of the modules of `names`; None for those in dtype.

    Raises:
        InputError: a rule that names a layer or a module that does not exist.
    """
    found: dict[int, Scheme | None] = {}
    for rule in rules.rules:
        for index in names.meant(rule.entry, rule.key, expression=rule.expression):
            found.setdefault(index, rule.scheme)
    return [
        found[index] if index in found else rules.default.get(each.module.kind)
        for index, each in enumerate(names.placed)
    ]
