"""Tables as files: reading one, and the numbers of its columns."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffgenz.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def frame_of(path: Path, **options: object) -> "pd.DataFrame":
    """The table at `path`, parquet or CSV (`options`: of pandas' read_csv).

    Raises:
        InputError: it cannot be read, or pandas and pyarrow are missing.
    """
    try:
        import pandas as pd

        return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, **options)
    except ImportError:
        raise InputError(f"{path}: reading tables needs pandas and pyarrow; pip install 'diffgenz[tables]'") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def numbers(frame: "pd.DataFrame", names: tuple[str, ...], path: Path) -> tuple[np.ndarray, ...]:
    """Columns as float64.

    Raises:
        InputError: the table has no rows, or a value is no finite number (it names column, value and row).
    """
    import pandas as pd

    if not len(frame):
        raise InputError(f"{path}: it has no rows that can be used; check that the measurement ran to its end")
    found = []
    for name in names:
        values = pd.to_numeric(frame[name], errors="coerce").to_numpy(float)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            row, value = frame.index[bad[0]], frame[name].iloc[bad[0]]
            raise InputError(f"{path}: column {name!r}, row {row + 1}: {value!r} is no number; fill it in, or leave the row out")
        found.append(values)
    return tuple(found)


def named(frame: "pd.DataFrame", column: str, names: dict[str, str], path: Path) -> np.ndarray:
    """A column of words, each replaced by what `names` calls it.

    Raises:
        InputError: a word that `names` does not have.
    """
    words = frame[column].astype(str)
    unknown = [word for word in words.unique() if word not in names]
    if unknown:
        raise InputError(f"{path}: column {column!r}: {unknown[0]!r} is not known; it is one of {', '.join(names)}: leave other rows out")
    return words.map(names).to_numpy(str)
