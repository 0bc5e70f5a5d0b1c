"""Flags: the words of a scenario as arguments of a command.

Nothing here imports JAX, so that `--help` is quick.
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from diffgenz.core.counts import real, whole
from diffgenz.core.errors import InputError
from diffgenz.core.units import parse
from diffgenz.hardware.specs import list_systems
from diffgenz.scenario.word import Word
from diffgenz.scenario.words import WORDS

if TYPE_CHECKING:
    from diffgenz.scenario.scenario import Scenario
    from diffgenz.serving.load import Engine

REQUESTS = tuple(name for name, word in WORDS.items() if word.record == "workload")
"""What is asked of a model."""

LAYOUT = tuple(name for name in WORDS if name not in (*REQUESTS, "fit"))
"""A model, where it runs and how."""

SERVING = tuple(name for name, word in WORDS.items() if word.place.startswith("serving."))
"""What a server does besides batching."""


SYNONYMS = {
    "model": "model model-path model-id model-name",
    "batch": "concurrency max-concurrency batch-size bs max-num-seqs max-running-requests",
    "isl": "input-len input-length input-tokens prompt-len prompt-tokens random-input-len",
    "osl": "output-len output-length output-tokens max-tokens random-output-len",
    "gpus": "total-gpus num-gpus n-gpus world-size accelerators",
    "tp": "tensor-parallel-size tp-size tensor-parallel",
    "pp": "pipeline-parallel-size pp-size pipeline-parallel",
    "dp": "data-parallel-size dp-size",
    "ep": "enable-expert-parallel expert-parallel-size ep-size",
    "attention-dp": "enable-dp-attention",
    "weights": "quantization quant weight-dtype",
    "kv-cache": "kv-cache-dtype kv-dtype",
    "chunk": "max-num-batched-tokens chunked-prefill-size enable-chunked-prefill",
    "system": "gpu gpu-name hardware hw device accelerator",
}
"""Flags of engines, benchmarks and other tools, by the word that says the same here."""


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, like all others.

    It does not guess at abbreviations: `--gpu` is the `--system` of other tools, not `--gpus`.
    """

    def __init__(self, **options: Any):
        super().__init__(**options, allow_abbrev=False)
        self._given: list[str] = []

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does; what is given is kept for hints."""
        self._given = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        asked = message.startswith(("unrecognized arguments", "the following arguments"))
        words = [*self._given, *message.split()]
        hint = _hint(words, self._given, self._option_string_actions) if asked else ""
        hint = hint or _one_system(message, self._given)
        raise InputError(f"{message}{hint}; see `{self.prog} --help`")


def _hint(words: Sequence[str], given: Sequence[str], ours: Iterable[str]) -> str:
    """The flags of ours that say what unknown ones say; "" for none.

    Arguments:
        words: what was typed, and what argparse says of it.
        given: what was typed.
        ours: the flags that the command has.
    """
    flags = [word.partition("=")[0] for word in words if word.startswith("--")]
    own = {word.partition("=")[0] for word in given}
    known = {f"--{each}": f"--{name}" for name, text in SYNONYMS.items() for each in text.split()}
    known |= {flag: "MODEL, the first argument," for flag in known if known[flag] == "--model"}
    found = {f: known[f] for f in flags if f in known and f not in set(ours)}
    hints = ", ".join(
        f"{flag} is {word} here" + (", which is given, too: keep one" if word in own else "")
        for flag, word in found.items()
    )
    return f" ({hints})" if hints else ""


def _one_system(message: str, given: Sequence[str]) -> str:
    """What to do where several systems are given to a command that takes one; "" where none are.

    Arguments:
        message: what argparse says.
        given: what was typed.
    """
    if not message.startswith("unrecognized arguments") or "--system" not in given:
        return ""
    after = list(given[given.index("--system") + 1 :])
    values = list(itertools.takewhile(lambda word: not word.startswith("-"), after))
    shipped = list_systems()
    systems = [word for word in values if word in shipped or word.endswith(".toml")]
    if len(systems) < 2:
        return ""
    return (
        f" (--system takes one here: run {given[0]} once for each; `estimate --system "
        f"{' '.join(systems)}` and a sweep over systems compare several)"
    )


def typed(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """A function for argparse's `type` that complains as `read` does.

    Arguments:
        read: makes a value of a text, or raises `InputError`.
    """

    def value_of(text: str) -> Any:
        try:
            return read(text)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return value_of


COUNT = typed(whole)
"""The `type` of flags that count something but tokens."""


REAL = typed(real)
"""The `type` of flags for plain numbers."""


def _milliseconds(text: str) -> float:
    """The ms of a time in ms, or with its unit: "500", "500ms", "2 s"."""
    bare = text.strip()
    return 1e3 * parse(bare, "s", field="time") if bare[-1:] == "s" else real(text)


MILLISECONDS = typed(_milliseconds)
"""The `type` of flags for times in ms, or with a unit; their value is in ms."""


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="print JSON, in SI units")


def add_plot(parser: argparse.ArgumentParser, what: str) -> None:
    """`--plot`.

    Arguments:
        parser: of the command.
        what: is drawn, for `--help`: "draw ...".
    """
    parser.add_argument(
        "--plot",
        metavar="FILE",
        help=f"{what}, as .png, .svg or .pdf (needs diffgenz[plots])",
    )


def add_progress(parser: argparse.ArgumentParser) -> None:
    """`--progress`."""
    parser.add_argument(
        "--progress",
        action="store_true",
        help="report progress on stderr even where that is no terminal",
    )


def add_words(
    parser: argparse.ArgumentParser,
    names: Iterable[str],
    changed: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """The arguments of some words.

    Arguments:
        parser: of the command.
        names: of the words, in the order of `--help`.
        changed: by word, what the command changes of its argument: options of `add_argument`.
    """
    for name in names:
        own = dict((changed or {}).get(name, {}))
        parser.add_argument(*_flags(WORDS[name]), **(_options(WORDS[name]) | own))


def _flags(word: Word) -> tuple[str, ...]:
    """How the argument is called: the model goes without a flag."""
    return ("model",) if word.name == "model" else (word.flag,)


def _options(word: Word) -> dict[str, Any]:
    """How `add_argument` takes a word."""
    if word.kind is bool:
        return {"action": "store_true", "help": word.help}
    options: dict[str, Any] = {"default": word.default, "help": word.help}
    options["type"] = typed(word.value_of)
    if word.choices:
        options["choices"] = word.choices
    if word.name in ("model", "draft-model"):
        options["metavar"] = "MODEL"
    if word.name == "system":
        options["required"] = True
    return options


def add_set(parser: argparse.ArgumentParser) -> None:
    """`--set`."""
    parser.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="another value for a number of the system, such as 'memory_bandwidth=7 TB/s' or "
        "'network.0.bandwidth=900 GB/s'; may be given again",
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    """`--max-num-seqs`, `--host` and more: what a server under load is set to."""
    parser.add_argument(
        "--max-num-seqs",
        type=COUNT,
        default=256,
        metavar="N",
        help="requests that run at once (default: 256)",
    )
    parser.add_argument(
        "--host",
        type=MILLISECONDS,
        default=0.0,
        metavar="MS",
        help="ms that the host adds to each iteration (default: 0)",
    )
    parser.add_argument(
        "--stream-interval",
        type=COUNT,
        default=1,
        metavar="N",
        help="tokens that are sent to a user at once (default: 1)",
    )
    parser.add_argument(
        "--prefill-first",
        action="store_true",
        help="whole prompts go before decodes, in iterations of their own (default: in chunks "
        "beside them)",
    )
    parser.add_argument(
        "--serving-fit",
        metavar="FIT.toml",
        help="what `diffgenz calibrate BENCH.json --out FIT.toml` fitted to servers, where no flag "
        "says otherwise (default: nothing)",
    )


def engine_of(options: argparse.Namespace) -> "Engine":
    """What the flags of `add_engine` say, without `--serving-fit`."""
    from diffgenz.serving.load import Engine

    return Engine(
        max_num_seqs=float(options.max_num_seqs),
        host_seconds=options.host / 1e3,
        stream_interval=options.stream_interval,
        prefill_first=options.prefill_first,
    )


def engine_for(options: argparse.Namespace, case: "Scenario") -> "Engine":
    """What serves a scenario, as the flags of `add_engine` and `--fit` say."""
    if options.serving_fit is None:
        return engine_of(options)
    from diffgenz.kernels.software import SOFTWARE
    from diffgenz.serving.serving_fit import load_serving_fit

    software = options.fit if options.fit in SOFTWARE else ""
    return load_serving_fit(options.serving_fit).engine(case, software, engine_of(options))


def words_in(options: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """What the flags of a command say, by word."""
    return {name: getattr(options, name.replace("-", "_")) for name in names}
