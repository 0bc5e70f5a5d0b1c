"""The formats of a checkpoint, as its config.json states them.

They are read from `quantization_config` (older files: `compression_config`) and `torch_dtype`.
Field names are those of transformers (utils/quantization_config.py), compressed-tensors, NVIDIA
ModelOpt and AMD Quark, and those that vLLM reads of these
(vllm/model_executor/layers/quantization).

What all methods leave unquantised (embedding, LM head, norms, routers, vision towers) stays in
dtype here too. Where a mixture of experts leaves further layers unquantised, only its routed
experts count as quantised.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from diffgenz.core.errors import InputError, unknown
from diffgenz.core.formats import FORMATS
from diffgenz.core.smooth import as_leaf
from diffgenz.hardware.platform import Accelerator
from diffgenz.models.files import demand_own_files, read_config
from diffgenz.operators.gear import Gear
from diffgenz.operators.precision import Precision

Settings = Mapping[str, Any]

_REMEDY = "give the formats themselves: weights, activations"


class Stored(NamedTuple):
    """The formats that a quantised checkpoint is stored in and meant to be computed in.

    Arguments:
        method: its quant_method.
        weights: the format of the linear layers' weights.
        weight_size: B per weight, scales included.
        activations: the format of the linear layers' inputs; None for dtype.
        kv_cache: the format of keys and values; None for dtype.
        experts_only: whether the routed experts alone are quantised.
    """

    method: str
    weights: str
    weight_size: float
    activations: str | None = None
    kv_cache: str | None = None
    experts_only: bool = False


def load_precision(
    source: str | Path,
    accelerator: Accelerator | None = None,
    *,
    dtype: str | None = None,
    activations: str | None = None,
    kv_cache: str | Gear | None = None,
    messages: str | None = None,
) -> Precision:
    """The precision that a checkpoint is meant to be served in.

    Arguments:
        source: the id of a shipped model, or the path of a config.json or its folder, as in
            `load_model`.
        accelerator: where it is served. Activations in a format that it does not multiply stay in
            dtype, while weights stay narrow (W8A16). Default: one that multiplies all formats.
        dtype: as in `Precision`. Default: what the checkpoint says.
        activations: as in `Precision`. Default: what the checkpoint says.
        kv_cache: as in `Precision`. Default: what the checkpoint says.
        messages: as in `Precision`. Default: dtype.

    Raises:
        InputError: no such source, or one whose sizes are known from another model, a quantisation
            that is not known or that no `Precision` can express, or an unknown dtype.
    """
    demand_own_files(source)
    name, config = read_config(source)
    stored = read_stored(name, config)
    dtype = dtype or _dtype(name, config)
    if stored is None:
        return Precision(dtype, None, activations, kv_cache, messages)

    def precision(inputs: str | None) -> Precision:
        return Precision(
            dtype,
            stored.weights,
            inputs,
            kv_cache or stored.kv_cache,
            messages,
            {"attention": dtype, "mlp": dtype} if stored.experts_only else None,
        )

    result = precision(activations or stored.activations)
    lacks = accelerator is not None and result.linear_peak not in accelerator.peak_flops
    if activations is None and lacks:
        result = precision(None)
    return result.with_sizes(
        result.dtype_size,
        as_leaf(stored.weight_size),
        result.activation_size,
        result.kv_cache_size,
        result.message_size,
    )


def read_stored(name: str, config: Settings) -> Stored | None:
    """What the checkpoint of a config.json is quantised to; None where it is not quantised.

    Arguments:
        name: what error messages call the checkpoint.
        config: the content of its config.json.

    Raises:
        InputError: a method that is not known, settings that are missing, or formats that vary
            from layer to layer.
    """
    settings = quantization_settings(config)
    if settings is None:
        return None
    default = "compressed-tensors" if "config_groups" in settings else None
    method = settings.get("quant_method", default)
    if method not in METHODS:
        raise InputError(
            f"{name}: quantization_config: {unknown('quant_method', method, METHODS)}; {_REMEDY}"
        )
    try:
        stored = METHODS[method](settings)
    except (KeyError, TypeError, AttributeError, ZeroDivisionError, StopIteration) as error:
        raise InputError(
            f"{name}: quantization_config: cannot read {method} ({error!r}); {_REMEDY}"
        ) from None
    stored = stored._replace(method=method, kv_cache=_cache(settings))
    return stored._replace(experts_only=_experts_only(name, _sections(config), settings))


def quantization_settings(config: Settings) -> Settings | None:
    """What a config.json, or the language model in it, says of its quantisation.

    None where it says nothing.
    """
    keys = ("quantization_config", "compression_config")
    return next(
        (s[key] for s in _sections(config) for key in keys if isinstance(s.get(key), Mapping)), None
    )


def _sections(config: Settings) -> list[Settings]:
    """The whole config.json, and its part about the language model where it has one."""
    return [
        section for section in (config, config.get("text_config")) if isinstance(section, Mapping)
    ]


def _dtype(name: str, config: Settings) -> str:
    """The format of what is not quantised; bf16 where the file says nothing.

    Raises:
        InputError: a dtype that is not known.
    """
    keys = ("torch_dtype", "dtype")
    found = (s[key] for s in _sections(config) for key in keys if s.get(key) is not None)
    stated = next(found, "bfloat16")
    names = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
    if stated not in names:
        raise InputError(
            f"{name}: torch_dtype: {stated!r} is not known; known are {', '.join(names)}"
        )
    return names[stated]


def _fp8(settings: Settings) -> Stored:
    block = settings.get("weight_block_size")
    if block is None:
        return Stored("", "fp8", FORMATS["fp8"].size, "fp8")
    return Stored("", "fp8_block", 1 + 4 / (block[0] * block[1]), "fp8")


def _integers(bits: int, group: int | None, zeros: bool, activations: str | None = None) -> Stored:
    """Integer weights that share a 16-bit scale, and possibly a zero point, in groups.

    Arguments:
        bits: of each weight, and of each zero point.
        group: weights of a group; -1 or None: a channel, whose scale is too small to count.
        zeros: whether groups have a zero point.
        activations: the format of the linear layers' inputs; None for dtype.

    Raises:
        InputError: a number of bits that is no format here.
    """
    name = f"int{bits}"
    if name not in FORMATS:
        raise InputError(f"quantization_config: {bits}-bit weights are no format here; {_REMEDY}")
    shared = 0.0 if group is None or group < 1 else (2 + zeros * bits / 8) / group
    return Stored("", name, bits / 8 + shared, activations)


def _gptq(settings: Settings) -> Stored:
    return _integers(settings["bits"], settings.get("group_size"), not settings.get("sym", True))


def _awq(settings: Settings) -> Stored:
    return _integers(
        settings.get("bits", 4),
        settings.get("group_size", 128),
        bool(settings.get("zero_point", True)),
    )


def _bitsandbytes(settings: Settings) -> Stored:
    """LLM.int8(), NF4 and FP4.

    LLM.int8() multiplies in int8. NF4 and FP4 have one scale for 64 weights. It is an fp32 number,
    or with double quantisation an 8-bit one, of which 256 share an fp32 scale (QLoRA,
    arXiv 2305.14314).
    """
    if settings.get("load_in_8bit") or settings.get("_load_in_8bit"):
        return Stored("", "int8", 1.0, "int8")
    scale = 1 + 4 / 256 if settings.get("bnb_4bit_use_double_quant") else 4
    return Stored("", "int4", 0.5 + scale / 64)


def _number(args: Settings | None) -> tuple[str, float] | None:
    """Format and B per element of an operand's compressed-tensors scheme; None without a scheme."""
    if args is None:
        return None
    bits, group = args["num_bits"], args.get("group_size")
    if args.get("type", "int") == "int":
        stored = _integers(bits, group, not args.get("symmetric", True))
        return stored.weights, stored.weight_size
    if bits == 4:
        name = "nvfp4" if group == 16 else "mxfp4"
    elif args.get("strategy") == "block":
        rows, columns = args.get("block_structure") or (128, 128)
        return "fp8_block", 1 + 4 / (rows * columns)
    else:
        name = {8: "mxfp8" if group == 32 else "fp8"}[bits]
    return name, FORMATS[name].size


