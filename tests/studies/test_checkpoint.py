"""Sweeps on disk: killed and resumed, in shards and merged, they find the same.

Damaged or foreign folders are refused.
"""

import json
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from sweep_cases import assert_same, finished, kept, python, scenario, space, varied

import diffgenz as dgz
from diffgenz import InputError
from diffgenz.studies.sweep import checkpoint
from diffgenz.studies.sweep.checkpoint import CHECKPOINT, MANIFEST, load, read_manifest
from diffgenz.studies.sweep.engine import Engine

SAMPLES, CHUNK = 400, 300  # 9600 configurations, 32 chunks
SAMPLE_SWEEP = {"chunk": CHUNK, "batch": 256}


@pytest.fixture(scope="module")
def whole():
    """The sweep in one piece, on no disk."""
    return dgz.sweep(space(SAMPLES), kept(), batch=256)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished sweep on disk."""
    place = tmp_path_factory.mktemp("sweep") / "done"
    dgz.sweep(space(SAMPLES), kept(), out=place, **SAMPLE_SWEEP)
    return place


def copied(folder, tmp_path):
    """A copy of a finished sweep."""
    place = tmp_path / "copy"
    shutil.copytree(folder, place)
    return place


# Interrupted and resumed


def test_killed_again_and_again_it_finds_the_same(whole, tmp_path):
    rng = random.Random(4)
    place = tmp_path / "sweep"
    code = f"""
import os, signal, time
# In the background, shells have it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
def slowly(pace):
    print("chunk", pace.done, flush=True)
    time.sleep(0.02)
