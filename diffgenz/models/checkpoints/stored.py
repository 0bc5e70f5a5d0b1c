"""What a checkpoint is stored in: the formats of each kind of module, weighed by parameters.

A kind whose rows are mainly in one format has one entry; where its rows differ, each row has its
own. What is in another format within an entry counts in its mean size, and is told. If it is wide
and under 1 % of the model (and a tenth of its kind), it is ignored, as if it were quantised.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from diffgenz.core.errors import InputError
from diffgenz.core.formats import FORMATS
from diffgenz.models.blocks.module import KINDS
from diffgenz.models.checkpoints.methods import Facts, read_rules
from diffgenz.models.checkpoints.modelopt import ALGORITHMS, algorithm_of
from diffgenz.models.checkpoints.modules import Placed, layers_of, modules_of
from diffgenz.models.checkpoints.names import Names
from diffgenz.models.checkpoints.rules import Rules, assigned
from diffgenz.models.checkpoints.schemes import Scheme
from diffgenz.models.checkpoints.sections import (
    SIDECAR,
    Source,
    quantization_section,
    read_source,
    sections_of,
)
from diffgenz.models.checkpoints.settings import Settings
from diffgenz.models.huggingface import model_from_config
from diffgenz.models.model import Model

SMALL, OF_KIND = 0.01, 0.1
"""Shares of the model's linear layers and of a kind under which wide modules are ignored."""


class LinearFormat(NamedTuple):
    """The formats of a set of linear layers.

    Arguments:
        weights: the format of most of their parameters.
        weight_size: B per parameter, scales included: the mean over all of them.
        activations: the format of their inputs; None for dtype.
    """

    weights: str
    weight_size: float
    activations: str | None = None


class Stored(NamedTuple):
    """The formats that a quantised checkpoint is stored in and meant to be computed in.

    Arguments:
        method: its quant_method.
        formats: the formats of each kind of module ("attention", "mlp", "experts", "head") that
            the model has. Where the rows of a kind differ, they stand in its place, by the names
            that they have in a breakdown ("qkv", "attention_out").
        kv_cache: the format of keys and values; None for dtype.
        notes: what is left wide, and what is not modelled.
    """

    method: str
    formats: dict[str, LinearFormat]
    kv_cache: str | None = None
    notes: tuple[str, ...] = ()


def read_stored(model: str | Path) -> Stored | None:
    """What a checkpoint is quantised to; None where it is not quantised.

    Arguments:
        model: as in `load_model`.

    Raises:
        InputError: as in `load_model`, or a quantisation that is not known or cannot be read.
    """
    source = read_source(model)
    if quantization_section(source) is None:
        return None
    return stored_of(source, model_from_config(source.config, source.name))


def stored_of(source: Source, model: Model) -> Stored | None:
    """What a checkpoint is quantised to; None where it is not quantised.

    Arguments:
        source: its files.
        model: the model that its config.json describes.

    Raises:
        InputError: a quantisation that is not known or cannot be read.
    """
    section = quantization_section(source)
    if section is None:
        return None
    where, raw = section
    dtype = dtype_of(source)
    method, rules = read_rules(where, raw, Facts(dtype, _expert_dtype(source)))
    _refuse_another(source, where, rules)
    placed = modules_of(model)
    names = Names(placed, layers_of(model), _further(source), where)
    return stored_from(method, rules, names, dtype)


def _refuse_another(source: Source, where: str, rules: Rules) -> None:
    """Refuse a config.json whose formats the algorithm of its sidecar does not make.

    Arguments:
        source: the files of the checkpoint.
        where: what errors call the section of config.json.
        rules: what it says.

    Raises:
        InputError: the algorithm makes another format.
    """
    beside = f"{source.name}: {SIDECAR}"
    name = None if source.sidecar is None else algorithm_of(Settings(beside, source.sidecar))
    if name not in ALGORITHMS:
        return
    schemes = [*(rule.scheme for rule in rules.rules), *rules.default.values()]
    found = {each.weights for each in schemes if each is not None}
    if FORMATS[ALGORITHMS[name][0]].peak not in {FORMATS[each].peak for each in found}:
        formats = ", ".join(sorted(found)) or "dtype"
        raise InputError(f"{where}: {formats} contradicts {beside}, {name}; remove one of the two")


def stored_from(method: str, rules: Rules, names: Names, dtype: str) -> Stored:
    """The formats that rules give to modules.

    Arguments:
        method: the quant_method.
        rules: what the section says.
        names: the modules.
        dtype: the format of what is not quantised.

    Raises:
        InputError: a rule that names a layer or a module that does not exist.
    """
    wide = Scheme(dtype, FORMATS[dtype].size)
    given = [found or wide for found in assigned(rules, names)]
    linear = sum(each.parameters for each in names.placed)
    formats: dict[str, LinearFormat] = {}
    notes = list(rules.notes)
    for kind in KINDS:
        found = [
            (each, scheme)
            for each, scheme in zip(names.placed, given, strict=True)
            if each.module.kind == kind
        ]
        if found:
            entries, told = _kind(kind, found, dtype, linear)
            formats |= entries
            notes += told
    return Stored(method, formats, rules.kv_cache, tuple(notes))


