"""End-to-end calibration: planted hosts come back, and nothing is asked of what was fitted."""

import dataclasses
import functools
import itertools
from typing import Any

import numpy as np
import pytest

from diffgenz import (
    Benchmark,
    Engine,
    InputError,
    Latency,
    Load,
    ServingFit,
    calibrate_serving,
    compare,
    load_serving_fit,
    replay,
    save_serving_fit,
    serve,
)
from diffgenz.calibrating.comparing import question_of
from diffgenz.calibrating.end_to_end.folds import BY, FOLDS, configuration_of, folds_of
from diffgenz.calibrating.end_to_end.rows import merged_repeats
from diffgenz.serving.request_log import Requests
from diffgenz.serving.serving_fit import DeploymentFit, EngineFit, deployment_words

PLANTED = Engine(host_seconds=2e-3, request_seconds=0.08)


def benchmark(**changed: Any) -> Benchmark:
    everything: dict[str, Any] = {
        "place": "bench.json",
        "tool": "a tool",
        "model": "meta-llama/Llama-3.2-1B",
        "system": "h100_sxm",
        "engine": "vllm",
        "ranks": {"tp": 1},
        "input_tokens": 1024.0,
        "output_tokens": 128.0,
        "concurrency": 4.0,
    }
    return Benchmark(**(everything | changed))


@functools.cache
def planted() -> tuple[Benchmark, ...]:
    """Runs of a server with a known host, each off by some 2 %."""
    draws = np.random.default_rng(1)
    found = []
    for number, (tokens, under_way) in enumerate(itertools.product((256, 2048), (1, 8, 64)), 1):
        run = benchmark(input_tokens=float(tokens), concurrency=float(under_way))
        load = Load(concurrency=float(under_way), requests=10.0 * under_way)
        seen = serve(question_of(run, {}).scenario, load, PLANTED)
        noise = np.exp(0.02 * draws.normal(size=2))
        times = {
            "ttft": Latency(float(seen.ttft.mean * noise[0])),
            "tpot": Latency(float(seen.tpot.mean * noise[1])),
        }
        found.append(dataclasses.replace(run, **times, place=f"run {number}"))
    return tuple(found)


@functools.cache
def calibrated():
    return calibrate_serving(planted())


def test_planted_hosts_come_back_within_their_standard_errors():
    found = calibrated()
    (engine,) = found.fit.engines
    assert (engine.name, engine.runs) == ("vllm", 6)
    for name in ("host_seconds", "request_seconds"):
        true, error = float(getattr(PLANTED, name)), engine.standard_errors[name]
        assert abs(engine.values[name] - true) < 2 * error
        assert error < 0.2 * true  # and they are known
    assert set(engine.values) == {"host_seconds", "request_seconds"}
    assert found.wins
    before, after = found.medians("nothing fitted"), found.medians("configuration")
    assert before["ttft"] > 0.4
    assert after["ttft"] < 0.05
    assert after["tpot"] < 0.04
    assert after["tpot"] < before["tpot"]
    assert found.fit.held_out == {case: found.medians(case) for case in found.errors}