def _compressed_tensors(settings: Settings) -> Stored:
    groups = [
        (_number(g["weights"]), _number(g.get("input_activations")))
        for g in settings["config_groups"].values()
    ]
    if len(set(groups)) > 1:
        raise InputError(
            f"quantization_config: {len(set(groups))} different formats in one model; {_REMEDY}"
        )
    weights, inputs = groups[0]
    return Stored("", *(weights or ("bf16", 2.0)), inputs and inputs[0])


def _modelopt(settings: Settings) -> Stored:
    algorithms = {
        "FP8": ("fp8", "fp8"),
        "FP8_PER_CHANNEL_PER_TOKEN": ("fp8", "fp8"),
        "FP8_PB_WO": ("fp8_block", None),
        "NVFP4": ("nvfp4", "nvfp4"),
        "NVFP4_AWQ": ("nvfp4", "nvfp4"),
        "W4A16_AWQ": ("int4", None),
        "W4A8_AWQ": ("int4", "fp8"),
    }
    algorithm = settings.get("quantization", settings).get("quant_algo")
    if algorithm not in algorithms:
        raise InputError(
            f"quantization_config: {unknown('quant_algo', algorithm, algorithms)}; {_REMEDY}"
        )
    weights, activations = algorithms[algorithm]
    return Stored("", weights, FORMATS[weights].size, activations)


