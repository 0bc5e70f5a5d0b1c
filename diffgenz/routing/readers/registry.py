"""All readers of traces and counts; the first that knows a file reads it."""

from pathlib import Path

from diffgenz.core.errors import InputError
from diffgenz.routing.readers import documents, npz, recorder, tables
from diffgenz.routing.readers.reader import Reader

READERS: tuple[Reader, ...] = (
    *npz.READERS,
    *recorder.READERS,
    *tables.READERS,
    *documents.READERS,
)
"""In the order in which they are asked."""


def reader_of(path: Path) -> Reader:
    """The reader of a file.

    Raises:
        InputError: there is no such file, it is empty, or no reader knows it.
    """
    try:
        if not path.stat().st_size:
            raise InputError(f"{path}: is empty; record it again")
        found = next((reader for reader in READERS if reader.knows(path)), None)
    except OSError as error:
        raise InputError(f"trace: cannot read {path}: {error.strerror}") from None
    if found is None:
        names = "; ".join(reader.name for reader in READERS)
        raise InputError(f"{path}: no reader knows this file; known are {names}")
    return found
