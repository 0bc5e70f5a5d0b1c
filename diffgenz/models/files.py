"""Where a model's config.json is, and what JSON files hold.

Nothing here imports JAX, so that `diffgenz list` is quick, and nothing is downloaded.
"""

import json
import os.path
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from diffgenz.core.errors import InputError, unknown
from diffgenz.models import hub_cache
from diffgenz.models.names import relatives

FOLDER = Path(__file__).parent / "configs"

LARGEST = 2**26
"""Bytes of the largest file that is read; config.json files have kB, weights GB."""

STAND_INS = {
    "params.json": "Mistral's own format; take the config.json of the version for transformers",
    "adapter_config.json": "an adapter; give the model that it is for",
    "model_index.json": "a pipeline of diffusers; give the folder of its language model",
}
"""What a folder without a config.json may hold instead, and what to do about it."""


class Located(NamedTuple):
    """Where the config.json of a model is.

    Arguments:
        name: what to call the model: its Hugging Face id, or what its file or folder is called.
        path: the file.
        note: what a reader should know where the sizes are those of another, shipped model.
    """

    name: str
    path: Path
    note: str = ""

    @property
    def shipped(self) -> bool:
        """Whether it is one of the package's own files, which stand beside those of other models.

        All it says is in that one file.
        """
        return FOLDER in self.path.parents


NESTED = ("text_config", "llm_config", "language_config", "thinker_config")
"""The sections that hold the language model, or that hold a section that holds it."""

MAMBA_SSM = "mamba_ssm"
"""The `model_type` of files that the mamba_ssm package writes, which state none."""


def kind_of(config: Mapping[str, Any]) -> Any:
    """The `model_type` that a config.json states, or whose fields it has; None without one."""
    return config.get("model_type") or (MAMBA_SSM if "ssm_cfg" in config else None)


def list_models() -> list[str]:
    """Hugging Face ids of the shipped models, sorted."""
    return sorted(f"{path.parent.name}/{path.stem}" for path in FOLDER.glob("*/*.json"))


def locate(model: str | Path) -> Located:
    """Where the config.json of a model is.

    These are tried in turn: a file or folder of that path; a shipped model, then one in Hugging
    Face's cache, of that id, in any case; the one such model of that bare name; the one shipped
    model of the same architecture (`names.relatives`).

    Arguments:
        model: the path or the name.

    Raises:
        InputError: there is none, or there are several; the candidates or the nearest are named.
    """
    if not isinstance(model, str | Path):
        raise InputError(f'model: a {type(model).__name__} is no name; write "ORG/NAME", or a path')
    text = str(model).strip()
    if not text:
        raise InputError("model: '' names none; give an id, or the path of a config.json")
    path = Path(os.path.expanduser(text))
    if os.path.isfile(path):  # unlike Path's, it is False for names that no file can have
        return Located(_name_of(path), path)
    inside = _config_in(path)
    if inside is not None:
        return Located(_name_of(inside), inside)
    found = _named(text.rstrip("/"))
    if found is not None:
        return found
    if os.path.isdir(path):
        raise _without_config(path)
    if path.suffix == ".json" or path.is_absolute() or text[0] in "~." or text.count("/") > 1:
        raise InputError(f"model: there is no file {text}; give a config.json or its folder")
    nearest = str(unknown("model", text, {*list_models(), *hub_cache.cached()}))
    joint = " " if nearest.endswith("?") else "; "
    raise InputError(f"{nearest}{joint}(the path of any config.json, or of its folder, will do)")


def read_config(model: str | Path) -> tuple[str, dict[str, Any]]:
    """The name and the config.json of a model.

    Arguments:
        model: a shipped model, one in Hugging Face's cache, or the path of a file or a folder, as
            in `locate`.

    Raises:
        InputError: as in `locate`, or a file that is not a JSON object.
    """
    located = locate(model)
    return located.name, read_object(located.path)


def read_sidecar(model: str | Path, name: str) -> dict[str, Any] | None:
    """What another JSON file in the folder of a model's config.json holds.

    None where there is no such file, as for all shipped models.

    Arguments:
        model: as in `read_config`.
        name: of the file, such as "hf_quant_config.json".

    Raises:
        InputError: as in `locate`, or a file that is not a JSON object.
    """
    located = locate(model)
    path = located.path.with_name(name)
    beside = located.path.name == "config.json" and not located.shipped
    return read_object(path) if beside and os.path.isfile(path) else None


