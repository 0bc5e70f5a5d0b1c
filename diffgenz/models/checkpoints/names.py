"""Which modules of a model an entry of a quantisation section means.

Entries come in four spellings, and engines read all of them as meaning a module and what is in it:

- a name, whole or in part: "model.layers.3.self_attn.q_proj", "self_attn", "lm_head",
- a wildcard: "model.layers.61*", "*.mlp.experts.*",
- a regular expression after "re:", which must match from the start (compressed-tensors),
- a regular expression as such: "mlp\\.(gate|up)_proj$".

Whatever families call a module, and whatever stands in front of "layers", an entry that matches one
of its names means it. A fused name ("qkv_proj") stands for its parts, unless the entry means one of
the parts by name (".*up_proj" is no "gate_up_proj" then).
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

from diffgenz.core.errors import InputError
from diffgenz.models.checkpoints.modules import Placed

LAYERS = (
    "model.layers.",
    "model.language_model.layers.",
    "language_model.model.layers.",
    "language_model.layers.",
    "layers.",
    "backbone.layers.",
    "model.backbone.layers.",
    "language_model.backbone.layers.",
    "thinker.model.layers.",
    "model.decoder.layers.",
    "gpt_neox.layers.",
    "transformer.h.",
    "transformer.blocks.",
    "transformer.layers.",
)
"""What stands in front of the number of a layer."""

HEADS = ("", "language_model.", "model.", "model.language_model.", "thinker.")
"""What stands in front of the LM head."""

WHOLE = {"model", "language_model", "text_model", "backbone", "transformer", "decoder", "thinker"}
WHOLE |= {"gpt_neox", "base_model", "layers", "h", "blocks"}
"""Parts of names that stand for the language model or for all of its layers."""

LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)(?:\.(.*))?$", re.DOTALL)
"""Matches a name that has the number of a layer: the number, and what follows it."""

OTHER_PARTS = re.compile(
    r"(?:^|[./*])(?:visual|vision\w*|vit|image\w*|audio\w*|speech\w*|mtp\w*|nextn\w*|mm_?proj\w*"
    r"|mm_\w+|multi_?modal\w*|\w*projector|connector|aligner|talker|token2wav|code2wav|sam_\w+"
    r"|merger|patch_\w+|resampler|embed_(?:vision|audio|image)\w*|draft\w*|eagle\w*)(?:[./*]|$)"
)
"""Matches names in other parts than the language model: towers, and multi-token prediction."""

WIDE = re.compile(
    r"(?:^|[._*])(?:\w*embed\w*|\w*norm\w*|\w*ln_?\w*|router\w*|gate|gate_?\w*bias|wg|score|classifier"
    r"|cls|pooler|rotary\w*|rope\w*|conv1d|\w*conv\w*|in_proj_ba|in_proj_[ab]|dt_bias|dt_proj|x_proj"
    r"|a_log|A_log|D|bias|\w*_bias|sinks?|eh_proj|shared_head|shared_expert_gate|\w*expert_gate"
    r"|wte|wpe|lm_head|head|output|output_layer|embed_out|indexer|indexers?_proj|weights_proj"
    r"|compressor|attn_(?:sink|hc)|hc_\w+|ffn_hc|gate_weight|\w*scale|kv_cache|k_cache|v_cache"
    r"|altup\w*|laurel\w*|per_layer\w*|g_proj|tau\w*|alpha\w*|wk|e_score_correction_bias)(?:[._*]|$)"
)
"""Matches modules that are kept in dtype anyhow, or are too small to be modelled."""

IN_FRONT = re.compile(r"model|layer|backbone|transformer|thinker|neox|block[^_]|\bh\b|\^|decoder")
"""Matches expressions that say what stands in front of a module's name."""

PATTERN = re.compile(r"[*?\[\]^$()|+\\]")
EXPRESSION = re.compile(r"[\^$()|+\\]|^\.\*")
"""Matches entries that are regular expressions, and no wildcards."""


