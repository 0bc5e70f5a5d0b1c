"""Files of generative models of routing: those that are shipped (presets/*.toml), and your own.

A file has a line `name = value` for each parameter of `Synthetic`, `source` among them, and a table
`[basis]` that says of parameters whether they are "fitted", "published" or "assumed".
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from diffgenz.core.errors import InputError, unknown
from diffgenz.core.files import read_toml
from diffgenz.core.sections import Section, said_of
from diffgenz.routing.synthetic import PER_LAYER, Synthetic

FOLDER = Path(__file__).parent / "presets"
"""Where the presets are."""
_FIELDS = {field.name: field for field in dataclasses.fields(Synthetic)}
_WHOLE = {name for name, field in _FIELDS.items() if field.type is int}
_BASES = ("fitted", "published", "assumed")


def preset_names() -> list[str]:
    """The names of the presets, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_synthetic(name: str | Path) -> Synthetic:
    """The preset of that name, or the parameters in the TOML file at that path.

    Arguments:
        name: a name, see `preset_names`, or a path that ends in .toml.

    Raises:
        InputError: no preset has that name, or the file breaks the format; the message names what
            is wrong.
    """
    path = Path(name)
    if path.suffix != ".toml":
        if str(name) not in preset_names():
            raise unknown("preset", name, preset_names())
        path = FOLDER / f"{name}.toml"
    return _read(Section(path.name, read_toml(path, "routing"), _FIELDS))


def _read(file: Section) -> Synthetic:
    """The parameters that stand in a file."""
    for key in ("experts", "k", "layers", "source"):
        if key not in file.raw:
            raise InputError(f"{file.at(key)}: is missing; write {key} = ...")
    values = {key: _value(file, key) for key in file.raw if key != "basis"}
    if not values["source"].strip():
        raise InputError(f"{file.at('source')}: is empty; say where the values come from")
    basis = file.section("basis", _FIELDS)
    for key in basis.raw:
        if basis.text(key) not in _BASES:
            raise unknown(basis.at(key), basis.raw[key], _BASES)
    with said_of(file.place):
        return Synthetic(**values, basis=basis.raw)


def _value(file: Section, key: str) -> Any:
    """What stands there for a parameter."""
    if key in ("model", "source"):
        return file.text(key)
    if key == "domains":
        return file.texts(key)
    if key == "layers" or (key in PER_LAYER and isinstance(file.raw[key], list)):
        kind = int if key == "layers" else (int, float)
        for each in file.entries(key):
            if not isinstance(each, kind) or isinstance(each, bool):
                what = "a whole number" if key == "layers" else "a number"
                raise InputError(f"{file.at(key)}: {each!r} is not {what}; write {key} = [1, 2]")
        return tuple(file.entries(key))
    return file.whole(key) if key in _WHOLE else file.number(key)


def text_of(synthetic: Synthetic) -> str:
    """The text of a file with these parameters: those that differ from what is assumed without.

    Arguments:
        synthetic: the parameters.

    Raises:
        InputError: they have no source.
    """
    if not synthetic.source.strip():
        raise InputError('source: is empty; say where the values come from: source = "..."')
    lines = []
    for name, field in _FIELDS.items():
        value = getattr(synthetic, name)
        if name != "basis" and value != field.default:
            lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    if synthetic.basis:
        lines += ["", "[basis]", *(f'{key} = "{value}"' for key, value in synthetic.basis.items())]
    return "\n".join(lines) + "\n"