def test_a_saved_fit_is_loaded_and_predicts(tmp_path):
    fit = calibrated().fit
    path = tmp_path / "fit.toml"
    save_serving_fit(fit, path, "by hand")
    again = load_serving_fit(path)
    assert [each.values for each in again.engines] == [
        pytest.approx(each.values, rel=1e-5) for each in fit.engines
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["fit.toml"]
    (run,) = compare(planted()[4:5], {}, fit=again)
    (plain,) = compare(planted()[4:5], {})
    ratios = [each.ratios["ttft"] for each in (run, plain)]
    assert ratios[0] == pytest.approx(1, abs=0.05)
    assert ratios[1] is not None
    assert ratios[1] < 0.7


def test_what_a_person_says_and_other_deployments_are_left_alone():
    case = question_of(benchmark(), {}).scenario
    other = question_of(benchmark(), {"tp": 2}).scenario
    engine = EngineFit("vllm", {"host_seconds": 1e-3, "stream_interval": 5.0}, {}, 9)
    own = DeploymentFit("vllm", deployment_words(case), 1.5, 2.0, 0.1, 0.1, 3)
    fit = ServingFit((engine,), (own,))
    found = fit.engine(case)
    numbers = (found.host_seconds, found.stream_interval, found.pace)
    assert [float(x) for x in numbers if x is not None] == pytest.approx([2e-3, 9.0, 1.5])
    found = fit.engine(other, "vllm", Engine(host_seconds=7e-3))
    assert float(found.host_seconds) == pytest.approx(7e-3)
    assert found.pace is None
    with pytest.raises(InputError, match="it has no sglang, but vllm; calibrate it"):
        fit.engine(case, "sglang")


@pytest.mark.slow
def test_a_log_is_replayed():
    draws = np.random.default_rng(2)
    log = Requests(
        np.cumsum(draws.exponential(0.02, 30)),
        draws.integers(100, 900, 30).astype(float),
        draws.integers(2, 50, 30).astype(float),
    )
    run = benchmark(
        log=log,
        slots=16.0,
        budget=512.0,
        concurrency=None,
        in_flight=20.0,
        input_tokens=float(log.prompts.mean()),
        output_tokens=float(log.outputs.mean()),
    )
    server = Engine(max_num_seqs=16.0, host_seconds=6e-3, request_seconds=0.1)
    seen = replay(question_of(run, {}).scenario, *log, server)
    times = {"ttft": Latency(seen.ttft.mean()), "tpot": Latency(seen.tpot.mean())}
    found = calibrate_serving([dataclasses.replace(run, **times)])
    after, before = found.medians("in sample"), found.medians("nothing fitted")
    assert set(found.errors) == {"in sample", "nothing fitted"}
    assert max(after.values()) < 0.03
    assert min(before.values()) > 0.2


@pytest.mark.parametrize("by", BY)
def test_no_group_is_on_both_sides(by):
    runs = [
        benchmark(model=model, system=system, engine=engine, concurrency=float(n), place=f"{n}{i}")
        for model, system, engine, n, i in itertools.product(
            ("a", "b", "c"), ("h100_sxm", "b200_sxm"), ("vllm", "sglang"), (1, 2, 4), (0, 1)
        )
    ]
    folds = folds_of(runs, by)
    groups = {
        "configuration": configuration_of,
        "deployment": lambda run: (run.model, run.system, run.engine),
        "model": lambda run: run.model,
        "system": lambda run: run.system,
        "backend": lambda run: run.engine,
    }
    sides: dict = {}
    for run, fold in zip(runs, folds, strict=True):
        sides.setdefault(groups[by](run), set()).add(int(fold))
    assert all(len(each) == 1 for each in sides.values())
    counts = {"model": 3, "system": 2, "backend": 2}
    assert len(set(folds.tolist())) == counts.get(by, FOLDS)
    again = folds_of(runs[::-1], by)[::-1]
    assert (again == folds).all()


def test_repeats_are_one_run_unless_they_differ():
    def times(seconds):
        return {"ttft": Latency(seconds), "tpot": Latency(0.01)}

    runs = [benchmark(**times(x), place=str(x)) for x in (0.10, 0.11, 0.12)]
    apart = [benchmark(**times(x), place=str(x), concurrency=8.0) for x in (0.1, 0.2)]
    (merged,), reasons = merged_repeats([*runs, *apart])
    assert merged.ttft.mean == pytest.approx(0.11)
    assert list(reasons.values()) == [["0.1", "0.2"]]


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"tpot": Latency(0.01), "model": "no/such"}, "model: 'no/such' is not known"),
        ({}, "it has neither TTFT nor TPOT nor end to end"),
        ({"ttft": Latency(-1.0)}, "ttft: -1 s is no time; run the benchmark again"),
        ({"tpot": Latency(0.01), "concurrency": None}, "batch: the file does not say it"),
        ({"tpot": Latency(0.01), "ranks": {}}, "the file does not say on how many accelerators"),
        ({"tpot": Latency(0.01), "speculative": "mtp"}, "speculative decoding (mtp) is not mod"),
        ({"tpot": Latency(0.01), "input_tokens": 3e7}, "memory"),
        ({"tpot": Latency(0.01), "concurrency": None, "rate": 1e6, "in_flight": 4.0}, "more req"),
    ],
)
def test_runs_that_cannot_be_predicted_are_named(run, message):
    with pytest.raises(InputError) as caught:
        calibrate_serving([benchmark(**run)])
    assert message in str(caught.value)
    assert str(caught.value).startswith("bench.json: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version = 1\n", "kind: None of version 1 is no serving fit"),
        ('version = 1\nkind = "serving"\n', "engine: there is none"),
        ('version = 1\nkind = "serving"\n[[engine]]\nname = "x"\n', "engine.name: 'x' is not kn"),
        (
            'version = 1\nkind = "serving"\n[[engine]]\nname = "vllm"\nruns = 1\nhost = 3\n',
            "engine.host: is not known",
        ),
        (
            'version = 1\nkind = "serving"\n[[engine]]\nname = "vllm"\nruns = 1\npace = -1\n',
            "pace: -1 is no number of at least 0",
        ),
        ('version = 1\nkind = "serving"\n[[engine]]\nname = "vllm"\n', "a table is damaged"),
        ("[", "not valid TOML"),
    ],
)
def test_damaged_files_are_refused_in_one_line(text, message, tmp_path):
    path = tmp_path / "fit.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_serving_fit(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
