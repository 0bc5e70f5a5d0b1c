"""Which formats an engine can load a model in.

An engine serves what its checkpoint holds. From a checkpoint that is not quantised it makes fp8
weights as it loads them (`--quantization fp8`: vLLM `quantization/fp8.py`, SGLang
QUANTIZATION_CHOICES). Any other format needs a checkpoint of its own, and a `--quantization` that
is not the checkpoint's is refused (vLLM `ModelConfig._verify_quantization`).
"""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from diffgenz.core.errors import InputError
from diffgenz.models.checkpoints import Stored, read_stored
from diffgenz.models.checkpoints.sections import SIDECAR
from diffgenz.models.files import locate
from diffgenz.models.model import Model
from diffgenz.models.variants import variants_of
from diffgenz.operators.precision import Precision

ON_THE_FLY = "fp8"
"""The format that engines make of 16-bit weights as they load them."""

PLAIN = ("bf16", "fp16", "fp32")
"""Formats that are not quantised, between which engines convert (`--dtype`)."""


class Offered(NamedTuple):
    """The formats that a model is offered in.

    Arguments:
        checkpoint: the formats of the linear layers that its own checkpoint quantises, that of most
            weights first; empty where it is not quantised.
        method: the quantisation method of that checkpoint; "" where it is not quantised.
        variants: the id of another checkpoint, by its format.
    """

    checkpoint: tuple[str, ...]
    method: str
    variants: dict[str, str]

    def refusal(self, precision: Precision) -> str | None:
        """Why no engine can load the model in these formats; None where one can."""
        wanted = precision.weights
        if self.loads_itself(precision) or self.variant(precision) is not None:
            return None
        if self.checkpoint:
            known = ", ".join(["checkpoint", *self.variants])
            return (
                f"weights {wanted}: the checkpoint is in {self.checkpoint[0]}, and no known "
                f"variant is in {wanted}; use one of {known}, or the config.json of one that is"
            )
        known = ", ".join(dict.fromkeys(["bf16", ON_THE_FLY, *self.variants]))
        return (
            f"weights {wanted}: no known checkpoint is in {wanted}, and engines make only "
            f"{ON_THE_FLY} themselves; use one of {known}, or the config.json of one that is"
        )

    def loads_itself(self, precision: Precision) -> bool:
        """Whether an engine loads its own checkpoint in these formats."""
        wanted = precision.weights
        if self.checkpoint:
            return wanted in self.checkpoint
        return wanted in PLAIN or self.made_on_the_fly(precision)

    def made_on_the_fly(self, precision: Precision) -> bool:
        """Whether the engine quantises the weights as it loads them."""
        return not self.checkpoint and precision.weights == ON_THE_FLY

    def variant(self, precision: Precision) -> str | None:
        """The id of another checkpoint that has these formats; None where its own has, or none."""
        wanted = precision.weights
        if self.loads_itself(precision):
            return None
        return next(
            (
                each
                for format, each in self.variants.items()
                if format == wanted or (format in PLAIN and wanted in PLAIN)
            ),
            None,
        )


@lru_cache
def _stored(source: str, *changed: int) -> Stored | None:
    """`read_stored`, which takes a second for long lists of modules, once for each state of files.

    Arguments:
        source: the model.
        changed: when each file was changed, in ns.
    """
    return read_stored(source)


def _changed(path: Path) -> int:
    """When a file was changed, in ns; 0 where there is none."""
    return path.stat().st_mtime_ns if path.is_file() else 0


def offered(model: Model) -> Offered | None:
    """The formats that a model is offered in.

    None where nothing is known of its checkpoint: it was built by hand, its sizes are those of
    another model, or its quantisation cannot be read (which `load_precision` reports).
    """
    if not model.source:
        return None
    try:
        located = locate(model.source)
        if located.note:
            return None
        files = (located.path, located.path.with_name(SIDECAR))
        stored = _stored(model.source, *(_changed(each) for each in files))
    except InputError:
        return None
    variants = variants_of(model.name)
    if stored is None:
        return Offered((), "", variants)
    kinds = sorted(stored.formats.items(), key=lambda each: each[0] != "experts")
    narrow = (each.weights for _, each in kinds if each.weights not in PLAIN)
    return Offered(tuple(dict.fromkeys(narrow)), stored.method, variants)
