"""Files of traces as engines write them, written without the engines."""

import functools
import io
import json
import pickle
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from diffgenz.core.errors import InputError
from diffgenz.routing.source import load_trace
from diffgenz.routing.trace import Trace

KINDS = {"i4": "IntStorage", "i8": "LongStorage", "f4": "FloatStorage", "f8": "DoubleStorage"}


class TensorLike:
    """An array that is pickled as torch pickles a tensor."""

    def __init__(self, array, offset=0, size=None, stride=None):
        self.array = np.ascontiguousarray(array)
        self.offset = offset
        self.size = self.array.shape if size is None else size
        self.stride = stride or tuple(s // self.array.itemsize for s in self.array.strides)


class StorageLike:
    """The storage of a tensor."""

    def __init__(self, array):
        self.array = array


def _rebuild_tensor_v2(*_arguments):
    raise AssertionError("only its name is written")


_rebuild_tensor_v2.__module__ = "torch._utils"


def torch_save(path, content, monkeypatch, order="little"):
    """Writes `content`, whose arrays are `TensorLike`, as torch.save (2.x) does."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    setattr(utils, "_rebuild_tensor_v2", _rebuild_tensor_v2)  # noqa: B010
    for name in KINDS.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    arrays = []

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            if not isinstance(obj, StorageLike):
                return None
            arrays.append(obj.array)
            kind = getattr(torch, KINDS[obj.array.dtype.str[1:]])
            return ("storage", kind, str(len(arrays) - 1), "cuda:0", obj.array.size)

        def reducer_override(self, obj):
            if isinstance(obj, TensorLike):
                storage = StorageLike(obj.array)
                return _rebuild_tensor_v2, (
                    storage,
                    obj.offset,
                    obj.size,
                    obj.stride,
                    False,
                    OrderedDict(),
                )
            return NotImplemented

    stream = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch", torch)
        patch.setitem(sys.modules, "torch._utils", utils)
        Pickler(stream, protocol=2).dump(content)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", stream.getvalue())
        file.writestr("archive/byteorder", order)
        for number, array in enumerate(arrays):
            if order == "big":
                array = array.byteswap()
            file.writestr(f"archive/data/{number}", array.tobytes())
        file.writestr("archive/version", "3\n")
    return path


def drawn(tokens, layers, experts, k, seed=0):
    """Chosen experts [tokens, layers, k], all different within a token and layer."""
    rng = np.random.default_rng(seed)
    return np.argsort(rng.random((tokens, layers, experts)), axis=2)[..., :k]


IDS = drawn(5, 3, 8, 2)
"""A request of a prompt of three tokens and two generated ones: 3 layers, 2 of 8 experts."""


def whole():
    """A trace of two requests that has every field."""
    return Trace(
        experts=8,
        layers=(3, 4, 9),
        chosen=IDS,
        request=np.array([4, 4, 4, 9, 9]),
        phase=np.array([0, 0, 1, 0, 1]),
        domain=np.array([1, 1, 1, 0, 0]),
        domains=("code", "chat"),
        weights=np.linspace(0, 1, IDS.size).reshape(IDS.shape),
        rank=np.array([0, 0, 0, 7, 7]),
        step=np.array([5, 5, 6, 5, 7]),
        model="a/model",
    )


def lines(path, *documents):
    """Writes documents of JSON, one per line."""
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return path


def csv_of(header, rows):
    """The text of a table in CSV."""
    return "\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n"


def refused(path, message, **asked):
    """Checks that a file is refused in one line, and returns that line."""
    with pytest.raises(InputError, match=message) as caught:
        load_trace(path, **asked)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@functools.lru_cache(maxsize=4)
def maverick(
    seed: int,
    *,
    requests: int = 387,
    layers: int = 24,
    experts: int = 128,
    factors: int = 8,
    domains: int = 3,
) -> tuple[np.ndarray, np.ndarray]:
    """Choices in prefill and in decode: [requests, layers, experts] each.

    Arguments:
        seed: of the random numbers.
        requests: how many.
        layers: how many.
        experts: how many a layer has.
        factors: of which requests differ.
        domains: from which requests come in turn.
    """
    random = np.random.default_rng(seed)
    popularity = random.normal(size=(layers, experts))
    spread = 1.06 * np.exp(0.25 * random.normal(size=(layers, 1)))
    loading = random.normal(size=(layers, experts, factors)) / np.sqrt(factors)
    of_phase = random.normal(size=(layers, experts))
    of_domain = random.normal(size=(domains, factors))
    domain = np.arange(requests) % domains
    topic = 1.47 * of_domain[domain] + 0.95 * random.normal(size=(requests, factors))
    private = 0.62 * random.normal(size=(requests, layers, experts))
    common = spread * popularity + private
    decode = common + np.einsum("lef,rf->rle", loading, topic)
    shifted = topic + 0.28 * random.normal(size=(requests, factors))
    prefill = common + 0.74 * of_phase + np.einsum("lef,rf->rle", loading, shifted)
    tokens = np.maximum(1, random.geometric(1 / 15, size=requests))
    generated = np.maximum(8, random.normal(126, 40, size=requests)).astype(int)
    return _drawn(random, prefill, tokens), _drawn(random, decode, generated)


def _drawn(random: np.random.Generator, logits: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    chances = np.exp(logits - logits.max(-1, keepdims=True))
    chances /= chances.sum(-1, keepdims=True)
    return random.multinomial(np.repeat(tokens[:, None], logits.shape[1], 1), chances).astype(float)