Given = list[tuple[Placed, Scheme]]


def _kind(
    kind: str, found: Given, dtype: str, linear: float
) -> tuple[dict[str, LinearFormat], list[str]]:
    """The entries of a kind of modules, and what to tell of them.

    Arguments:
        kind: one of `KINDS`.
        found: its modules, each with its scheme.
        dtype: the format of what is not quantised.
        linear: parameters of all modules of the model.
    """
    main, whole = _main(found), _total(found)
    left = [(each, scheme) for each, scheme in found if scheme.weights == dtype]
    if main.weights != dtype and _total(left) < min(SMALL * linear, OF_KIND * whole):
        quantised = [each for each in found if each[1].weights != dtype]
        instead = Scheme(main.weights, _mean(quantised), main.activations)
        found = quantised + [(each, instead) for each, _ in left]
    rows: dict[tuple[str, ...], Given] = defaultdict(list)
    for each, scheme in found:
        rows[each.module.rows].append((each, scheme))
    mains = {(m.weights, m.activations) for m in map(_main, rows.values())}
    if len(mains) == 1:
        return {kind: _format(found)}, _told(kind, found, linear)
    entries, notes = {}, []
    for names, modules in rows.items():
        entries |= dict.fromkeys(names, _format(modules))
        notes += _told(names[0], modules, linear)
    return entries, notes


def _format(found: Given) -> LinearFormat:
    """The entry of some modules."""
    main = _main(found)
    return LinearFormat(main.weights, _mean(found), main.activations)


def _told(what: str, found: Given, linear: float) -> list[str]:
    """What to tell of modules of one entry that are not in its main format."""
    main, whole = _main(found), _total(found)
    others: dict[str, float] = defaultdict(float)
    for each, scheme in found:
        if scheme.weights != main.weights:
            others[scheme.weights] += each.parameters
    notes = [
        f"{parameters / whole:.0%} of the weights of {what} are in {name}"
        for name, parameters in others.items()
        if parameters > 0 and (parameters >= SMALL * linear or parameters >= OF_KIND * whole)
    ]
    rest = sum(others.values())
    if rest > whole / 2:
        notes.append(f"only {1 - rest / whole:.0%} of them are in {main.weights}")
    return notes


def _total(found: Iterable[tuple[Placed, Scheme]]) -> float:
    return sum(each.parameters for each, _ in found)


def _mean(found: Given) -> float:
    """B per parameter."""
    total = _total(found)
    if total == 0:
        return found[0][1].size
    return sum(each.parameters * scheme.size for each, scheme in found) / total


def _main(found: Given) -> Scheme:
    """The scheme of most parameters."""
    weights: dict[tuple[str, str | None], float] = defaultdict(float)
    for each, scheme in found:
        weights[scheme.weights, scheme.activations] += each.parameters
    name, activations = max(weights, key=lambda key: weights[key])
    return Scheme(name, FORMATS[name].size, activations)


def dtype_of(source: Source) -> str:
    """The format of what is not quantised; bf16 where the file says nothing.

    Raises:
        InputError: a dtype that is not known.
    """
    keys = ("torch_dtype", "dtype")
    parts = sections_of(source.config)
    found = (part[key] for part in parts for key in keys if part.get(key) is not None)
    stated = next(found, "bfloat16")
    names = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
    if not isinstance(stated, str) or stated.removeprefix("torch.") not in names:
        raise InputError(
            f"{source.name}: torch_dtype: {stated!r} is not known; known are {', '.join(names)}"
        )
    return names[stated.removeprefix("torch.")]


def _expert_dtype(source: Source) -> str | None:
    """The field `expert_dtype`.

    Raises:
        InputError: it is neither fp4 nor fp8.
    """
    for part in sections_of(source.config):
        value = part.get("expert_dtype")
        if value is not None and value not in ("fp4", "fp8"):
            raise InputError(
                f"{source.name}: expert_dtype: {value!r} is not known; known are fp4, fp8"
            )
        if value is not None:
            return value
    return None


def _further(source: Source) -> int:
    """Layers of multi-token-prediction modules, which files number after those of the model."""
    keys = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "mtp_num_layers", "num_mtp_layers")
    for part in sections_of(source.config):
        for key in keys:
            if isinstance(part.get(key), int):
                return int(part[key])
    return 0
