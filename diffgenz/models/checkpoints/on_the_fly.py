"""Methods that quantise as a model is loaded, or store what they then made of it.

They are bitsandbytes, HQQ, torchao, quanto, HIGGS and FP-Quant, read as by transformers
(`utils/quantization_config.py`). All leave the LM head in dtype unless told otherwise.
"""

import re

from diffgenz.models.checkpoints.integers import skipped
from diffgenz.models.checkpoints.rules import Rule, Rules, everywhere, left_wide
from diffgenz.models.checkpoints.schemes import Scheme, integers, scheme
from diffgenz.models.checkpoints.settings import Settings


def bitsandbytes(settings: Settings) -> Rules:
    """LLM.int8(), NF4 and FP4.

    LLM.int8() multiplies in int8. NF4 and FP4 have one scale for 64 weights. It is an fp32 number,
    or with double quantisation an 8-bit one, of which 256 share an fp32 scale (QLoRA,
    arXiv 2305.14314).
    """
    eight = settings.flag("load_in_8bit", "_load_in_8bit", default=False)
    four = settings.flag("load_in_4bit", "_load_in_4bit", default=False)
    if eight == four:
        raise settings.bad("load_in_4bit", "must be true, or load_in_8bit, and not both")
    double = settings.flag("bnb_4bit_use_double_quant", default=False)
    scale = 1 + 4 / 256 if double else 4.0
    usual = scheme("int8", "int8") if eight else Scheme("int4", 0.5 + scale / 64)
    rules = left_wide(settings.texts("llm_int8_skip_modules"), "llm_int8_skip_modules")
    return Rules((*rules, *skipped(settings)), everywhere(usual))


def higgs(settings: Settings) -> Rules:
    """HIGGS: codes of `bits` with a 16-bit scale for a group of 256 (arXiv 2411.17525)."""
    bits, group = settings.needed("bits"), settings.whole("group_size")
    found = integers(bits, 256 if group is None else group)
    if found is None:
        raise settings.bad("bits", "is no format here")
    return Rules(skipped(settings), everywhere(found))


def quanto(settings: Settings) -> Rules:
    """Quanto: weights in int8, int4, int2 or fp8, where 128 integers share a scale and a shift."""
    name, inputs = settings.text("weights") or "int8", settings.text("activations")
    known = {
        "int8": scheme("int8"),
        "int4": integers(4, 128, shared=4.0),
        "int2": integers(2, 128, shared=4.0),
        "float8": scheme("fp8"),
    }
    if known.get(name) is None:
        raise settings.bad("weights", f"is not known; known are {', '.join(known)}")
    read = {None: None, "int8": "int8", "float8": "fp8"}
    if inputs not in read:
        raise settings.bad("activations", "is not known; known are int8, float8")
    usual = known[name]._replace(activations=read[inputs])
    return Rules(skipped(settings), everywhere(usual))


def fp_quant(settings: Settings) -> Rules:
    """FP-Quant: weights and inputs in MXFP4 or NVFP4."""
    name = settings.text("forward_dtype") or "nvfp4"
    if name not in ("mxfp4", "nvfp4"):
        raise settings.bad("forward_dtype", "is not known; known are mxfp4, nvfp4")
    return Rules(skipped(settings), everywhere(scheme(name, name)))


def hqq(settings: Settings) -> Rules:
    """HQQ: groups with a 16-bit scale and zero; one setting, or one for each kind of projection."""
    rules = list(left_wide(settings.texts("skip_modules"), "skip_modules"))
    part = settings.part("quant_config") or settings
    if part.raw.get("weight_quant_params") is not None or "nbits" in part.raw:
        return Rules((*rules, *skipped(settings)), everywhere(_hqq_scheme(part)))
    for entry, each in part.objects().items():
        found = None if each is None else _hqq_scheme(each)
        rules.append(Rule(entry, found, "quant_config"))
    if not rules:
        raise settings.bad("quant_config", "says nothing of weight_quant_params")
    return Rules((*rules, *skipped(settings)), {})


def _hqq_scheme(part: Settings) -> Scheme:
    """The scheme of an object that has `nbits` and `group_size`, maybe nested."""
    inner = part.part("weight_quant_params") or part
    bits, group = inner.needed("nbits"), inner.whole("group_size")
    found = integers(bits, 64 if group is None else group, shared=4.0)
    if found is None:
        raise inner.bad("nbits", "is no format here")
    return found


def torchao(settings: Settings) -> Rules:
    """torchao: one configuration, or one for each module by name."""
    value, head = settings.get("quant_type"), False
    if isinstance(value, str):
        kind = settings.part("quant_type_kwargs") or Settings(settings.where, {})
        found = _torchao_scheme(value, kind, settings, "quant_type")
        return Rules(skipped(settings), everywhere(found))
    head = settings.flag("include_input_output_embeddings", default=False)
    outer = settings.part("quant_type")
    part = None if outer is None else outer.part("default")
    if part is None:
        raise settings.bad("quant_type", "names no configuration")
    data = part.part("_data") or Settings(part.where, {})
    named = next((key for key in data.raw if key.endswith("fqn_to_config")), None)
    if named is None:
        found = _torchao_scheme(part.text("_type") or "", data, part, "_type")
        return Rules(skipped(settings), everywhere(found, head=head))
    rules, usual = [], None
    for entry, each in data.parts(named).items():
        found = None
        if each is not None:
            inner = each.part("_data") or Settings(each.where, {})
            found = _torchao_scheme(each.text("_type") or "", inner, each, "_type")
        if entry == "_default":
            usual = found
        else:
            rules.append(Rule(entry, found, "quant_type"))
    return Rules((*rules, *skipped(settings)), everywhere(usual, head=head))


def _torchao_scheme(name: str, data: Settings, where: Settings, key: str) -> Scheme:
    """The scheme of a configuration, in snake_case, or in CamelCase with "Config" at the end.

    Arguments:
        name: its name.
        data: what it says.
        where: where the name stands, for errors.
        key: the key of the name there.

    Raises:
        InputError: it is no format here.
    """
    camel = name.removesuffix("Config")
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", camel).lower()
    group = data.whole("group_size")
    int4 = integers(4, 128 if group is None else group, shared=4.0)
    known = {
        "int4_weight_only": int4,
        "int8_weight_only": scheme("int8"),
        "int8_dynamic_activation_int8_weight": scheme("int8", "int8"),
        "int8_dynamic_activation_int4_weight": integers(
            4, 32 if group is None else group, shared=4.0, activations="int8"
        ),
        "float8_weight_only": scheme("fp8"),
        "float8_dynamic_activation_float8_weight": scheme("fp8", "fp8"),
        "float8_static_activation_float8_weight": scheme("fp8", "fp8"),
        "float8_dynamic_activation_int4_weight": integers(4, 128, activations="fp8"),
        "nvfp4_inference": scheme("nvfp4", "nvfp4"),
        "nv_fp4_inference": scheme("nvfp4", "nvfp4"),
    }
    found = known.get(words)
    if found is None:
        raise where.bad(key, f"is not known; known are {', '.join(known)}")
    return found
