"""With `smooth_batch`, requests and tokens are continuous: derivatives are those of the values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_close

import diffgenz as dgz
from diffgenz import Parallelism, Precision, Scenario, Serving, Workload, load_model, load_platform
from diffgenz.core import xp
from diffgenz.core.smooth import ceil_share, share_of, smooth_ceil
from diffgenz.inference.prefill_decode import chunk_count, prompt_step

FP8 = Precision(weights="fp8_block", activations="fp8_block")
CASES = {
    "dense": (
        *("meta-llama/Llama-3.1-8B", "h100_sxm", Parallelism(2, 2, 2), Precision()),
        Serving(chunk=None),  # 48 requests would fill a chunk, and 40 would not
    ),
    "quantised, in chunks": (
        *("meta-llama/Llama-3.1-8B", "h100_sxm", Parallelism(1), FP8),
        Serving(chunk=512),
    ),
    "latent attention, experts": (
        *("deepseek-ai/DeepSeek-V2-Lite", "h200_sxm", Parallelism(1, 1, 1, 0.0, 4, 4)),
        *(Precision(), Serving()),
    ),
    "recurrent": (
        *("mistralai/Mamba-Codestral-7B-v0.1", "b200_sxm", Parallelism(2)),
        *(Precision(), Serving()),
    ),
}


def question(name, smooth, **platform):
    model, system, plan, precision, serving = CASES[name]
    hardware = load_platform(system, int(plan.ranks), **platform)
    work = Workload(20, 700, 90)
    return Scenario(
        load_model(model), hardware, work, plan, precision, serving, smooth_batch=smooth
    )


def logarithms(case, batch, tokens):
    """ln TTFT, ln TPOT and ln memory."""
    work = case.workload.replace(batch=batch, input_tokens=tokens)
    result = dgz.estimate(case.replace(workload=work))
    return xp.log(xp.stack([result.ttft, result.tpot, result.memory.total]))


@pytest.mark.parametrize("name", CASES)
def test_derivatives_are_differences(name, double):
    """Per cent for per cent, of a batch and of a prompt that no ranks and no tiles divide."""
    case = question(name, smooth=True)
    at = np.array([53.7, 1111.3])
    step = 1e-5

    def moved(which, sign):
        return logarithms(case, *(at * np.exp(sign * step * (np.arange(2) == which))))

    with jax.disable_jit():  # each program would run once: to compile it takes longer
        slopes = jax.jacfwd(lambda x: logarithms(case, x[0], x[1]))(jnp.asarray(at)) * at
    differences = [(moved(which, 1) - moved(which, -1)) / (2 * step) for which in range(2)]
    assert_close(slopes, np.stack(differences, axis=1), rtol=1e-5, atol=1e-6)
    assert (np.asarray(slopes)[0] > 0.3).all()  # TTFT grows with both


def test_rounding_misleads_where_smooth_shares_do_not():
    """The slope of TTFT with the batch, against the rise from 1.2 times fewer to 1.2 times more."""
    slopes = {}
    for smooth in (False, True):
        case = question("dense", smooth)

        def ttft(batch, case=case):
            return logarithms(case, batch, case.workload.input_tokens)[0]

        rise = (ttft(np.float32(48.0)) - ttft(np.float32(40.0))) / np.log(48 / 40)
        with jax.disable_jit():
            _, slope = jax.jvp(ttft, (jnp.asarray(44.0),), (jnp.asarray(44.0),))
        slopes[smooth] = float(slope) / float(rise)
    assert slopes[True] == pytest.approx(1, abs=0.02)
    assert abs(slopes[False] - 1) > 0.05


@pytest.mark.parametrize("name", CASES)
def test_where_ranks_divide_all_requests_nothing_changes(name):
    """Without fits, which take the mean of their tiles' stairs, and with hard maxima."""
    even, smooth = (
        question(name, smooth, fit="none").replace(sharpness=dgz.HARD) for smooth in (False, True)
    )
    assert_close(
        logarithms(smooth, 16.0, 512.0), logarithms(even, 16.0, 512.0), rtol=1e-6, atol=2e-6
    )


def test_chunks_of_prompts_have_no_kink_where_one_is_full():
    """(x**8 + 1)**(1/8) of x = tokens / chunk: 2**(1/8) at one, x itself where there are many."""
    for smooth, full in ((False, 1.0), (True, 2**0.125)):
        case = question("quantised, in chunks", smooth)
        for tokens, expected in ((512.0, full), (64.0, 1.0), (4 * 512.0, 4.0)):
            found = chunk_count(case, prompt_step(case.replace(
                workload=case.workload.replace(input_tokens=tokens)), np.float32(1)))  # fmt: skip
            assert float(found) == pytest.approx(expected, rel=1e-5)


def test_fitted_kernels_take_the_mean_of_their_stairs():
    """Over a whole step of 256 rows; between, quantised kernels lie up to a fifth apart."""
    ratios = []
    for chunk in range(520, 776, 32):
        times = []
        for smooth in (False, True):
            case = question("quantised, in chunks", smooth)
            case = case.replace(serving=Serving(chunk=float(chunk)))
            times.append(float(logarithms(case, 20.0, 700.0)[0]))
        ratios.append(times[1] - times[0])
    assert abs(np.mean(ratios)) < 0.03
    assert max(ratios) > 0.05
    assert min(ratios) < -0.05


def test_shares_by_hand():
    half = np.float32(0.5)
    assert (
        float(share_of(np.float32(7), half, smooth=False))
        == 4
        == float(ceil_share(np.float32(7), half))
    )
    assert float(share_of(np.float32(7), half, smooth=True)) == 3.5
    assert float(share_of(np.float32(1), half, smooth=True)) == 1
    assert float(smooth_ceil(np.float32(20.25))) == pytest.approx(20.75, rel=1e-6)
    assert float(smooth_ceil(np.float32(0.01))) == pytest.approx(1, rel=1e-3)
