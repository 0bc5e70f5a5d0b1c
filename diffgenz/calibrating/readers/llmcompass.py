"""Kernels of PyTorch in fp16 as LLMCompass measured them (PrincetonUniversity/LLMCompass, BSD-3).

The files have no header; their names say what they hold:

    matmul                     m, n, k, latency in ms, TFLOP/s
    softmax_*, layernorm_*     rows, columns, 1e9 elements/s
    gelu_*                     elements, 1e9 elements/s

transformer and transformerAR are not read: they are times of unnamed operators, without shapes.
"""

import re
from pathlib import Path

import numpy as np

from diffgenz.calibrating.readers.dense_layer import elementwise_samples
from diffgenz.calibrating.readers.frames import frame_of, numbers, words
from diffgenz.calibrating.readers.products import gemm_samples
from diffgenz.calibrating.readers.reader import Layout
from diffgenz.calibrating.samples import Samples
from diffgenz.core.errors import InputError

NUMBER = r"\s*[0-9.e+-]+\s*"
"""A number, with blanks around it."""

MATMUL = re.compile(rf"\d+,\s*\d+,\s*\d+,{NUMBER}ms,{NUMBER}Tflops")
"""How a file of products begins."""

PASSES = ("softmax", "layernorm", "gelu")
"""How the names of files of passes over memory begin."""


def matmul(path: Path) -> list[Samples]:
    """The samples of a matmul file."""
    frame = frame_of(path, ["m", "n", "k", "latency", "rate"])
    frame["latency"] = [word.removesuffix("ms") for word in words(frame, "latency")]
    m, n, k, ms = numbers(frame, ("m", "n", "k", "latency"), path)
    return [gemm_samples([(m, n, k, ms * 1e-3)], "fp16", "llmcompass", "pytorch")]


def elementwise(path: Path) -> list[Samples]:
    """The samples of a softmax, layernorm or gelu file.

    Every element is read once and written once.
    """
    kernel = next(name for name in PASSES if path.stem.startswith(name))
    names = ["elements", "rate"] if kernel == "gelu" else ["rows", "columns", "rate"]
    frame = frame_of(path, names)
    *sizes, rate = numbers(frame, tuple(names), path)
    if (rate <= 0).any():
        raise InputError(
            f"{path}: column 'rate', row {np.argmax(rate <= 0) + 1}: it must be positive; "
            "leave the row out"
        )
    elements = np.prod(sizes, axis=0)
    return [
        elementwise_samples(2 * elements, elements / (rate * 1e9), "fp16", "llmcompass", kernel)
    ]


def _is_matmul(path: Path, beginning: str) -> bool:
    return MATMUL.match(beginning) is not None


def _is_elementwise(path: Path, beginning: str) -> bool:
    names = [name for name in PASSES if path.stem.startswith(name)]
    line = beginning.partition("\n")[0]
    commas = r"\d+," if names == ["gelu"] else r"\d+,\s*\d+,"
    return bool(names) and re.fullmatch(commas + NUMBER, line.strip()) is not None


LAYOUTS = (
    Layout("LLMCompass (matmul)", _is_matmul, matmul),
    Layout("LLMCompass (softmax, layernorm, gelu)", _is_elementwise, elementwise),
)
