"""Sweeps on Ray: the same as in one process, also when workers die."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from sweep_cases import assert_same, kept, space

import diffgenz as dgz
from diffgenz import InputError

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.ray


@dataclass(frozen=True)
class Deadly(dgz.Top):
    """The best few, found by workers of which the first two to get well into a chunk die."""

    folder: str = ""

    def absorb(self, state, rows, summary):
        driver, *notes = (Path(self.folder) / name for name in ("driver", "first", "second"))
        if len(state["indices"]) and int(driver.read_text()) != os.getpid():
            for note in notes:
                try:
                    note.touch(exist_ok=False)
                except FileExistsError:
                    continue
                os.kill(os.getpid(), signal.SIGKILL)
        return super().absorb(state, rows, summary)


@pytest.fixture(autouse=True)
def workers(monkeypatch, tmp_path_factory):
    """What workers inherit: where this module is, and a place for compiled programs."""
    places = (
        str(Path(__file__).parents[1]),
        str(Path(dgz.__file__).parents[1]),
        os.environ.get("PYTHONPATH", ""),
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(places))
    monkeypatch.setenv(
        "JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "compiled")
    )
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    yield
    ray.shutdown()


def test_killed_workers_change_nothing(tmp_path):
    (tmp_path / "driver").write_text(str(os.getpid()))
    reductions = kept() | {"deadly": Deadly(minimize="tpot", count=3, folder=str(tmp_path))}
    options = {"chunk": 1200, "batch": 256}
    found = dgz.sweep(
        space(400),
        reductions,
        out=tmp_path / "sweep",
        reducer=dgz.on_ray(workers=2, keep=True),
        **options,
    )
    assert (tmp_path / "first").exists()
    assert (tmp_path / "second").exists()
    assert_same(found, dgz.sweep(space(400), reductions, batch=256))
    assert ray.is_initialized()
    with pytest.raises(
        InputError, match="name: 'tpott' is not known"
    ):  # errors of workers reach the caller
        dgz.sweep(space(4), {"top": dgz.Top(minimize="tpott")}, reducer=dgz.on_ray(workers=1))
    assert ray.is_initialized()  # it was there before


def test_ray_is_stopped_by_whom_it_was_started():
    small = dgz.Space(space().scenario, {"batch": dgz.axes.values(1, 2)})
    found = dgz.sweep(small, {"top": dgz.Top(minimize="tpot")}, batch=256, reducer=dgz.on_ray())
    assert found.indices("top") == [0, 1]
    assert not ray.is_initialized()


def test_no_cluster_at_an_address_is_said(monkeypatch):
    def refused(**_):
        raise ConnectionError("refused")

    monkeypatch.setattr(ray, "init", refused)  # Ray itself tries for minutes
    message = r"address: '10.0.0.1:1' is not a Ray cluster \(refused\); start one with `ray start"
    with pytest.raises(InputError, match=message):
        dgz.sweep(space(4), kept(), reducer=dgz.on_ray("10.0.0.1:1"))