class Names:
    """The modules of a model, found by the entries of a quantisation section.

    Arguments:
        placed: the modules.
        layers: layers of the model.
        further: layers of its multi-token-prediction modules, which files number after the others.
        where: what errors call the section.
    """

    def __init__(self, placed: Sequence[Placed], layers: int, further: int, where: str):
        self.placed, self.where = tuple(placed), where
        self.layers, self.further = layers, further
        self._found: dict[tuple[str, bool], frozenset[int]] = {}

    @cached_property
    def _in_layer(self) -> dict[int | None, list[int]]:
        """The modules of each layer."""
        found: dict[int | None, list[int]] = {}
        for index, each in enumerate(self.placed):
            found.setdefault(each.layer, []).append(index)
        return found

    @cached_property
    def _vocabulary(self) -> set[str]:
        """All parts of the names of all modules."""
        names = {name for each in self.placed for name in _all_names(each)}
        return {part for name in names for part in name.split(".")} | _KNOWN

    def meant(self, entry: str, key: str, *, expression: bool = False) -> frozenset[int]:
        """The modules that an entry means, as their indices.

        Arguments:
            entry: what a list or the key of an object says.
            key: the field that it stands in, for errors.
            expression: whether entries are regular expressions without "re:" (GPTQ's `dynamic`).

        Raises:
            InputError: it names a layer or a module that does not exist, or is no regular
                expression.
        """
        if (entry, expression) not in self._found:
            self._found[entry, expression] = frozenset(self._meant(entry, key, expression))
        return self._found[entry, expression]

    def _meant(self, entry: str, key: str, expression: bool) -> Iterable[int]:
        if entry.startswith("re:"):
            return self._matched(entry.removeprefix("re:"), key, search=False)
        if not PATTERN.search(entry) and not (expression and LAYER.search(entry) is None):
            return self._named(entry, key)
        if expression:
            return self._matched(entry, key, search=False)
        if EXPRESSION.search(entry):
            return self._matched(entry, key, search=True)
        if OTHER_PARTS.search(entry):
            return []
        found = self._matched(_wildcard(entry), key, search=False)
        return found or self._matched(_wildcard(entry, r"\w*"), key, search=False)

    def _named(self, entry: str, key: str) -> list[int]:
        """The modules that a plain name means: one, or all those in what it names.

        Raises:
            InputError: it names a layer or a module that does not exist.
        """
        path = re.sub(r"\.(weight|bias|qweight)$", "", entry.strip().strip("."))
        if OTHER_PARTS.search(path):
            return []
        numbered = LAYER.search(path)
        if numbered is None:
            rest = _without_whole(path)
            found = [
                index
                for index, each in enumerate(self.placed)
                if _is_part(rest, each) and (rest or each.layer is not None)
            ]
        else:
            rest, layer = numbered[2] or "", int(numbered[1])
            if layer >= self.layers + self.further:
                raise InputError(
                    f"{self.where}: {key}: {entry!r} is in layer {layer}, but the model has "
                    f"{self.layers} layers (num_hidden_layers); remove the entry"
                )
            found = [index for index in self._in_layer.get(layer, ()) if self._is_in(rest, index)]
        if re.search(r"experts\.(?!0(?:\.|$))\d+", rest) and self._is_known(rest):
            return []  # the first expert stands for all of them
        if not found and numbered is None and not self._is_known(rest):
            found = [i for i, each in enumerate(self.placed) if rest in " ".join(_all_names(each))]
        if not found and not self._is_known(rest):
            raise InputError(
                f"{self.where}: {key}: {entry!r} is no module of this model; remove the entry or "
                "spell it as the checkpoint does"
            )
        return found

    def _is_in(self, rest: str, index: int) -> bool:
        """Whether a module is what a layer calls `rest`, or is in that."""
        return not rest or any(
            f"{name}.".startswith(f"{rest}.") or rest.endswith(f".{name}")
            for name in _all_names(self.placed[index])
        )

    def _is_known(self, path: str) -> bool:
        """Whether a name may be in a file although no module here has it.

        It may if it is kept in dtype anyhow, or if its parts are those of other layers or families.
        """
        parts = [part for part in path.split(".") if not part.isdigit()]
        if WIDE.search(path):
            return True
        return all(part in self._vocabulary or part in WHOLE for part in parts)

    def _matched(self, expression: str, key: str, *, search: bool) -> list[int]:
        """The modules whose whole names a regular expression matches.

        Arguments:
            expression: the regular expression.
            key: the field that it stands in.
            search: whether it may match anywhere in the name, or only from the start.

        Raises:
            InputError: it is no regular expression.
        """
        try:
            compiled = re.compile(expression)
        except (re.error, RecursionError, OverflowError) as error:
            raise InputError(
                f"{self.where}: {key}: {expression!r} is no regular expression "
                f"({error}); correct it"
            ) from None
        match: Callable[[str], object] = compiled.search if search else compiled.match
        usual = "(?!" in expression or "(?<!" in expression  # what it leaves out is one spelling
        free = search or expression.startswith((".*", "(?:.*"))
        few = free and not IN_FRONT.search(expression)  # what stands in front does not matter
        candidates = self._candidates(expression)
        by_name, fused = [], []
        for index in candidates:
            each = self.placed[index]
            names = each.module.names[:1] if usual else each.module.names
            if any(match(name) for name in _whole_names(names, each.layer, few)):
                by_name.append(index)
            elif not usual:
                fused.append(index)
        taken = {
            (self.placed[index].layer, name)
            for index in by_name
            for name in self.placed[index].module.fused
        }
        for index in fused:
            each = self.placed[index]
            fresh = [name for name in each.module.fused if (each.layer, name) not in taken]
            if any(match(name) for name in _whole_names(fresh, each.layer, few)):
                by_name.append(index)
        return by_name

    def _candidates(self, expression: str) -> Sequence[int]:
        """The modules that a regular expression can match: those of the one layer that it names."""
        numbers = re.findall(r"(?:layers|h|blocks)\\?\.(\d+)(?=\\\.|\.(?![*+?{])|$)", expression)
        if len(numbers) == 1 and "|" not in expression:
            return self._in_layer.get(int(numbers[0]), [])
        return range(len(self.placed))


