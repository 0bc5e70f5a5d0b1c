"""NVIDIA ModelOpt: one algorithm, or one for each layer (MIXED_PRECISION).

A section comes in two spellings: `hf_quant_config.json` has everything under "quantization", and a
newer config.json has `quant_algo` beside groups like those of compressed-tensors. Read as by vLLM,
SGLang and TensorRT-LLM.
"""

from diffgenz.models.checkpoints.compressed_tensors import groups_of
from diffgenz.models.checkpoints.kv_cache import cache_of
from diffgenz.models.checkpoints.rules import Rule, Rules, everywhere, left_wide
from diffgenz.models.checkpoints.schemes import Scheme, integers, scheme
from diffgenz.models.checkpoints.settings import Settings

ALGORITHMS = {
    "FP8": ("fp8", "fp8"),
    "FP8_PER_CHANNEL_PER_TOKEN": ("fp8", "fp8"),
    "FP8_PB_WO": ("fp8_block", None),
    "FP8_PB_REAL": ("fp8_block", "fp8"),
    "FP8_BLOCK_SCALES": ("fp8_block", "fp8"),
    "NVFP4": ("nvfp4", "nvfp4"),
    "NVFP4_AWQ": ("nvfp4", "nvfp4"),
    "W4A16_NVFP4": ("nvfp4", None),
    "W4A8_NVFP4_FP8": ("nvfp4", "fp8"),
    "MXFP8": ("mxfp8", "mxfp8"),
    "MXFP4": ("mxfp4", "mxfp4"),
    "W4A16_MXFP4": ("mxfp4", None),
    "W4A8_MXFP4_FP8": ("mxfp4", "fp8"),
    "W4A8_MXFP4_MXFP8": ("mxfp4", "mxfp8"),
    "W4A16": ("int4", None),
    "W4A16_AWQ": ("int4", None),
    "INT4_AWQ": ("int4", None),
    "W4A8_AWQ": ("int4", "fp8"),
    "W4A8": ("int4", "fp8"),
    "W8A16": ("int8", None),
    "INT8": ("int8", "int8"),
    "W8A8_SQ_PER_CHANNEL": ("int8", "int8"),
    "INT8_SQ": ("int8", "int8"),
}
"""The formats of weights and inputs of each algorithm; inputs of None are in dtype."""

MIXED = "MIXED_PRECISION"


def modelopt(settings: Settings) -> Rules:
    """The algorithm of a section, in either spelling, for all but the modules it excludes.

    Raises:
        InputError: it cannot be read.
    """
    inner = settings.part("quantization") or settings
    name = algorithm_of(settings)
    excluded = (
        *left_wide(inner.texts("exclude_modules"), "exclude_modules"),
        *left_wide(inner.texts("ignore"), "ignore"),
        *left_wide(inner.texts("modules_to_not_convert"), "modules_to_not_convert"),
    )
    cache = cache_of(inner) if inner is settings else cache_of(inner) or cache_of(settings)
    listed = inner.parts("quantized_layers")
    has_groups = inner.get("config_groups") is not None
    if name is None and not listed and has_groups:
        rules, default = groups_of(inner)
        return Rules((*excluded, *rules), default, cache)
    if name is None and not listed:
        if cache is None:
            raise inner.bad("quant_algo", _known())
        return Rules((), {}, cache)
    if name == MIXED and not listed:
        if not has_groups:
            raise inner.bad("quantized_layers", f"must say what is in which format in {MIXED}")
        rules, default = groups_of(inner)
        return Rules((*excluded, *rules), default, cache)
    rules = []
    for entry, part in listed.items():
        if part is None:
            raise inner.bad("quantized_layers", f"says nothing of {entry}")
        rules.append(Rule(entry, _scheme(part), "quantized_layers"))
    usual = None if name in (None, MIXED) else _scheme(inner)
    head = bool(excluded)  # what is not quantised is listed
    return Rules((*rules, *excluded), everywhere(usual, head=head), cache)


def algorithm_of(settings: Settings) -> str | None:
    """The algorithm of a section, in capitals; None where it states none.

    Raises:
        InputError: it is no text.
    """
    inner = settings.part("quantization") or settings
    name = inner.text("quant_algo")
    return None if name is None or name.lower() in ("", "none", "null") else name.upper()


def _known() -> str:
    return f"is not known; known are {', '.join([*ALGORITHMS, MIXED])}"


def _scheme(part: Settings) -> Scheme | None:
    """The scheme of an algorithm, with the group size that stands beside it.

    None where it is "NONE" or there is none.
    """
    name = algorithm_of(part)
    if name is None:
        return None
    if name not in ALGORITHMS:
        raise part.bad("quant_algo", _known())
    weights, activations = ALGORITHMS[name]
    group = part.whole("group_size", "awq_block_size")
    if weights == "int4" and group is not None:
        return integers(4, group, activations=activations)
    return scheme(weights, activations)