def demand_own_files(model: str | Path) -> None:
    """Refuse a model of whose checkpoint nothing is known but the sizes, which another one has.

    Raises:
        InputError: it is such a model, or as in `locate`.
    """
    located = locate(model)
    if located.note:
        raise InputError(
            f"model: {located.note}: give the path of its config.json or of its folder, or state "
            "the formats themselves"
        )


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file: UTF-8, or UTF-16 or -32, with or without a byte-order mark.

    NaN, Infinity and -Infinity are numbers, as Python writes them.

    Raises:
        InputError: it cannot be read, or is not a JSON object.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"model: {path} is too large for a config.json; give that file")
        content = path.read_bytes()
        text = content.decode(json.detect_encoding(content))
        value = json.loads(text.removeprefix("\ufeff"))
    except OSError as error:
        raise InputError(f"model: {path} cannot be read ({error.strerror or error})") from None
    except RecursionError:
        raise InputError(f"model: {path} is nested too deeply; give a config.json") from None
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"model: {path} is not valid JSON ({error}); is it truncated?") from None
    if not isinstance(value, dict):
        raise InputError(f"model: {path} holds no JSON object; give a Hugging Face config.json")
    return value


def _config_in(folder: Path) -> Path | None:
    """The config.json of a folder, or of a model's folder in Hugging Face's cache."""
    path = folder / "config.json"
    if os.path.isfile(path):
        return path
    in_cache = folder.absolute().name.startswith(hub_cache.PREFIX)
    return hub_cache.config_in(folder) if in_cache else None


def _name_of(path: Path) -> str:
    """What to call the model of a file.

    Its id where the file is in Hugging Face's cache, else the name of its folder, or its own where
    it is not called config.json.

    Raises:
        InputError: it is a file of another kind.
    """
    folder = path.absolute().parent
    if path.name in STAND_INS:
        raise _stand_in(path)
    if path.name != "config.json":
        return path.stem
    return hub_cache.model_of(folder) or folder.name or path.stem


def _named(name: str) -> Located | None:
    """The model of a name, shipped, or in Hugging Face's cache; None where there is none.

    Raises:
        InputError: there are several of that name, or the one in the cache has no config.json.
    """
    shipped, cached = list_models(), hub_cache.cached()
    for known in (shipped, cached):
        exact = _only(name, [each for each in known if each.lower() == name.lower()])
        if exact is not None:
            return _known(exact, cached)
    if "/" not in name:
        ids = dict.fromkeys((*shipped, *cached))
        bare = [each for each in ids if each.rpartition("/")[2].lower() == name.lower()]
        same = _only(name, bare)
        if same is not None:
            return _known(same, cached)
    relative = _only(name, relatives(name, shipped)) if name.count("/") < 2 else None
    if relative is None:
        return None
    note = f"{name} is not shipped: sizes of {relative}; formats of a checkpoint need its files"
    return Located(name, FOLDER / f"{relative}.json", note)


def _known(name: str, cached: dict[str, Path]) -> Located:
    """Where a model is that is shipped or in the cache.

    Raises:
        InputError: it is in the cache, without a config.json.
    """
    path = FOLDER / f"{name}.json"
    if path.is_file():
        return Located(name, path)
    config = hub_cache.config_in(cached[name])
    if config is None:
        raise _without_config(cached[name])
    return Located(name, config)


def _only(name: str, candidates: Iterable[str]) -> str | None:
    """The one candidate, of which `name` itself is the first; None where there is none.

    Raises:
        InputError: there are several.
    """
    found = list(candidates)
    if name in found:
        return name
    if len(found) > 1:
        raise InputError(f"model: {name!r} could be {' or '.join(sorted(found))}; say which")
    return found[0] if found else None


def _without_config(folder: Path) -> InputError:
    """The error for a folder that has no config.json."""
    for name in STAND_INS:
        if (folder / name).is_file():
            return _stand_in(folder / name)
    return InputError(f"model: {folder} has no config.json; add it, or give the path of one")


def _stand_in(path: Path) -> InputError:
    """The error for a file in the place of a config.json."""
    return InputError(f"model: {path} is {STAND_INS[path.name]}")