place = Path({str(place)!r})
options = dict(resume=(place / {MANIFEST!r}).exists(), chunk={CHUNK}, batch=256)
dgz.sweep(space({SAMPLES}), kept(), out=place, progress=slowly, **options)
"""
    reached, signals = 0, [signal.SIGKILL, signal.SIGINT, signal.SIGKILL]
    for end in signals:
        process = python(
            code,
            JAX_COMPILATION_CACHE_DIR=str(tmp_path / "cache"),
            JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
        )
        assert process.stdout is not None
        first = int(process.stdout.readline().split()[1])
        assert first == reached + CHUNK  # what was saved is not done again
        for _ in range(rng.randrange(1, 6)):
            reached = int(process.stdout.readline().split()[1])
        time.sleep(rng.random() * 0.05)
        process.send_signal(end)
        rest, errors = process.communicate()
        assert process.returncode != 0, errors
        seen = [int(line.split()[1]) for line in rest.splitlines()]
        reached = max([reached, *seen])
        state = load(place, 4)
        assert state is not None
        assert state.outcome.tally.tried in (
            reached,
            reached + CHUNK,
        )  # at most one chunk was under way
        reached = state.outcome.tally.tried
        assert state.done.sum() * CHUNK == reached < SAMPLES * 24
    resumed = dgz.sweep(space(SAMPLES), kept(), out=place, resume=True, **SAMPLE_SWEEP)
    assert_same(resumed, whole)
    assert_same(dgz.findings_in(space(SAMPLES), kept(), place), whole)


def test_what_is_finished_is_not_done_again(folder, whole, monkeypatch):
    monkeypatch.setattr(Engine, "reduce", None)
    assert_same(dgz.sweep(space(SAMPLES), kept(), out=folder, resume=True, **SAMPLE_SWEEP), whole)


def test_progress_is_told_after_every_chunk():
    paces = []
    dgz.sweep(space(SAMPLES), kept(), progress=paces.append, **SAMPLE_SWEEP)
    assert [pace.done for pace in paces] == [CHUNK * (number + 1) for number in range(32)]
    assert all(pace.total == SAMPLES * 24 and pace.rate > 0 for pace in paces)
    assert paces[-1].seconds_left == 0


# Damage, other sweeps, full disks


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped"])
def test_damaged_checkpoints_are_refused_by_name(folder, tmp_path, damage):
    place = copied(folder, tmp_path)
    content = (place / CHECKPOINT).read_bytes()
    rng = random.Random(2)
    for _ in range(60 if damage == "flipped" else 1):
        broken = bytearray(content)
        broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        (place / CHECKPOINT).write_bytes(
            {"cut": content[: len(content) // 2], "empty": b"", "flipped": bytes(broken)}[damage]
        )
        refused = None
        try:
            state = load(place, 4)
        except InputError as error:
            refused = str(error)
        if refused is None:  # a bit that nobody reads, such as a date
            assert damage == "flipped"
            assert state.outcome.tally == load(folder, 4).outcome.tally
        else:
            assert refused.startswith(f"{place / CHECKPOINT}: is damaged")
            assert "delete it to begin again" in refused
    (place / CHECKPOINT).write_bytes(content[:-30])
    with pytest.raises(InputError, match=f"{CHECKPOINT}: is damaged"):
        dgz.sweep(space(SAMPLES), kept(), out=place, resume=True, **SAMPLE_SWEEP)


@pytest.mark.parametrize("text", ["", "{", "\udcff"])
def test_a_manifest_that_cannot_be_read_is_refused(folder, tmp_path, text):
    place = copied(folder, tmp_path)
    (place / MANIFEST).write_text(text, errors="surrogateescape")
    with pytest.raises(InputError, match=f"{MANIFEST}: cannot be read .* start the sweep again"):
        dgz.sweep(space(SAMPLES), kept(), out=place, resume=True, **SAMPLE_SWEEP)


@pytest.mark.parametrize(
    ("other", "options", "difference"),
    [
        (space(SAMPLES, seed=1), {}, "its space has seed = '0', this one seed = '1'"),
        (space(SAMPLES + 1), {}, "its space has samples = '400', this one samples = '401'"),
        (
            space(SAMPLES, constraints=()),
            {},
            "its space has constraints = 'fits', this one constraints = ''",
        ),
        (space(SAMPLES), {"chunk": 200}, "its chunk has 300, this one 200"),
        (
            dgz.Space(scenario().replace(sharpness=4), varied(), samples=SAMPLES),
            {},
            "its space has scenario = '[0-9a-f]*', this one scenario = '[0-9a-f]*'",
        ),
        (space(SAMPLES), {"shard": (1, 2)}, "its stop has 9600, this one 4800"),
        (
            space(SAMPLES),
            {"reductions": kept() | {"top": dgz.Top(minimize="tpot")}},
            "its reductions has top = .*energy_per_output_token",
        ),
    ],
)
def test_another_sweep_is_refused_and_says_what_differs(folder, other, options, difference):
    message = f"{folder}: holds another sweep: {difference}.*; choose another folder, or repeat"
    with pytest.raises(InputError, match=message):
        dgz.sweep(
            other,
            **({"reductions": kept(), "out": folder, "resume": True} | SAMPLE_SWEEP | options),
        )


def test_another_version_is_refused(folder, tmp_path):
    place = copied(folder, tmp_path)
    manifest = read_manifest(place)
    manifest["versions"]["jax"] = "0.0.1"
    (place / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="its versions has jax = '0.0.1'"):
        dgz.sweep(space(SAMPLES), kept(), out=place, resume=True, **SAMPLE_SWEEP)


def test_folders_must_be_new_or_resumed(folder, tmp_path):
    with pytest.raises(
        InputError, match="holds this sweep already; resume it, or choose another folder"
    ):
        dgz.sweep(space(SAMPLES), kept(), out=folder, **SAMPLE_SWEEP)
    with pytest.raises(InputError, match="holds no sweep to go on with; leave --resume out"):
        dgz.sweep(space(SAMPLES), kept(), out=tmp_path / "none", resume=True, **SAMPLE_SWEEP)
    with pytest.raises(InputError, match="holds no sweep; there is no manifest.json in it"):
        dgz.findings_in(space(SAMPLES), kept(), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="out: .*file cannot be made: .*; choose another place"):
        dgz.sweep(space(SAMPLES), kept(), out=tmp_path / "file", **SAMPLE_SWEEP)


def test_a_full_disk_ends_the_sweep_and_leaves_what_was_saved(whole, tmp_path, monkeypatch):
    place = tmp_path / "sweep"
    real, writes = Path.open, []

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, content):
            self.file.write(content[: len(content) // 2])
            raise OSError(28, "No space left on device")

    def opened(self, *arguments, **options):
        file = real(self, *arguments, **options)
        if self.name != f".{CHECKPOINT}.part":
            return file
        writes.append(self)
        return Full(file) if len(writes) == 4 else file

    monkeypatch.setattr(Path, "open", opened)
    failure = f"out: .*{CHECKPOINT} cannot be written: No space left on device"
    with pytest.raises(InputError, match=f"{failure}; .* make room, then resume"):
        dgz.sweep(space(SAMPLES), kept(), out=place, **SAMPLE_SWEEP)
    assert sorted(path.name for path in place.iterdir()) == [CHECKPOINT, MANIFEST]
    state = load(place, 4)
    assert state is not None
    assert state.outcome.tally.tried == 3 * CHUNK
    assert_same(dgz.sweep(space(SAMPLES), kept(), out=place, resume=True, **SAMPLE_SWEEP), whole)


def test_a_file_that_may_not_grow_is_refused(tmp_path):
    code = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
from diffgenz.studies.sweep.checkpoint import Outcome, Progress, Tally, save
import numpy as np
def progress(size):
    return Progress(np.zeros(3, bool), Outcome(Tally(), ({{"x": np.zeros(size)}},)))
save(Path({str(tmp_path)!r}), progress(2))
try:
    save(Path({str(tmp_path)!r}), progress(9999))
except dgz.InputError as error:
    print(error)
"""
    out = finished(python(code))
    assert f"{CHECKPOINT} cannot be written: File too large; what was saved before stands" in out
    state = load(tmp_path, 1)
    assert state is not None
    assert state.outcome.states[0]["x"].shape == (2,)


# Shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Three shards on disk, the bounds of which cut through batches and samples."""
    place = tmp_path_factory.mktemp("shards")
    for number in (1, 2, 3):
        dgz.sweep(
            space(SAMPLES),
            kept(),
            out=place / str(number),
            shard=(number, 3),
            chunk=1000,
            batch=256,
        )
    return [place / str(number) for number in (1, 2, 3)]


def test_merged_shards_are_the_whole(shards, whole, tmp_path):
    merged = dgz.merge(space(SAMPLES), kept(), [shards[2], shards[0], shards[1]], tmp_path / "all")
    assert_same(merged, whole)
    assert_same(dgz.findings_in(space(SAMPLES), kept(), tmp_path / "all"), whole)
    assert_same(dgz.merge(space(SAMPLES), kept(), shards, tmp_path / "all"), whole)  # again


def test_more_shards_than_configurations_merge_too(tmp_path):
    tiny = dgz.Space(space().scenario, {"batch": dgz.axes.values(1, 2)})
    for number in (1, 2, 3):
        dgz.sweep(
            tiny,
            {"top": dgz.Top(minimize="tpot")},
            out=tmp_path / str(number),
            shard=(number, 3),
            batch=256,
        )
    merged = dgz.merge(
        tiny,
        {"top": dgz.Top(minimize="tpot")},
        [tmp_path / str(number) for number in (1, 2, 3)],
        tmp_path / "all",
    )
    assert merged.indices("top") == [0, 1]


@pytest.mark.parametrize(
    ("pick", "message"),
    [
        ((), "merge: no shards; name their folders"),
        ((0, 2), "merge: the range from 3200 to 6400 is missing; merge every shard once"),
        ((0, 1), "merge: the range from 6400 to 9600 is missing"),
        ((1, 2), "merge: the range from 0 to 3200 is missing"),
        ((0, 1, 1, 2), "merge: the range from 3200 to 6400 is there twice; merge every shard once"),
    ],
)
def test_shards_must_be_there_once(shards, tmp_path, pick, message):
    with pytest.raises(InputError, match=message):
        dgz.merge(space(SAMPLES), kept(), [shards[number] for number in pick], tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_unfinished_and_foreign_shards_are_refused(shards, tmp_path):
    unfinished = tmp_path / "unfinished"
    shutil.copytree(shards[1], unfinished)
    state = load(unfinished, 4)
    assert state is not None
    state.done[-1] = False
    checkpoint.save(unfinished, state)
    with pytest.raises(
        InputError, match=f"merge: the shard in {unfinished} is not finished; resume it first"
    ):
        dgz.merge(space(SAMPLES), kept(), [shards[0], unfinished, shards[2]], tmp_path / "all")
    (unfinished / CHECKPOINT).unlink()
    with pytest.raises(InputError, match="is not finished"):
        dgz.merge(space(SAMPLES), kept(), [shards[0], unfinished, shards[2]], tmp_path / "all")
    with pytest.raises(
        InputError, match="holds another sweep: its space has seed = '0', this one seed = '3'"
    ):
        dgz.merge(space(SAMPLES, seed=3), kept(), shards, tmp_path / "all")
    manifest = read_manifest(unfinished)
    manifest["versions"]["jax"] = "0.0.1"
    (unfinished / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="its versions has jax = '0.0.1'"):
        dgz.merge(space(SAMPLES), kept(), [shards[0], unfinished, shards[2]], tmp_path / "all")
