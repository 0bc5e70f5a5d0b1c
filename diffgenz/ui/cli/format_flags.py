"""The flags that choose number formats, and what people are told about a checkpoint's own."""

import argparse
from typing import Any

from diffgenz.hardware.platform import Accelerator
from diffgenz.models.checkpoint import load_precision, quantization_settings, read_stored
from diffgenz.models.files import read_config
from diffgenz.operators.precision import Precision

CHECKPOINT = "checkpoint"
"""The value of `--weights` that takes what the checkpoint is in."""


def precision_of(
    options: argparse.Namespace, accelerator: Accelerator | None
) -> tuple[Precision, str]:
    """The formats that the flags ask for, and the line that says so."""
    given: dict[str, Any] = {
        name: getattr(options, name) for name in ("dtype", "activations", "kv_cache", "messages")
    }
    if options.weights != CHECKPOINT:
        precision = Precision(weights=options.weights, **given)
        return precision, precision.summary + (
            _hint(options.model) if options.weights is None else ""
        )
    precision = load_precision(options.model, accelerator, **given)
    return precision, precision.summary + _reasons(options, precision, accelerator)


def precision_json(precision: Precision) -> dict[str, Any]:
    """The formats, and whether routed experts alone are quantised."""
    return {**precision.names, "experts_only": precision.experts_only}


def _hint(model: str) -> str:
    settings = quantization_settings(read_config(model)[1])
    if settings is None:
        return ""
    return f"; the checkpoint is quantised ({settings.get('quant_method', 'no method stated')}): --weights {CHECKPOINT} takes its formats"


def _reasons(
    options: argparse.Namespace, precision: Precision, accelerator: Accelerator | None
) -> str:
    stored = read_stored(*read_config(options.model))
    if stored is None:
        return "; the checkpoint is not quantised"
    text = f"; as the checkpoint ({stored.method})"
    if precision.experts_only:
        text += f", which leaves all layers but its experts in {precision.dtype}"
    if (
        accelerator is not None
        and options.activations is None
        and precision.activations != (stored.activations or precision.dtype)
    ):
        text += f", but {accelerator.name} does not multiply {stored.activations}: activations stay {precision.dtype}"
    return text
