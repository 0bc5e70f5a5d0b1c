"""`compare`: what was measured under a serving load beside what the same set-up is predicted to do.

A file says a part of the set-up, and words the rest. Where it says the load too, `serve` answers;
else it is the estimate of as many requests as were in flight, which arrive together.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from diffgenz.calibrating.formats_named import formats_named
from diffgenz.calibrating.named import model_named, of_one_model, on_system, system_named
from diffgenz.calibrating.predicting import Prediction, predict
from diffgenz.calibrating.readers.serving.benchmark import Benchmark, Latency
from diffgenz.core.errors import InputError
from diffgenz.core.sections import said_of
from diffgenz.inference.timed_by import timed_by
from diffgenz.kernels.software import DEFAULT, SOFTWARE
from diffgenz.scenario.from_words import Asked, from_words
from diffgenz.serving.load import Engine
from diffgenz.serving.serving_fit import ServingFit

RANKS = ("gpus", "tp", "pp", "dp", "ep", "cp", "attention-dp")
"""The words that say a layout."""

METRICS = ("ttft", "tpot", "throughput")
"""What is compared."""


class Comparison(NamedTuple):
    """A benchmark beside what its set-up is predicted to do.

    Arguments:
        benchmark: what was measured.
        asked: the set-up.
        prediction: what it is predicted to do.
        kernels: what times its kernels (`inference.timed_by`).
    """

    benchmark: Benchmark
    asked: Asked
    prediction: Prediction
    kernels: dict[str, str]

    @property
    def is_queued(self) -> bool:
        """Whether TTFT was measured with queueing that the prediction does not know."""
        batch = float(self.asked.scenario.workload.batch)
        return self.prediction.is_batch and not self.benchmark.together and batch > 1

    @property
    def measured(self) -> dict[str, float | None]:
        """TTFT and TPOT in s (means, else medians), and output tokens/s; None where unknown."""
        b = self.benchmark
        return {name: getattr(b, self._named(name)).typical for name in ("ttft", "tpot")} | {
            "throughput": b.throughput
        }

    @property
    def predicted(self) -> dict[str, float]:
        """The same of the prediction."""
        found = {"throughput": self.prediction.throughput}
        for name in ("ttft", "tpot"):
            known = self._named(name) if self.prediction.load is not None else name
            latency: Latency = self.prediction.latencies[known]
            has_mean = getattr(self.benchmark, self._named(name)).mean is not None
            middle = latency.percentiles.get(50.0, latency.mean)
            value = latency.mean if has_mean else middle
            assert value is not None  # predictions have means
            found[name] = value
        return {name: found[name] for name in METRICS}

    @property
    def ratios(self) -> dict[str, float | None]:
        """Predicted / measured; None where it is unknown, or only TTFT as measured has queueing."""
        found: dict[str, float | None] = {}
        for name, value in self.measured.items():
            compared = value and not (name == "ttft" and self.is_queued)
            found[name] = self.predicted[name] / value if value and compared else None
        return found

    def _named(self, name: str) -> str:
        """Where a file has no TPOT, the time between tokens stands for it."""
        return "itl" if name == "tpot" and self.benchmark.tpot.typical is None else name


def compare(
    benchmarks: Sequence[Benchmark],
    words: Mapping[str, Any],
    settings: Sequence[str] = (),
    skipped: Callable[[str], None] | None = None,
    engine: Engine | None = None,
    fit: ServingFit | None = None,
) -> list[Comparison]:
    """What was measured, beside what is predicted.

    Runs of other models or systems than the words name are left out, and so are runs that no
    estimate describes: disaggregated ones, and speculative ones where no word says the drafts.

    Arguments:
        benchmarks: what was measured.
        words: what the files do not say, by word (`scenario.words.WORDS`); None where nothing is
            said. A model, system, layout, format or fit overrides the file's.
        settings: numbers of the system to change (`hardware.settings`).
        skipped: called with each run that is left out, and why.
        engine: what the server was set to. Default: `Engine()`, with a slot for each request that
            is under way.
        fit: what was fitted to servers (`load_serving_fit`). Default: nothing.

    Raises:
        InputError: several models of which none is named, a set-up that neither the file nor a word
            says, a word that contradicts the file, or nothing to compare.
    """
    chosen = of_one_model(benchmarks, words.get("model"))
    chosen = on_system(chosen, words.get("system"))
    grows = engine is None
    engine = Engine() if engine is None else engine
    found, reasons = [], []
    for benchmark in chosen:
        reason = benchmark.unmodelled
        if benchmark.speculative and words.get("drafts") is None:
            reason = f"speculative decoding ({benchmark.speculative}); give --drafts, --acceptance"
        if reason:
            reasons.append(f"left out: {benchmark.place}: {reason}")
            if skipped is not None:
                skipped(reasons[-1])
            continue
        asked = question_of(benchmark, words, settings)
        case = asked.scenario
        software = str(words.get("fit") or benchmark.engine)
        named = software if software in SOFTWARE else ""
        server = engine if fit is None else fit.engine(case, named, engine)
        prediction = predict(benchmark, case, server, grows)
        found.append(Comparison(benchmark, asked, prediction, timed_by(case)))
    if not found:
        raise InputError(f"FILE: nothing is left to compare; {reasons[0]}")
    return found


def question_of(
    benchmark: Benchmark, words: Mapping[str, Any], settings: Sequence[str] = ()
) -> Asked:
    """The set-up of a benchmark as a scenario; arguments and errors are those of `compare`."""
    values = {name: value for name, value in words.items() if value is not None}
    values.setdefault("model", model_named(benchmark))
    if "system" not in values:
        values["system"] = system_named(benchmark)
    if not any(name in values for name in RANKS):
        if not benchmark.ranks:
            raise InputError(
                f"{benchmark.place}: tp: the file does not say on how many accelerators it ran; "
                "give --tp or --gpus"
            )
        values |= benchmark.ranks
    stated = {"isl": benchmark.input_tokens, "osl": benchmark.output_tokens}
    for name, value in (stated | {"batch": benchmark.batch}).items():
        values[name] = _stated(benchmark, name, value, values.get(name))
    for name, longest in stated.items():
        if longest is not None:
            values[name] = max(1, round(benchmark.mean_of(longest) or 1))
    values.setdefault("fit", benchmark.engine or DEFAULT)
    if benchmark.kv_cache:
        values.setdefault("kv-cache", benchmark.kv_cache)
    if benchmark.budget is not None:
        values.setdefault("chunk", round(benchmark.budget))
    with said_of(benchmark.place):
        if not {"weights", "activations", "modules"} & values.keys():
            values |= formats_named(values["model"], values["system"], benchmark.precision)
        return from_words(values, settings=settings)


def _stated(benchmark: Benchmark, word: str, stated: float | None, given: Any) -> int:
    """A number of the workload, from the file or from a word."""
    if stated is None and given is None:
        raise InputError(f"{benchmark.place}: {word}: the file does not say it; give --{word}")
    if stated is None:
        return int(given)
    number = max(1, round(stated))
    if given is not None and int(given) != number:
        raise InputError(
            f"--{word}: {given} contradicts {benchmark.place}, which has {number}; leave it out"
        )
    return number
