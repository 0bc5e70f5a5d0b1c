"""From files to benchmarks: every reader of serving runs, and which of them knows a file."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from diffgenz.calibrating.readers.csv_table import read_csv
from diffgenz.calibrating.readers.serving import (
    aiperf,
    aiperf_csv,
    inferencex,
    llm_inference_bench,
    llmservingsim_log,
    published,
    sglang,
    silicon,
    splitwise,
    vllm,
)
from diffgenz.calibrating.readers.serving.benchmark import Benchmark, Latency
from diffgenz.core.errors import InputError


class Tool(NamedTuple):
    """A kind of run.

    Arguments:
        name: what people call the tool that wrote it, and the file.
        knows: whether an object of JSON is such a run.
        read: the benchmark of a place and an object.
    """

    name: str
    knows: Callable[[dict[str, Any]], bool]
    read: Callable[[str, dict[str, Any]], Benchmark]


TOOLS: tuple[Tool, ...] = (
    Tool("`vllm bench serve --save-result` (JSON)", vllm.knows, vllm.read),
    Tool("SGLang's bench_serving (JSON lines)", sglang.knows, sglang.read),
    Tool("aiperf and genai-perf (profile_export_*.json, .csv)", aiperf.knows, aiperf.read),
    Tool("InferenceX (agg_*.json, or its site's CSV)", inferencex.knows, inferencex.read),
    Tool("aiconfigurator's silicon table (CSV)", silicon.knows, silicon.read),
    Tool("Splitwise's perf_model.csv", splitwise.knows, splitwise.read),
    Tool("LLM-Inference-Bench (CSV)", llm_inference_bench.knows, llm_inference_bench.read),
    Tool("NIM's figures (CSV)", published.knows_nim, published.read_nim),
    Tool("IMEC's figures (CSV)", published.knows_imec, published.read_imec),
)
"""Every kind of run that is read."""


def read_benchmarks(files: str | Path | Sequence[str | Path]) -> list[Benchmark]:
    """The serving benchmarks in some files, in their order.

    Arguments:
        files: files of `TOOLS`, or one of them; a file may hold several runs. Of a folder those of
            its files are read that are such.

    Raises:
        InputError: a file cannot be read, no reader knows it, it holds no run, or requests of a run
            failed: no average counts them, so that nothing can be compared with it.
    """
    found = []
    for path in _each_file([files] if isinstance(files, str | Path) else files):
        rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _json_rows(path)
        if not rows:
            raise InputError(f"{path.name}: it holds no runs; give the result of a benchmark")
        objects = [row for _, row in rows]
        if llmservingsim_log.knows(objects):
            found.append(llmservingsim_log.read(path, objects))
            continue
        for number, row in rows:
            place = path.name if len(rows) == 1 else f"{path.name}: row {number}"
            found.append(_checked(_read(place, row)))
    return found


def holds_benchmarks(files: Sequence[str | Path]) -> bool:
    """Whether some files are serving benchmarks, and not tables of measured kernels.

    JSON is; a CSV is where its columns are those of a tool.

    Arguments:
        files: files, or folders, which are benchmarks if any of their files is one.

    Raises:
        InputError: some are, and some are not.
    """
    found = [_is_benchmark(Path(name)) for name in files]
    if any(found) and not all(found):
        one, other = files[found.index(True)], files[found.index(False)]
        raise InputError(
            f"FILE: {one} is a serving benchmark, {other} is not; calibrate kernels and servers "
            "apart"
        )
    return any(found)


def _each_file(names: Sequence[str | Path]) -> list[Path]:
    """The files of some names, with those of folders that hold runs."""
    found = []
    for path in map(Path, names):
        inside = _runs_in(path) if path.is_dir() else [path]
        if not inside:
            raise InputError(f"FILE: {path} holds no file of a benchmark; name the files")
        found += inside
    return found


def _runs_in(folder: Path) -> list[Path]:
    """The files of a folder that hold runs, by name."""
    return [path for path in sorted(folder.iterdir()) if path.is_file() and _holds_runs(path)]


def _holds_runs(path: Path) -> bool:
    """Whether a file holds runs that a reader knows."""
    if path.suffix.lower() not in (".json", ".jsonl"):
        return path.suffix.lower() == ".csv" and _is_benchmark(path)
    try:
        objects = [row for _, row in _json_rows(path)]
    except InputError:
        return False
    known = any(tool.knows(row) for row in objects if isinstance(row, dict) for tool in TOOLS)
    return known or llmservingsim_log.knows(objects)


def _is_benchmark(path: Path) -> bool:
    if path.is_dir():
        return bool(_runs_in(path))
    if path.suffix.lower() in (".json", ".jsonl"):
        return True
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = file.readline()
    except (OSError, UnicodeDecodeError):
        return False
    if path.suffix.lower() != ".csv":
        return first.lstrip().startswith("{")
    names = [cell.strip().strip('"') for cell in first.split(",")]
    known = any(tool.knows(dict.fromkeys(names)) for tool in TOOLS)
    return known or aiperf_csv.knows_header(first) or inferencex.knows_header(names)


def _read(place: str, row: Any) -> Benchmark:
    """The benchmark of a row, by the reader that knows it."""
    if isinstance(row, dict):
        for tool in TOOLS:
            if tool.knows(row):
                return tool.read(place, row)
    known = ", ".join([*(tool.name for tool in TOOLS), "LLMServingSim's requests.jsonl"])
    raise InputError(f"{place}: no reader knows this benchmark; known are {known}")


def _checked(benchmark: Benchmark) -> Benchmark:
    """The same benchmark; `InputError` where requests failed or none completed."""
    if benchmark.failed:
        total = benchmark.failed + (benchmark.completed or 0)
        raise InputError(
            f"{benchmark.place}: failed: {benchmark.failed:,} of {total:,} requests failed, and "
            "averages leave them out; repeat the run without failures"
        )
    ranks = dict(benchmark.ranks)
    gpus = ranks.pop("gpus", None)
    ranks.pop("ep", None)  # experts live on the ranks of the others
    said = " x ".join(f"{word} {count}" for word, count in ranks.items())
    if gpus is not None and ranks and gpus % math.prod(ranks.values()):
        raise InputError(
            f"{benchmark.place}: gpus: {gpus} is not a multiple of {said}; correct the metadata"
        )
    if benchmark.completed == 0:
        raise InputError(f"{benchmark.place}: completed: 0 requests; repeat the run")
    loads = {"concurrency": (benchmark.concurrency, 1), "rate": (benchmark.rate, 1e-9)}
    for name, (value, least) in loads.items():
        if value is not None and value < least:
            raise InputError(f"{benchmark.place}: {name}: {value:g} is no load; correct the file")
    if benchmark.output_tokens is not None and benchmark.output_tokens <= 1:
        return replace(benchmark, tpot=Latency(), itl=Latency())  # tools write 0
    return benchmark


def _json_rows(path: Path) -> list[tuple[int, Any]]:
    """The objects in a file of JSON or JSON lines, each with its number, counted from 1."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        what = getattr(error, "strerror", None) or error
        raise InputError(f"FILE: {path} cannot be read: {what}") from None
    try:
        whole = json.loads(text)
        rows = whole if isinstance(whole, list) else [whole]
        return list(enumerate(rows, 1))
    except ValueError as error:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        wrong = str(error)
    try:
        return [(number, json.loads(line)) for number, line in lines]
    except ValueError:
        raise InputError(
            f"{path.name}: it is neither JSON nor JSON lines: {wrong}; give the file as the tool "
            "wrote it"
        ) from None


def _csv_rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The rows of a CSV: of InferenceX's site with the names that its JSON has."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = file.readline()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"FILE: {path} cannot be read: {error}") from None
    if aiperf_csv.knows_header(first):
        return [(1, aiperf_csv.as_json(path))]
    table = read_csv(path)
    header = list(table.columns)
    named = {column: column for column in header}
    if inferencex.knows_header(header):
        named = {column: inferencex.CSV[column] for column in header if column in inferencex.CSV}
    elif not any(tool.knows(named) for tool in TOOLS):
        known = ", ".join(tool.name for tool in TOOLS if "CSV" in tool.name or "csv" in tool.name)
        raise InputError(
            f"{path.name}: its columns are those of no benchmark that is known ({known}), such as "
            "InferenceX's Hardware, ISL, OSL and Concurrency; export it again"
        )
    return [
        (int(line), {name: str(table.columns[column][index]) for column, name in named.items()})
        for index, line in enumerate(table.lines)
    ]
