"""Which formats a benchmark means: those that it says, its checkpoint's, or those in its name."""

from diffgenz.core.errors import InputError
from diffgenz.hardware.specs import read_spec
from diffgenz.models.checkpoints import load_precision, quantization_section, read_source
from diffgenz.models.files import locate
from diffgenz.models.names import words
from diffgenz.models.variants import variants_of
from diffgenz.scenario.words import CHECKPOINT

_BITS = {
    "fp8": "fp8",
    "fp8_block": "fp8",
    "nvfp4": "fp4",
    "mxfp4": "fp4",
    "int4": "int4",
    "bf16": "bf16",
    "fp16": "bf16",
    "int8": "int8",
}
"""How many bits our formats have, as benchmarks call them."""

_SAID = {
    **dict.fromkeys(("fp8", "w8a8_fp8", "fp8_e4m3", "modelopt", "modelopt_fp8"), "fp8"),
    **dict.fromkeys(("fp8_static", "fp8_ootb"), "fp8"),
    "fp8_block": "fp8_block",
    **dict.fromkeys(("fp4", "nvfp4", "modelopt_fp4", "mxfp4"), "fp4"),
    **dict.fromkeys(("int4", "awq", "gptq", "awq_marlin", "gptq_marlin", "int4_wo"), "int4"),
    **dict.fromkeys(("bf16", "bfloat16", "fp16", "float16", "half", "none"), "bf16"),
    **dict.fromkeys(("int8", "w8a8_int8"), "int8"),
}
"""What benchmarks call the format of the weights."""

_CONTAINERS = ("compressed-tensors", "compressed_tensors", "quark", "auto", "torchao")
"""What says how a checkpoint is stored, and not in which format."""

_IN_NAMES = {
    **dict.fromkeys(("fp8", "fp8a8", "w8a8fp8"), "fp8"),
    **dict.fromkeys(("fp4", "nvfp4", "mxfp4"), "fp4"),
    **dict.fromkeys(("awq", "gptq", "int4", "4bit", "w4a16"), "int4"),
    **dict.fromkeys(("bf16", "fp16"), "bf16"),
    **dict.fromkeys(("int8", "w8a8"), "int8"),
}
"""Words of models' names that say the format of their weights."""


def formats_named(model: str, system: str, precision: str) -> dict[str, str]:
    """The words for the formats of a benchmark: the checkpoint's own, unless it says others.

    Arguments:
        model: as `--model` says it.
        system: as `--system` says it.
        precision: what the file says of the format of the weights; "" for nothing.

    Returns:
        Values by word; where a checkpoint is as that of the shipped model with its sizes, the model
        is that one.

    Raises:
        InputError: a format that is not known.
    """
    found = locate(model)
    base = f"{found.path.parent.name}/{found.path.stem}" if found.note else model
    own = None
    if quantization_section(read_source(base)) is not None:
        own = _BITS.get(load_precision(base).linear_format.partition("/")[0])
    said = "" if precision.lower() in _CONTAINERS else precision.lower()
    asked = _SAID.get(said)
    if said and asked is None:
        raise InputError(f"precision: {precision!r} is not known; give --weights, --activations")
    if asked is None and found.note:
        asked = _in_name(model)
    if asked is None and precision and own is None:
        raise InputError(
            f"precision: {precision!r} says no format, nor does the name of {model}; give --weights"
        )
    if own is not None and asked in (own, None, *(("fp8_block",) if own == "fp8" else ())):
        return {"weights": CHECKPOINT} | ({"model": base} if found.note else {})
    if asked in (None, "bf16"):
        return {}
    if asked == "int4":
        return {"weights": "int4"}
    fours = "nvfp4" if "nvfp4" in read_spec(system).peak_flops else "mxfp4"
    format = fours if asked == "fp4" else str(asked)
    return {"weights": format, "activations": format}


def _in_name(model: str) -> str | None:
    """The format that the name of a checkpoint says, or that its publisher's is known to have."""
    for format, each in variants_of(model).items():
        if each.lower() == model.lower():
            return _SAID.get(format, format)
    return next((_IN_NAMES[word] for word in words(model) if word in _IN_NAMES), None)