def _quark(settings: Settings) -> Stored:
    names = {"fp8_e4m3": "fp8", "fp4": "mxfp4", "int8": "int8", "int4": "int4", "uint4": "int4"}
    scheme = settings["global_quant_config"]
    weights, inputs = names[scheme["weight"]["dtype"]], scheme.get("input_tensors")
    activations = None if inputs is None else names[inputs["dtype"]]
    return Stored("", weights, FORMATS[weights].size, activations)


METHODS: dict[str, Callable[[Settings], Stored]] = {
    "fp8": _fp8,
    "fbgemm_fp8": _fp8,
    "mxfp4": lambda _: Stored("", "mxfp4", FORMATS["mxfp4"].size),
    "gptq": _gptq,
    "auto-round": _gptq,
    "awq": _awq,
    "bitsandbytes": _bitsandbytes,
    "compressed-tensors": _compressed_tensors,
    "modelopt": _modelopt,
    "modelopt_fp4": _modelopt,
    "quark": _quark,
}
"""The function that reads the settings of each quant_method."""


def _cache(settings: Settings) -> str | None:
    """The format of keys and values; None where the settings say nothing."""
    scheme = settings.get("kv_cache_scheme")
    if isinstance(scheme, Mapping):
        return (_number(scheme) or (None,))[0]
    algorithm = settings.get("quantization", settings).get("kv_cache_quant_algo")
    return {"FP8": "fp8", "NVFP4": "nvfp4", "INT8": "int8"}.get(algorithm or "")


_LEFT_OUT_LISTS = (
    "modules_to_not_convert",
    "ignore",
    "ignored_layers",
    "exclude_modules",
    "exclude",
    "llm_int8_skip_modules",
)
_WIDE_ANYHOW = re.compile(
    r"lm_head|embed|norm|router|(?<![(|])gate(?![\w|])|score|vision|visual|projector"
    r"|conv1d|in_proj_ba|mtp|nextn|eh_proj|shared_head"
)
"""Matches modules that are kept in dtype here too, are too small to matter, or are not modelled."""


def _experts_only(name: str, sections: list[Settings], settings: Settings) -> bool:
    """Whether only the routed experts are quantised, because further layers are left out.

    Arguments:
        name: what error messages call the checkpoint.
        sections: the parts of its config.json that may describe the language model.
        settings: its quantisation settings.

    Raises:
        InputError: routed experts, or layers of a model without experts, are left out: no
            `Precision` can say that.
    """
    layers = next((s["num_hidden_layers"] for s in sections if "num_hidden_layers" in s), 10**9)
    listed = [
        str(m)
        for key in _LEFT_OUT_LISTS
        for m in settings.get(key) or settings.get("quantization", {}).get(key) or ()
    ]

    def counts(module: str) -> bool:
        layer = re.search(r"layers\.(\d+)", module)
        return not _WIDE_ANYHOW.search(module) and (layer is None or int(layer[1]) < layers)

    left = [module for module in listed if counts(module)]
    if not left:
        return False
    keys = ("num_local_experts", "n_routed_experts", "num_experts")
    has_experts = any(s.get(key) for s in sections for key in keys)
    routed = [m for m in left if "expert" in re.sub("shared_experts?", "", m)]
    if has_experts and not routed:
        return True
    shown = ", ".join(left[:3]) + (", ..." if len(left) > 3 else "")
    raise InputError(
        f"{name}: quantization_config: leaves {shown} wide, which no precision says; {_REMEDY}"
    )
