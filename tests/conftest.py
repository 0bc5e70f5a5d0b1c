"""Runtime type checks for the package, float64 on demand, records that tests share, and a clock.

With `--durations=N` the run ends with the tests that JAX spends most time on, by what it does for
them: tracing, lowering to MLIR, compiling.
"""

import collections
import gc
import importlib
import os
import pkgutil
import tempfile

import hypothesis
import jax
import pytest
from beartype import BeartypeConf, BeartypeDecorPlace
from beartype.claw import beartype_package

CACHE = tempfile.TemporaryDirectory(prefix="diffgenz-tests-")
os.environ["XDG_CACHE_HOME"] = CACHE.name
"""The command line keeps compiled programs there; each worker has its own."""


CHECKED = BeartypeConf(
    is_pep484_tower=True,  # an int is a float
    claw_skip_package_names=("diffgenz.ui",),  # what it names it imports late
    claw_is_pep526=False,  # variables are pyright's
    claw_decor_place_func=BeartypeDecorPlace.FIRST,  # JAX's decorators return no functions
    claw_decor_place_type=BeartypeDecorPlace.FIRST,
)
"""How annotations are checked."""


def leave_named_tuples():
    """Let JAX put what it likes in place of the numbers of a named tuple, as it does in trees."""
    import diffgenz

    for module in pkgutil.walk_packages(diffgenz.__path__, "diffgenz."):
        if not module.name.startswith("diffgenz.ui") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for each in tuple.__subclasses__():
        if each.__module__.startswith("diffgenz") and hasattr(each.__new__, "__wrapped__"):
            each.__new__ = each.__new__.__wrapped__


def pytest_addoption(parser):
    """`--compile-as-users`: leave XLA its optimisations, and annotations unchecked."""
    parser.addoption(
        "--compile-as-users",
        action="store_true",
        help="compile as users do: slower, optimised; and check no annotations",
    )


def pytest_configure(config):
    """Check annotations and compile in half the time, unless it shall be as users do.

    Compiling is most of the time, in subprocesses too. Each worker of a distributed run comes here
    with the options of the whole, before the package is imported.
    """
    if not config.getoption("--compile-as-users"):
        beartype_package("diffgenz", conf=CHECKED)
        own = os.environ.get("XLA_FLAGS", "")
        quick = "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0"
        if quick not in own:
            os.environ["XLA_FLAGS"] = f"{own} {quick}"
        leave_named_tuples()


jax.config.update("jax_enable_compilation_cache", False)
# Writing programs there takes a tenth of the time, and none is read again.
gc.set_threshold(50_000)  # looking through what JAX keeps takes a tenth of the time


hypothesis.settings.register_profile("tests", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("tests")


@pytest.fixture(scope="session", autouse=True)
def answers_in_numpy():
    """Whether NumPy or a compiled program answers is not to depend on the tests before.

    They differ in the last bit. Tests of compiling set the number themselves.
    """
    from diffgenz.core import verb

    verb.FEW = 10**9


@pytest.fixture(scope="session", autouse=True)
def a_wide_screen():
    """Tables and sentences in one piece, whatever the terminal; tests of widths set their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "250")
        yield


# ---- what JAX spends time on

PHASES = {
    "/jax/core/compile/jaxpr_trace_duration": "tracing",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lowering",
    "/jax/core/compile/backend_compile_duration": "compiling",
}
DEAREST = 15
clock: collections.Counter = collections.Counter()
"""Seconds by phase, and programs compiled, since the last test."""


def listen(event: str, seconds: float, **_) -> None:
    """Count what JAX reports of itself."""
    if event in PHASES:
        clock[PHASES[event]] += seconds
        clock["programs"] += PHASES[event] == "compiling"


jax.monitoring.register_event_duration_secs_listener(listen)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item, call):
    """Hand each phase of a test what JAX spent on it; with several workers it travels along."""
    if clock:
        item.user_properties.append((f"jax {call.when}", dict(clock)))
        clock.clear()


def pytest_terminal_summary(terminalreporter, config):
    """Print the tests that JAX spent most time on."""
    if not config.getoption("durations", None):
        return
    spent: dict[str, collections.Counter] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, seconds in getattr(report, "user_properties", ()):
                if name == f"jax {getattr(report, 'when', '')}":
                    spent.setdefault(report.nodeid, collections.Counter()).update(seconds)

    def total(counts: collections.Counter) -> float:
        return sum(counts[phase] for phase in PHASES.values())

    dearest = sorted(spent, key=lambda test: -total(spent[test]))
    terminalreporter.section(f"{min(DEAREST, len(dearest))} dearest tests for JAX, in seconds")
    everything = sum(spent.values(), collections.Counter())
    for test, counts in [
        *((test, spent[test]) for test in dearest[:DEAREST]),
        ("all tests", everything),
    ]:
        figures = "  ".join(f"{phase} {counts[phase]:6.2f}" for phase in PHASES.values())
        terminalreporter.write_line(f"{figures}  programs {counts['programs']:4}  {test}")


# ---- memory


FORGETTING = 500
"""Tests after which a worker drops its compiled programs, which would fill gigabytes by the end."""

RUN = pytest.StashKey[int]()


def pytest_runtest_teardown(item, nextitem):
    """Drop compiled programs between files, but not between all: files share small ones."""
    stash = item.session.stash
    stash[RUN] = stash.get(RUN, 0) + 1
    if stash[RUN] >= FORGETTING and (nextitem is None or nextitem.path != item.path):
        stash[RUN] = 0
        jax.clear_caches()


# ---- fixtures


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
