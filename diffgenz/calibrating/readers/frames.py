"""Tables as files: reading one, and taking numbers and words from its columns."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffgenz.core.errors import InputError

if TYPE_CHECKING:
    import pandas


def frame_of(path: Path, names: list[str] | None = None) -> "pandas.DataFrame":
    """The table in a file, parquet or CSV.

    Arguments:
        path: the file.
        names: names for the columns of a CSV file without a header.

    Raises:
        InputError: it cannot be read, or pandas and pyarrow are missing.
    """
    try:
        import pandas

        if path.suffix == ".parquet":
            return pandas.read_parquet(path)
        if names is None:
            return pandas.read_csv(path)
        return pandas.read_csv(path, header=None, names=names, skipinitialspace=True)
    except ImportError:
        raise InputError(
            f"{path}: reading tables needs pandas and pyarrow; pip install 'diffgenz[tables]'"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def numbers(
    frame: "pandas.DataFrame", names: tuple[str, ...], path: Path
) -> tuple[np.ndarray, ...]:
    """Columns as float64.

    Raises:
        InputError: the table has no rows, or a value is no finite number; the message names column,
            value and row.
    """
    import pandas

    if not len(frame):
        raise InputError(
            f"{path}: it has no rows that can be used; check that the measurement ran to its end"
        )
    found = []
    for name in names:
        values = np.asarray(pandas.to_numeric(frame[name], errors="coerce"), np.float64)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            row, value = frame.index[bad[0]], str(words(frame, name)[bad[0]])
            raise InputError(
                f"{path}: column {name!r}, row {row + 1}: {value!r} is no number; "
                "fill it in, or leave the row out"
            )
        found.append(values)
    return tuple(found)


def words(frame: "pandas.DataFrame", column: str) -> np.ndarray:
    """A column as text; "nan" where it is empty."""
    return np.asarray(frame[column].astype(str), str)


def rows_where(frame: "pandas.DataFrame", which: np.ndarray) -> "pandas.DataFrame":
    """The rows where `which` is true."""
    return frame.take(np.flatnonzero(which))


def groups(frame: "pandas.DataFrame", column: str) -> "Iterator[tuple[str, pandas.DataFrame]]":
    """The words of a column, each with its rows."""
    column_words = words(frame, column)
    for word in np.unique(column_words):
        yield str(word), rows_where(frame, column_words == word)


def named(frame: "pandas.DataFrame", column: str, names: dict[str, str], path: Path) -> np.ndarray:
    """A column of words, each replaced by what `names` calls it.

    Raises:
        InputError: a word that `names` does not have.
    """
    found = words(frame, column)
    for word in np.unique(found):
        if word not in names:
            raise InputError(
                f"{path}: column {column!r}: {str(word)!r} is not known; "
                f"it is one of {', '.join(names)}: leave other rows out"
            )
    return np.array([names[word] for word in found], str)


def flags(frame: "pandas.DataFrame", column: str, path: Path) -> np.ndarray:
    """A column of True and False.

    Raises:
        InputError: it has something else.
    """
    return named(frame, column, {"True": "yes", "False": "no"}, path) == "yes"
