"""Integer weights in groups: GPTQ, AWQ and AutoRound.

Read as by GPTQModel, AutoAWQ, auto-round and vLLM (`gptq_utils`, `awq`, `auto_round`).
"""

from diffgenz.models.blocks.module import HEAD
from diffgenz.models.checkpoints.kv_cache import cache_of
from diffgenz.models.checkpoints.rules import Rule, Rules, everywhere, left_wide
from diffgenz.models.checkpoints.schemes import Scheme, floats, integers
from diffgenz.models.checkpoints.settings import Settings

NOT_CONVERTED = ("modules_to_not_convert", "ignored_layers", "ignore", "ignore_layers")
"""Keys of lists of modules that stay in dtype."""


def skipped(settings: Settings) -> tuple[Rule, ...]:
    """The rules of a section's lists of modules that stay in dtype."""
    return tuple(rule for key in NOT_CONVERTED for rule in left_wide(settings.texts(key), key))


def _integers(settings: Settings, bits: int, group: int | None, zeros: bool, key: str) -> Scheme:
    """A scheme of integers with a 16-bit scale, and zero points where `zeros`.

    Raises:
        InputError: a number of bits that is no format here.
    """
    found = integers(bits, group, shared=2 + zeros * bits / 8)
    if found is None:
        raise settings.bad(key, f"makes {bits}-bit weights, which are no format here")
    return found


def gptq(settings: Settings) -> Rules:
    """GPTQ, with overrides by regular expression (`dynamic`).

    "+:" or no prefix overrides bits and group size, "-:" leaves in dtype. With
    `modules_in_block_to_quantize`, all other modules are in dtype.
    """

    def scheme(part: Settings) -> Scheme:
        own = {key: part.whole(key) for key in ("bits", "group_size")}
        bits = settings.needed("bits") if own["bits"] is None else own["bits"]
        group = own["group_size"]
        group = settings.whole("group_size") if group is None else group
        symmetric = part.flag("sym", default=settings.flag("sym", default=True))
        where = settings if own["bits"] is None else part
        return _integers(where, bits, group, not symmetric, "bits")

    usual, rules = scheme(settings), []
    for pattern, part in settings.parts("dynamic").items():
        wide = pattern.startswith("-:")
        found = None if wide else usual if part is None else scheme(part)
        entry = pattern.removeprefix("-:").removeprefix("+:")
        rules.append(Rule(entry, found, "dynamic", expression=True))
    head = settings.flag("lm_head", default=False)
    if not head:
        rules = [Rule("lm_head", None, "lm_head"), *rules]
    chosen = settings.texts("modules_in_block_to_quantize", "inside_layer_modules")
    rules += [*skipped(settings)]
    rules += [Rule(entry, usual, "modules_in_block_to_quantize") for entry in chosen]
    default = everywhere(None if chosen else usual, head=False)
    default[HEAD] = usual if head else None
    return Rules(tuple(rules), default, cache_of(settings))


def awq(settings: Settings) -> Rules:
    """AWQ, in the spellings of AutoAWQ and of llm-awq."""
    bits = settings.whole("bits", "w_bit", "weight_bits")
    group = settings.whole("group_size", "q_group_size")
    scheme = _integers(
        settings,
        4 if bits is None else bits,
        128 if group is None else group,
        settings.flag("zero_point", default=True),
        "bits",
    )
    head = settings.flag("lm_head", default=False)
    return Rules(skipped(settings), everywhere(scheme, head=head), cache_of(settings))


def auto_round(settings: Settings) -> Rules:
    """AutoRound: integers, or floats in groups, with overrides by name (`extra_config`)."""
    usual, rules = _auto_round_scheme(settings, settings), []
    for entry, part in settings.parts("extra_config", "layer_config").items():
        found = usual if part is None else _auto_round_scheme(part, settings)
        rules.append(Rule(entry, found, "extra_config"))
    chosen = settings.texts("block_name_to_quantize", "to_quant_block_names")
    rules = [*rules, *skipped(settings)]
    rules += [Rule(entry, usual, "block_name_to_quantize") for entry in chosen]
    head = settings.flag("lm_head", default=False)
    default = everywhere(None if chosen else usual, head=False)
    default[HEAD] = usual if head else None
    return Rules(tuple(rules), default, cache_of(settings))


def _auto_round_scheme(part: Settings, settings: Settings) -> Scheme | None:
    """The scheme of an override, or of the section itself; None for 16 bits and more.

    Arguments:
        part: what the override says.
        settings: the section, which says the rest.
    """
    bits = part.whole("bits")
    bits = settings.needed("bits") if bits is None else bits
    if bits >= 16:
        return None
    group = part.whole("group_size")
    group = settings.whole("group_size") if group is None else group
    kind = part.text("data_type") or settings.text("data_type") or "int"
    inputs = part.whole("act_bits") or settings.whole("act_bits") or 16
    kind_in = part.text("act_data_type") or settings.text("act_data_type") or kind
    activations = None if inputs >= 16 else _number(part, kind_in, inputs, "act_data_type").weights
    if kind == "int":
        symmetric = part.flag("sym", default=settings.flag("sym", default=True))
        found = _integers(part, bits, group, not symmetric, "bits")
    else:
        found = _number(part, kind, bits, "data_type", group)
    return found._replace(activations=activations)


def _number(part: Settings, kind: str, bits: int, key: str, group: int | None = None) -> Scheme:
    """The scheme of a `data_type`: int, fp, mx_fp (32 share a scale) or nv_fp (16 do)."""
    if kind.startswith("int"):
        return _integers(part, bits, group, False, key)
    shares = {"mx": 32, "nv": 16}.get(kind[:2], group if kind.startswith("fp") else 0)
    found = floats(bits, shares) if kind[:2] in ("mx", "nv", "fp") else None
    if found is None:
        raise part.bad(key, f"with {bits} bits is no format here")
    return found
