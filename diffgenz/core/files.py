"""Files: shipped data, TOML, and writing whole or not at all."""

import contextlib
import importlib
import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from diffgenz.core.errors import InputError


@contextlib.contextmanager
def written_aside(path: Path, field: str, remedy: str = "choose another place") -> Iterator[Path]:
    """A place beside `path` to write to.

    It becomes `path` when all is written, and is removed where that fails.

    Arguments:
        path: where the file will be.
        field: how an error begins.
        remedy: how an error ends.

    Raises:
        InputError: it cannot be written.
    """
    aside = path.with_name(f".{path.name}.part")
    try:
        yield aside
        aside.replace(path)
    except OSError as error:
        raise InputError(
            f"{field}: {path} cannot be written: {error.strerror or error}; {remedy}"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def data_folder(name: str) -> Path:
    """A shipped data folder: in the wheel under diffgenz/_data, in a checkout beside diffgenz/."""
    package = Path(str(resources.files("diffgenz")))
    inside = package / "_data" / name
    return inside if inside.is_dir() else package.parent / name


def optional(package: str, extra: str, what: str) -> Any:
    """A package that comes with an extra of this one.

    Arguments:
        package: its name.
        extra: the extra that brings it.
        what: what it is needed for.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError:
        raise InputError(
            f"{what}: needs {package}, which is not installed; "
            f'install it with: pip install "diffgenz[{extra}]"'
        ) from None


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The tables of a TOML file.

    Arguments:
        path: where it is.
        what: what it describes, for errors.

    Raises:
        InputError: it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{what}: cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None
