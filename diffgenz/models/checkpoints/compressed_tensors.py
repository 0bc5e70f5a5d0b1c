"""compressed-tensors: groups of modules, each with a scheme of weights and of inputs.

Read as by the library of that name and by vLLM: a module is in the group that names it, else in
that whose regular expression matches it, else in that of its class ("Linear"); `ignore` goes before
all.
"""

from diffgenz.core.formats import FORMATS
from diffgenz.models.checkpoints.floating import block_of
from diffgenz.models.checkpoints.kv_cache import cache_of
from diffgenz.models.checkpoints.rules import Rule, Rules, everywhere, left_wide
from diffgenz.models.checkpoints.schemes import Scheme, floats, fp8_block, integers
from diffgenz.models.checkpoints.settings import Settings

LINEAR = ("Linear", "FusedMoE", "ColumnParallelLinear", "RowParallelLinear", "ReplicatedLinear")
"""The classes of all linear layers."""


def compressed_tensors(settings: Settings, dtype: str) -> Rules:
    """The groups, and 2:4 sparsity.

    Arguments:
        settings: the section.
        dtype: the format of what is not quantised.

    Raises:
        InputError: it cannot be read.
    """
    ignored = left_wide(settings.texts("ignore"), "ignore")
    stored, note = _sparse(settings)
    rules, default = groups_of(settings)
    if stored is not None:
        wide = Scheme(dtype, FORMATS[dtype].size)

        def sparse(each: Scheme | None) -> Scheme:
            found = each or wide
            return found._replace(size=stored * found.size + 1 / 8)

        kinds = everywhere(None, head=True)
        default = {kind: sparse(default.get(kind)) for kind in kinds}
        rules = tuple(rule._replace(scheme=sparse(rule.scheme)) for rule in rules)
    return Rules((*ignored, *rules), default, cache_of(settings), note)


def groups_of(settings: Settings) -> tuple[tuple[Rule, ...], dict[str, Scheme | None]]:
    """The rules of `config_groups`, and the default where a group is that of all linear layers.

    Raises:
        InputError: it cannot be read, or two groups are those of all linear layers.
    """
    named, matched, default = [], [], {}
    if settings.get("config_groups") is None:
        raise settings.bad("config_groups", "is needed, and may be empty")
    for name, group in settings.parts("config_groups").items():
        if group is None:
            raise settings.bad("config_groups", f"says nothing of {name}")
        found = _scheme(group)
        for entry in group.texts("targets") or ("Linear",):
            if entry in LINEAR:
                if default and default != everywhere(found, head=True):
                    raise group.bad("targets", "is that of another group, too")
                default = everywhere(found, head=True)
            elif entry.startswith("re:"):
                matched.append(Rule(entry, found, "targets"))
            elif entry[:1].isupper() and "." not in entry:
                if "Embedding" not in entry and "Attention" not in entry:
                    raise group.bad("targets", f"has {entry!r}, which is not known; Linear is")
            else:
                named.append(Rule(entry, found, "targets"))
    return (*named, *matched), default


def _scheme(group: Settings) -> Scheme | None:
    """The scheme of a group; None where its weights are in dtype."""
    weights, inputs = group.part("weights"), group.part("input_activations")
    if weights is None:
        return None
    found = _number(weights, group.text("format") or "")
    return found if inputs is None else found._replace(activations=_number(inputs, "").weights)


def _number(part: Settings, packed: str) -> Scheme:
    """The format of weights or of inputs.

    Arguments:
        part: what the group says of them.
        packed: the group's own `format`, which says whether a scale is of one byte.

    Raises:
        InputError: it is no format here.
    """
    bits, group = part.needed("num_bits"), part.whole("group_size")
    kind, strategy = part.text("type") or "int", part.text("strategy")
    if kind not in ("int", "float"):
        raise part.bad("type", "is not known; known are int, float")
    if kind == "int":
        zeros = not part.flag("symmetric", default=True)
        found = integers(bits, group, shared=2 + zeros * bits / 8)
    elif bits == 8 and strategy == "block":
        found = fp8_block(*(block_of(part, "block_structure") or (128, 128)))
    elif bits == 4 and not group:
        found = floats(bits, 32 if packed.startswith("mxfp4") else 16)
    else:
        found = floats(bits, group)
    if found is None:
        raise part.bad("num_bits", f"of type {kind} in groups of {group} is no format here")
    return found


def _sparse(settings: Settings) -> tuple[float | None, tuple[str, ...]]:
    """The share of the weights that a sparse checkpoint stores, and what to say of it.

    Stored weights come with a mask of one bit for each weight. None where all are stored.
    """
    part = settings.part("sparsity_config")
    packed, whole = (None if part is None else part.text("format")), settings.text("format")
    if whole == "marlin-24":
        return 0.5, ("2:4 sparsity: half of the weights are stored, and all are multiplied",)
    if part is None or packed in (None, "dense"):
        return None, ()
    for key in ("ignore", "targets"):
        part.texts(key)  # those of the groups
    if packed == "sparse-24-bitmask":
        return 0.5, ("2:4 sparsity: half of the weights are stored, and all are multiplied",)
    if packed == "sparse-bitmask":
        share = part.get("global_sparsity")
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
            raise part.bad("global_sparsity", "is no share")
        return 1.0 - share, (f"{share:.0%} of the weights are 0 and not stored, yet multiplied",)
    raise part.bad("format", "is not known; known are dense, sparse-24-bitmask, sparse-bitmask")
