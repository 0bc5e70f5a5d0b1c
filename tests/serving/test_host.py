"""What a host adds: laws of `Engine`'s host numbers under load and in a replay."""

import numpy as np
import pytest
from support import make_cluster
from whole_models import DENSE

from diffgenz import Engine, InputError, Load, Parallelism, Scenario, Workload, replay, serve

CHAT = Workload(batch=1.0, input_tokens=1500.0, output_tokens=200.0)
CASE = Scenario(DENSE, make_cluster(), CHAT, Parallelism(8))
LOADS = (Load(concurrency=1.0), Load(concurrency=16.0), Load(rate=2.0))


@pytest.mark.parametrize("load", LOADS, ids=["alone", "closed", "open"])
def test_a_request_waits_for_its_host_and_tokens_for_each_other(load):
    plain = serve(CASE, load)
    held = serve(CASE, load, Engine(request_seconds=0.2))
    chunks = serve(CASE, load, Engine(stream_interval=11.0))
    assert float(held.ttft.mean - plain.ttft.mean) == pytest.approx(0.2)
    assert float(held.tpot.mean) == pytest.approx(float(plain.tpot.mean))
    assert float(held.end_to_end.p50 - plain.end_to_end.p50) == pytest.approx(0.2, rel=0.05)
    # the last token comes when it came, the first with the ten after it
    assert float(chunks.ttft.mean - plain.ttft.mean) == pytest.approx(10 * float(plain.tpot.mean))
    assert float(chunks.tpot.mean) == pytest.approx(float(plain.tpot.mean) * (1 - 10 / 199))
    assert float(chunks.end_to_end.mean) == pytest.approx(float(plain.end_to_end.mean))
    for found in (held, chunks):  # Little's law
        inside = float(found.requests_per_second * found.end_to_end.mean)
        rate = float(plain.requests_per_second * plain.end_to_end.mean)
        if load.rate is None:
            assert inside == pytest.approx(rate, rel=1e-3)
        assert float(found.residual) < 1e-6


@pytest.mark.parametrize("load", LOADS, ids=["alone", "closed", "open"])
def test_a_request_waits_for_the_engine_to_look_at_it(load):
    plain, held = serve(CASE, load), serve(CASE, load, Engine(request_iterations=10.0))
    late = 10 * float(held.tpot.mean)
    assert float(held.tpot.mean) == pytest.approx(float(plain.tpot.mean))
    assert float(held.ttft.mean - plain.ttft.mean) == pytest.approx(late)
    assert float(held.end_to_end.mean - plain.end_to_end.mean) == pytest.approx(late)
    if load.rate is None:  # Little's law
        inside = float(held.requests_per_second * held.end_to_end.mean)
        before = float(plain.requests_per_second * plain.end_to_end.mean)
        assert inside == pytest.approx(before, rel=1e-2)


def test_launches_of_prompts_bind_iterations_that_carry_them():
    alone, layers = LOADS[0], float(DENSE.layers)
    plain = serve(CASE, alone)
    eager = serve(CASE, alone, Engine(prompt_layer_seconds=1.0))
    assert float(eager.ttft.mean) == pytest.approx(layers, rel=1e-3)
    assert float(eager.tpot.mean) == pytest.approx(float(plain.tpot.mean), rel=1e-3)
    # on top of what launches of any layer take
    whole = serve(CASE, alone, Engine(layer_seconds=0.5, prompt_layer_seconds=0.5))
    assert float(whole.ttft.mean) == pytest.approx(layers, rel=1e-3)
    assert float(whole.tpot.mean) == pytest.approx(layers / 2, rel=1e-3)
    # others' prompts make tokens wait
    several = LOADS[1]
    assert float(serve(CASE, several, Engine(prompt_layer_seconds=1.0)).tpot.mean) > 1.5 * float(
        serve(CASE, several).tpot.mean
    )


def test_an_eager_host_is_a_floor_and_pace_a_factor():
    alone = LOADS[0]
    plain = float(serve(CASE, alone).tpot.mean)
    layers = float(DENSE.layers)
    eager = float(serve(CASE, alone, Engine(layer_seconds=1.0)).tpot.mean)
    assert eager == pytest.approx(layers, rel=1e-3)
    quick = float(serve(CASE, alone, Engine(layer_seconds=0.1 * plain / layers)).tpot.mean)
    assert quick == pytest.approx(plain, rel=1e-3)
    both = float(serve(CASE, alone, Engine(layer_seconds=plain / layers)).tpot.mean)
    assert both == pytest.approx(2 ** (1 / 3) * plain, rel=2e-2)
    slow = serve(CASE, alone, Engine(pace=2.0, host_seconds=1e-3))
    assert float(slow.tpot.mean) == pytest.approx(2 * plain + 1e-3, rel=1e-3)


def test_a_replay_has_the_same_host():
    log = np.zeros(3), np.full(3, 1500), np.array([200, 1, 50])
    plain = replay(CASE, *log)
    held = replay(CASE, *log, Engine(request_seconds=0.2, stream_interval=11.0))
    np.testing.assert_allclose(held.end_to_end, plain.end_to_end + 0.2)
    several = [0, 2]
    delay = 0.2 + 10 * plain.tpot[several]
    np.testing.assert_allclose(held.ttft[several], plain.ttft[several] + delay)
    assert held.ttft[1] == pytest.approx(plain.ttft[1] + 0.2)


def test_an_interval_is_shorter_than_an_answer():
    with pytest.raises(InputError, match="stream_interval: 250 exceeds 199, the tokens of an"):
        serve(CASE, LOADS[0], Engine(stream_interval=250.0))
    with pytest.raises(InputError, match="pace"):
        Engine(pace=0.0)
