"""Files are written whole or not at all."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from diffgenz.core.errors import InputError


@contextlib.contextmanager
def written_aside(path: Path, field: str, remedy: str = "choose another place") -> Iterator[Path]:
    """A place beside `path` to write to: it becomes `path` when all is written, and is removed where that fails.

    Arguments:
        field, remedy: how the error begins and ends.

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
