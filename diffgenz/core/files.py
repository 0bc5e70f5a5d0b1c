"""Files: where shipped data is, how TOML is read, and how a file is written whole or not at all."""

import contextlib
import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from diffgenz.core.errors import InputError


@contextlib.contextmanager
def written_aside(path: Path, field: str, remedy: str = "choose another place") -> Iterator[Path]:
    """A file beside `path` to write to, which becomes `path` when all is written.

    Where writing fails it is removed, and `path` stays as it was.

    Arguments:
        path: the file to write.
        field: what the error begins with: the name of the option that gave the path.
        remedy: what the error ends with: what to do instead.

    Raises:
        InputError: the file cannot be written.
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
    """The shipped data folder called `name`.

    It is under diffgenz/_data in an installed wheel, and beside diffgenz/ in a checkout.
    """
    package = Path(str(resources.files("diffgenz")))
    inside = package / "_data" / name
    return inside if inside.is_dir() else package.parent / name


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The tables of the file at `path`.

    Arguments:
        path: the file.
        what: what the file is, such as "system"; an error begins with it.

    Raises:
        InputError: the file cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{what}: cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None
