"""What `torch.save` writes, read without torch: a zip archive with a pickle and the raw tensors.

A pickle can run any code. This one may name only what tensors, lists and dictionaries are made of;
a file that names anything else is refused before anything of it is used.

Format: `torch.serialization` (2.x): members `data.pkl`, `byteorder` and `data/KEY`, one for each
storage; a tensor is a view of a storage, by offset, size and stride.
"""

import collections
import pickle
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.routing.readers.archive import BROKEN, broken

TYPES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
"""The number type of each kind of storage. (bfloat16, which NumPy has not, is left out.)"""


class Storage(NamedTuple):
    """A storage of numbers: the member of the archive, the type and how many."""

    key: str
    dtype: np.dtype
    count: int


class Tensor(NamedTuple):
    """A view of a storage, whose numbers are read when they are asked for."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class TorchFile:
    """A file of `torch.save`.

    Arguments:
        path: where it is.

    Raises:
        InputError: it is none, is damaged, or its pickle names what is not allowed.
    """

    def __init__(self, path: Path):
        self.path = path
        if not zipfile.is_zipfile(path):
            raise InputError(
                f"{path}: is no whole zip archive, which torch.save writes; if it is of a torch "
                "before 1.6, load it there and save it again"
            )
        try:
            self.file = zipfile.ZipFile(path)
            names = self.file.namelist()
            inside = [name for name in names if name.endswith("data.pkl")]
            if len(inside) != 1:
                raise InputError(f"{path}: is a zip archive without data.pkl; give torch.save's")
            self.folder = inside[0].removesuffix("data.pkl")
            order = f"{self.folder}byteorder"
            self.little = order not in names or self.file.read(order).strip() == b"little"
            with self.file.open(inside[0]) as stream:
                self.content = _Unpickler(stream, self).load()
        except InputError:
            raise
        except (*BROKEN, pickle.UnpicklingError, TypeError, AttributeError, IndexError) as error:
            raise broken(path, error) from None

    def array(self, tensor: Any) -> np.ndarray:
        """The numbers of a tensor; lists become arrays.

        Raises:
            InputError: the archive does not hold them.
        """
        if not isinstance(tensor, Tensor):
            return np.asarray(tensor)
        storage, size, stride = tensor.storage, tensor.size, tensor.stride
        last = tensor.offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
        if 0 in size:
            return np.zeros(size, storage.dtype)
        try:
            data = self.file.read(f"{self.folder}data/{storage.key}")
            dtype = storage.dtype.newbyteorder("<" if self.little else ">")
            flat = np.frombuffer(data, dtype)
            if min(stride, default=0) < 0 or tensor.offset < 0 or last >= len(flat):
                raise ValueError("a tensor reaches beyond its storage")
        except BROKEN as error:
            raise broken(self.path, error) from None
        steps = [each * flat.itemsize for each in stride]
        return np.lib.stride_tricks.as_strided(
            flat[tensor.offset :], size, steps, writeable=False
        ).copy()


class _Unpickler(pickle.Unpickler):
    """Unpickles tensors, lists, dictionaries, numbers and text; nothing else."""

    def __init__(self, stream: Any, file: TorchFile):
        super().__init__(stream, encoding="utf-8")
        self.of = file

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the pickle stands for."""
        if (module, name) in (
            ("torch._utils", "_rebuild_tensor_v2"),
            ("torch._utils", "_rebuild_tensor"),
        ):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch", "Size"):
            return tuple
        if module in ("torch", "torch.storage") and name in TYPES:
            return np.dtype(TYPES[name])
        raise InputError(
            f"{self.of.path}: its pickle names {module}.{name}, which a trace does not need; "
            "it is not read"
        )

    def persistent_load(self, pid: Any) -> Storage:
        """A storage."""
        kind, dtype, key, _place, count = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or "/" in str(key):
            raise pickle.UnpicklingError("an object outside of the pickle is no storage")
        return Storage(str(key), dtype, int(count))


def _tensor(storage: Storage, offset: int, size: Any, stride: Any, *_rest: Any) -> Tensor:
    """What stands for `torch._utils._rebuild_tensor_v2`."""
    if not isinstance(storage, Storage) or len(size) != len(stride):
        raise pickle.UnpicklingError("a tensor is not made of a storage")
    return Tensor(storage, int(offset), tuple(map(int, size)), tuple(map(int, stride)))
