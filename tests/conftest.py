"""Runtime type checks for the package, float64 on demand, and the records that tests share."""

import gc
import os
import tempfile
from typing import Self

import beartype
import hypothesis
import jax
import pytest
from jaxtyping import install_import_hook

CACHE = tempfile.TemporaryDirectory(
    prefix="diffgenz-tests-"
)  # the command line keeps compiled programs there; each worker has its own
os.environ["XDG_CACHE_HOME"] = CACHE.name

OWN_FLAGS = os.environ.get("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] = (
    f"{OWN_FLAGS} --xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0"
)
# compiling is most of the time: this halves it, in subprocesses too; benchmarks, which run apart, compile as users do
jax.config.update(
    "jax_enable_compilation_cache", False
)  # writing programs there takes a tenth of the time, and none is read again
gc.set_threshold(50_000)  # looking through what JAX keeps takes a tenth of the time


RUN = pytest.StashKey[int]()


def checked(function):
    """`function` with its annotations checked; an int is a float (PEP 484). `Self` is left out: beartype knows it in whole classes only."""
    if function.__annotations__.get("return") is Self:
        del function.__annotations__["return"]
    return beartype.beartype(function, conf=beartype.BeartypeConf(is_pep484_tower=True))


install_import_hook("diffgenz", f"{__name__}.checked")
hypothesis.settings.register_profile("tests", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("tests")


FORGETTING = 400  # tests after which a worker drops its compiled programs, which would fill gigabytes by the end


def pytest_runtest_teardown(item, nextitem):
    item.session.stash[RUN] = item.session.stash.get(RUN, 0) + 1
    if item.session.stash[RUN] % FORGETTING == 0:
        jax.clear_caches()


@pytest.fixture
def double():
    """Float64 in the whole test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def cluster():
    """64 accelerators in nodes of 8."""
    from support import make_cluster

    return make_cluster()


@pytest.fixture(scope="session")
def llama_8b():
    """A small dense model, grouped-query."""
    return _model("meta-llama/Llama-3.1-8B")


@pytest.fixture(scope="session")
def llama_70b():
    """A large dense model, grouped-query."""
    return _model("meta-llama/Llama-3.1-70B")


@pytest.fixture(scope="session")
def gemma_27b():
    """A model that mixes sliding-window and full attention, and ties its embedding."""
    return _model("google/gemma-3-27b-pt")


def _model(name):
    from diffgenz import load_model

    return load_model(name)


@pytest.fixture(scope="session")
def found():
    """The fit of planted parameters."""
    from fit_cases import H100, planted

    from diffgenz.calibrating.fitting import fit

    return fit(planted(), H100, starts=16)
