"""Accelerators by name: the shipped files, hw_specs/*.toml, or a file of one's own.

Nothing here imports JAX, so that `diffgenz list` is quick.
"""

import dataclasses
import re
from pathlib import Path

from diffgenz.core.errors import InputError
from diffgenz.core.files import data_folder
from diffgenz.hardware.spec import Spec
from diffgenz.hardware.spec_file import spec_in

_NAMES = ("name", "vendor", "architecture", "memory_type", "sources", "like")
"""Parts of a file that say nothing of how fast the accelerator is."""


def specs_folder() -> Path:
    """Where the shipped accelerator files are.

    Inside the installed package, or at the top of a checkout.
    """
    return data_folder("hw_specs")


def list_systems() -> list[str]:
    """The ids of the shipped accelerators, sorted."""
    return sorted(path.stem for path in specs_folder().glob("*.toml"))


def schema() -> str:
    """The text that explains how an accelerator file is written: hw_specs/README.md."""
    return (specs_folder() / "README.md").read_text(encoding="utf-8")


def read_spec(system: str | Path) -> Spec:
    """The accelerator called `system`, or the file at that path.

    Raises:
        InputError: no such id or file, or a file that breaks the schema; the message names the key.
    """
    if not isinstance(system, str | Path):
        raise InputError(
            f'system: a {type(system).__name__} is no name; write "h100_sxm", or the path of a file'
        )
    path = Path(system)
    if path.suffix != ".toml":
        if str(system) not in list_systems():
            raise _unknown_system(str(system))
        path = specs_folder() / f"{system}.toml"
    spec = spec_in(path)
    shipped = specs_folder() / path.name
    if shipped.is_file() and path.resolve() != shipped.resolve():
        same = dataclasses.replace(
            spec_in(shipped),
            **{name: getattr(spec, name) for name in _NAMES},
        )
        spec = dataclasses.replace(spec, changed=spec != same)
    return spec


def _unknown_system(asked: str) -> InputError:
    """The error for a system that is not shipped.

    It proposes accelerators whose id or name contains what was asked for, or the other way round.
    Those that only look alike, as an RTX 3080 and an RTX 3090 do, are other chips and are not
    proposed.
    """
    ids = list_systems()
    if asked and Path(f"{asked}.toml").is_file():
        hint = f"write {asked}.toml for the file"
    elif Path(asked).is_file():
        hint = "the file of an accelerator is a TOML, and its name ends in .toml"
    else:
        relatives = [each for each in ids if _alike(asked, each)] or [
            each for each in ids if _alike(asked, read_spec(each).name)
        ]
        hint = "see `diffgenz list systems`"
        if relatives:
            hint = f"did you mean {' or '.join(relatives[:6])}?"
    return InputError(
        f"system: {asked!r} is not known; {hint}; the path of your own .toml does too "
        "(`diffgenz list systems --schema` says how it is written)"
    )


def _alike(asked: str, name: str) -> bool:
    """Whether one of two names contains the other, apart from case, blanks and punctuation."""
    one, other = (re.sub("[^a-z0-9]", "", text.lower()) for text in (asked, name))
    return len(one) > 1 and (one in other or other in one)
