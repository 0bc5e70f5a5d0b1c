"""Which model and which accelerator a benchmark means by what it calls them."""

import re
from collections.abc import Sequence

from diffgenz.calibrating.readers.serving.benchmark import Benchmark
from diffgenz.core.errors import InputError
from diffgenz.hardware.specs import list_systems, read_spec
from diffgenz.models.files import locate
from diffgenz.models.names import architecture

_CACHED = re.compile(r"models--(?P<org>[^/]+?)--(?P<name>[^/]+)")
"""The folder of a model in Hugging Face's cache, wherever that was."""

_MODULES = {"sxm", "pcie", "nvl", "oam", "mig", "ti", "super", "laptop", "max"}
"""Words of a system that tell it from its relatives: one that names another is not meant."""

_CAPACITY = re.compile(r"(\d+)gi?b")
_NEAR = 0.15
"""By how much the memory that a name states may differ from a file's: GB, GiB and what is held
back."""


def model_named(benchmark: Benchmark) -> str:
    """The model that a benchmark was of, as `--model` would say it.

    Servers are often started with a path that exists where they run only: then it is the model that
    the path, or its last part, names.

    Raises:
        InputError: the file says none, or none of that name is known.
    """
    text = benchmark.model.strip()
    if not text:
        raise InputError(f"{benchmark.place}: model: the file does not say it; give --model")
    parts = [part for part in text.replace("\\", "/").split("/") if part]
    cached = _CACHED.search(text)
    tried = [text]
    if cached is not None:
        tried.append(f"{cached['org']}/{cached['name']}")
    if len(parts) > 1:
        tried += ["/".join(parts[-2:]), parts[-1]]
    tried += [each.replace(" ", "-") for each in tried if " " in each]
    notes: dict[str, str] = {}
    reasons = []
    for each in tried:
        try:
            notes[each] = locate(each).note
        except InputError as error:
            reasons.append(error)
    if not notes:
        reason = reasons[-1 if len(parts) > 2 else 0]
        raise InputError(f"{benchmark.place}: {reason}; or give --model")
    return min(notes, key=lambda each: bool(notes[each]))  # the first that is shipped itself


def system_named(benchmark: Benchmark) -> str:
    """The accelerator that a benchmark calls "h200", "b200-trt" or "NVIDIA A100-SXM4-80GB".

    Raises:
        InputError: the file says none, or none of that name is shipped.
    """
    text = benchmark.system.strip().lower()
    if not text:
        raise InputError(f"{benchmark.place}: system: the file does not say it; give --system")
    ids = list_systems()
    if text in ids:
        return text
    said = [re.sub(r"^(sxm|pcie)\d?$", r"\1", word) for word in re.split(r"[-_ /,()]+", text)]
    found = [each for each in ids if _means(said, each)]
    if not found:
        raise InputError(
            f"{benchmark.place}: system: {benchmark.system!r} is not known; give --system"
        )
    return max(found, key=lambda each: _likeness(said, each.split("_")))


def of_one_model(benchmarks: Sequence[Benchmark], named: str | None) -> list[Benchmark]:
    """The runs of the model that is named, where files have several.

    Arguments:
        benchmarks: what was measured.
        named: the model; None: there is one only.

    Raises:
        InputError: there are several, and none of them is named.
    """
    models = {_key(each.model): each.model for each in benchmarks if each.model}
    if len(models) < 2:
        return list(benchmarks)
    for key in (_key, _sizes):
        chosen = [each for each in benchmarks if named and key(each.model) == key(named)]
        if chosen:
            return chosen
    raise InputError(
        f"{benchmarks[0].place.partition(':')[0]}: model: {' and '.join(models.values())} are "
        f"{len(models)} models; name one of them with --model"
    )


def on_system(benchmarks: Sequence[Benchmark], named: str | None) -> list[Benchmark]:
    """The runs on the accelerator that is named, where files have several.

    Arguments:
        benchmarks: what was measured.
        named: the system; None: all of them.

    Raises:
        InputError: none of them is named.
    """
    systems = {each.system for each in benchmarks if each.system}
    if named is None or len(systems) < 2:
        return list(benchmarks)
    chosen = [each for each in benchmarks if each.system and system_named(each) == named]
    if not chosen:
        raise InputError(
            f"--system: {named!r} is none of those in the files, {', '.join(sorted(systems))}; "
            "name one of them, or leave it out for all"
        )
    return chosen


def _means(said: Sequence[str], system: str) -> bool:
    """Whether words may name an accelerator: all of its name but its kind of module is there."""
    words = system.split("_")
    kinds = _MODULES | {word for word in words if _CAPACITY.fullmatch(word)}
    if not {word for word in words if word not in kinds} <= set(said):
        return False
    if any(word in _MODULES and word not in words for word in said):
        return False
    stated = [float(each[1]) for each in map(_CAPACITY.fullmatch, said) if each]
    capacity = read_spec(system).memory["capacity"] / 1e9
    return all(abs(each / capacity - 1) <= _NEAR for each in stated)


def _likeness(said: Sequence[str], words: Sequence[str]) -> tuple[int, int, bool]:
    """How well words name an accelerator; of two alike the module for servers is meant."""
    common = sum(word in said for word in words)
    return common, common - len(words), "sxm" in words


def _key(model: str) -> str:
    """A model's name without its publisher, case and punctuation."""
    return re.sub("[^a-z0-9]", "", model.rstrip("/").rpartition("/")[2].lower())


def _sizes(model: str) -> str:
    """A model's name without what it says of training and storage, too."""
    return _key(architecture(model.rstrip("/")))