_KNOWN = {
    *("self_attn", "attn", "attention", "self_attention", "linear_attn", "mamba", "mixer"),
    *("mlp", "feed_forward", "ffn", "block_sparse_moe", "moe", "experts"),
    *("shared_experts", "shared_expert", "q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj"),
    *("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "gate_proj", "up_proj"),
    *("down_proj", "gate_up_proj", "w1", "w2", "w3", "fc1", "fc2", "in_proj", "out_proj"),
    *("in_proj_qkv", "in_proj_z", "in_proj_qkvz"),
}
"""Parts of the names of modules in families at large."""


def _all_names(each: Placed) -> tuple[str, ...]:
    """The names of a module below its layer, fused ones included."""
    return (*each.module.names, *each.module.fused)


def _whole_names(names: Iterable[str], layer: int | None, few: bool) -> Iterable[str]:
    """The names of a module, with all that may stand in front of them.

    Arguments:
        names: its names below the layer.
        layer: the layer; None for the LM head.
        few: whether one of the things that may stand in front is enough.
    """
    if layer is None:
        return (f"{start}{name}" for name in names for start in (HEADS[:1] if few else HEADS))
    starts = LAYERS[:1] if few else LAYERS
    return (f"{start}{layer}.{name}" for name in names for start in starts)


def _without_whole(path: str) -> str:
    """A name without what stands for the whole language model in front."""
    parts = path.split(".")
    while parts and parts[0] in WHOLE:
        parts.pop(0)
    return ".".join(parts)


def _is_part(rest: str, each: Placed) -> bool:
    """Whether `rest` is a part, from dot to dot, of one of the names of a module."""
    return any(not rest or f".{rest}." in f".{name}." for name in _all_names(each))


def _wildcard(entry: str, further: str = "") -> str:
    """The regular expression of a wildcard, which means modules and all that is in them.

    "model.layers.6*" is layer 6 and all that is in it, and not layer 60 (ModelOpt writes so).

    Arguments:
        entry: the wildcard.
        further: what may follow a star at its end before the next dot.
    """
    ends_open, body = entry.endswith("*"), re.sub(r"\.?\*+$", "", entry) or "*"
    spelled = "".join(
        {"*": ".*", "?": "."}.get(token, token if token.startswith("[") else re.escape(token))
        for token in re.split(r"(\[[^\]]+\]|\*|\?)", body)
    )
    return rf"(?:.*\.)?{spelled}{further if ends_open else ''}(?:\..*)?$"
