"""Which shipped model has the sizes of a published one: what names say besides the architecture.

A name is words between dashes. Some say how the weights were trained ("Instruct", "2507") or stored
("AWQ", "FP8-dynamic", "GGUF"), and change no size. Two names of which the other words are the same
name one architecture: no word about a size or a generation is ever passed over.
"""

import re
from collections.abc import Iterable

TRAINED = r"""
    instruct | chat | it | base | pt | sft | dpo | thinking | preview | exp | terminus | hf
    | (2[3-9]|0[1-9]|1[0-2])\d\d | 20\d{6}  # 2507 (July 2025), 0324 (24 March)
"""
STORED = r"""
    (nv|mx)?fp[468](a\d+)? | bf16 | fp16 | int[348] | int8mix | [348]bit | [\d.]+bpw
    | w\d+a(fp)?\d+(kv\d+)? | kv(fp?8)? | (g|gs)\d+ | i?q\d(_[a-z0-9]+)*
    | awq | gptq | gguf | bnb | exl[23] | mlx | hqq | aqlm | torchao | autoround | quark | onnx
    | marlin | actorder | qat | quanti[sz]ed | quant | unsloth | ct
    | dynamic | static | block | per_?(tensor|token|channel|block)
"""
TRAINING, STORAGE = re.compile(TRAINED, re.X), re.compile(STORED, re.X)
VERSION = re.compile(r"v\d+")
"""Of a quantisation, after its word: "NVFP4-v2"."""


def words(name: str) -> list[str]:
    """The words of a name, in small letters, without its organisation ("Qwen/" or "Qwen_")."""
    bare = name.rpartition("/")[2].lower()
    bare = re.sub(r"^[a-z-]+_(?=[a-z])", "", bare).removeprefix("meta-")
    bare = re.sub(r"(?<=\d)-(?=bit)", "", bare)
    return re.sub(r"(?<=quantized)\.", "-", bare).split("-")


def architecture(name: str) -> str:
    """A name without what it says of training and storage."""
    kept, stored = [], False
    for word in words(name):
        if stored and VERSION.fullmatch(word):
            continue
        stored = STORAGE.fullmatch(word) is not None
        if not stored and not TRAINING.fullmatch(word):
            kept.append(word)
    return "-".join(kept)


def relatives(name: str, known: Iterable[str]) -> list[str]:
    """The known models with the architecture of `name`; the nearest alone, where one is nearer.

    Nearer are those that say nothing which `name` does not: of a model that is shipped as
    "-it" and as "-pt", "-it-FP8" is the former.

    Arguments:
        name: the id or the bare name of a model.
        known: ids.
    """
    alike = [each for each in known if architecture(each) == architecture(name)]
    said = set(words(name))
    nearer = [each for each in alike if set(words(each)) <= said]
    most = max((len(words(each)) for each in nearer), default=0)
    return [each for each in nearer if len(words(each)) == most] or alike
