"""In which formats the publishers of a model, and others, offer checkpoints of it."""

import tomllib
from functools import cache
from pathlib import Path

from diffgenz.models.names import architecture

_FILE = Path(__file__).with_name("variants.toml")


def variants_of(model: str) -> dict[str, str]:
    """The known checkpoints of a model in other formats: the id of one by each format.

    Arguments:
        model: its name, of which the words about training and storage do not count.
    """
    return _by_architecture().get(architecture(model), {})


@cache
def _by_architecture() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for format, ids in tomllib.loads(_FILE.read_text()).items():
        for each in ids:
            found.setdefault(architecture(each), {}).setdefault(format, each)
    return found
