"""Arrays in zip archives (.npz), read in blocks of rows and never unpickled."""

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from diffgenz.core.errors import InputError

BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError)
"""What reading a damaged archive may raise."""


def broken(path: Path, error: BaseException) -> InputError:
    """What is said of a file that ends too early or was damaged."""
    return InputError(f"{path}: is damaged or ends too early ({error}); copy or record it again")


class Archive:
    """The arrays of a .npz file, by name.

    Arguments:
        path: where it is.

    Raises:
        InputError: it is no .npz file, or damaged, or an array in it is pickled.
    """

    def __init__(self, path: Path):
        self.path = path
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.types: dict[str, np.dtype] = {}
        self._fortran: dict[str, bool] = {}
        try:
            with zipfile.ZipFile(path) as file:
                for member in file.infolist():
                    name = member.filename.removesuffix(".npy")
                    with file.open(member) as stream:
                        shape, fortran, dtype = _header(stream)
                        start = stream.tell()
                    if dtype.hasobject:
                        raise InputError(
                            f"{path}: array {name!r} holds pickled objects, which are not read; "
                            "save it with a number type"
                        )
                    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
                    if member.file_size - start != size:
                        raise ValueError(f"array {name!r} has not the size that it states")
                    self.shapes[name], self.types[name] = shape, dtype
                    self._fortran[name] = fortran
        except InputError:
            raise
        except BROKEN as error:
            raise broken(path, error) from None

    def __contains__(self, name: str) -> bool:
        return name in self.shapes

    def whole(self, name: str) -> np.ndarray:
        """The array called `name`."""
        parts = list(self.blocks(name, max(self.shapes[name][:1] or (1,))))
        return parts[0] if parts else np.zeros(self.shapes[name], self.types[name])

    def blocks(self, name: str, rows: int) -> Iterator[np.ndarray]:
        """The array called `name`, so many rows at a time."""
        shape, dtype = self.shapes[name], self.types[name]
        try:
            with zipfile.ZipFile(self.path) as file, file.open(f"{name}.npy") as stream:
                _header(stream)
                if self._fortran[name] or not shape:  # column by column, or a single number
                    yield _array(stream.read(), dtype, shape, "F" if self._fortran[name] else "C")
                    return
                row = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
                for first in range(0, shape[0], rows):
                    count = min(rows, shape[0] - first)
                    yield _array(stream.read(count * row), dtype, (count, *shape[1:]), "C")
        except BROKEN as error:
            raise broken(self.path, error) from None


def _header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it is stored column by column, and type of an array in the .npy format."""
    version = np.lib.format.read_magic(stream)
    read: Any = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"its .npy format {version} is not known")
    return read(stream)


def _array(data: bytes, dtype: np.dtype, shape: tuple[int, ...], order: Any) -> np.ndarray:
    """An array of bytes, which must be as many as it takes."""
    return np.frombuffer(data, dtype).reshape(shape, order=order)
