"""The methods of quantisation: the reader of the section of each `quant_method`."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from diffgenz.core.errors import InputError, unknown
from diffgenz.models.blocks.module import EXPERTS
from diffgenz.models.checkpoints.compressed_tensors import compressed_tensors
from diffgenz.models.checkpoints.floating import fp8, uniform, w4afp8
from diffgenz.models.checkpoints.integers import auto_round, awq, gptq
from diffgenz.models.checkpoints.modelopt import modelopt
from diffgenz.models.checkpoints.on_the_fly import (
    bitsandbytes,
    fp_quant,
    higgs,
    hqq,
    quanto,
    torchao,
)
from diffgenz.models.checkpoints.quark import quark
from diffgenz.models.checkpoints.rules import Rules
from diffgenz.models.checkpoints.schemes import scheme
from diffgenz.models.checkpoints.settings import REMEDY, Settings


class Facts(NamedTuple):
    """What a config.json says beside its quantisation section.

    Arguments:
        dtype: the format of what is not quantised.
        expert_dtype: its field of that name, which some files have.
    """

    dtype: str
    expert_dtype: str | None


READERS: dict[str, Callable[[Settings], Rules]] = {
    **dict.fromkeys(("fbgemm_fp8", "w8a8_fp8"), uniform(scheme("fp8", "fp8"))),
    **dict.fromkeys(("mxfp4", "gpt_oss_mxfp4"), uniform(scheme("mxfp4"), EXPERTS)),
    "mxfp8": uniform(scheme("mxfp8", "mxfp8")),
    "w8a8_int8": uniform(scheme("int8", "int8")),
    "experts_int8": uniform(scheme("int8"), EXPERTS),
    "eetq": uniform(scheme("int8")),
    "w4afp8": w4afp8,
    **dict.fromkeys(("gptq", "gptq_marlin", "gptqmodel", "auto_gptq"), gptq),
    **dict.fromkeys(("awq", "awq_marlin", "auto_awq"), awq),
    **dict.fromkeys(("auto-round", "auto_round", "intel/auto-round", "inc"), auto_round),
    "bitsandbytes": bitsandbytes,
    "torchao": torchao,
    "hqq": hqq,
    "quanto": quanto,
    "higgs": higgs,
    "fp_quant": fp_quant,
    **dict.fromkeys(
        ("modelopt", "modelopt_fp4", "modelopt_fp8", "modelopt_mxfp8", "modelopt_mixed"), modelopt
    ),
    "quark": quark,
}
"""The reader of each method, but for two that need a fact beside the section."""

METHODS = (*READERS, "fp8", "compressed-tensors")
"""The methods that are known."""

TELLING = {
    "quant_algo": "modelopt",
    "quantization": "modelopt",
    "config_groups": "compressed-tensors",
    "sparsity_config": "compressed-tensors",
    "global_quant_config": "quark",
    "weight_block_size": "fp8",
}
"""The keys that tell the method of a section that does not state it."""


def method_of(where: str, raw: Mapping[str, Any]) -> str:
    """The `quant_method` of a section, which some leave to be told by their keys.

    Arguments:
        where: what errors call the section.
        raw: its content.

    Raises:
        InputError: it is not known, or cannot be told.
    """
    method = raw.get("quant_method")
    if method is None:
        method = next((TELLING[key] for key in TELLING if raw.get(key) is not None), None)
    if isinstance(method, str) and method.lower().replace("compressed_", "compressed-") in METHODS:
        return method.lower().replace("compressed_", "compressed-")
    raise InputError(f"{where}: {unknown('quant_method', method, METHODS)}; {REMEDY}")


def read_rules(where: str, raw: Mapping[str, Any], facts: Facts) -> tuple[str, Rules]:
    """The method of a quantisation section, and what it says.

    Arguments:
        where: what errors call the section.
        raw: its content.
        facts: what stands beside it.

    Raises:
        InputError: something of it cannot be read.
    """
    method, settings = method_of(where, raw), Settings(where, raw)
    if method == "fp8":
        rules = fp8(settings, facts.expert_dtype)
    elif method == "compressed-tensors":
        rules = compressed_tensors(settings, facts.dtype)
    else:
        rules = READERS[method](settings)
    settings.refuse_unread()
    return method, rules
