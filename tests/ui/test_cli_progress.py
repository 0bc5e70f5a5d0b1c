"""What is shown on stderr while a command is at work: on a terminal, after a while, cut to fit."""

import argparse
import time
from types import SimpleNamespace

import pytest

from diffgenz.ui.cli import progress
from diffgenz.ui.cli.main import COMMANDS, main


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(progress, "is_terminal", lambda: True)
    monkeypatch.setattr(progress, "PATIENCE", 0.05)


def run_one(monkeypatch, command, run):
    """A command that does what `run` does, as `main` runs it."""
    own = SimpleNamespace(flags=lambda parser: None, run=run)
    monkeypatch.setitem(COMMANDS, command, (own, "a test"))
    return main([command])


def slowly(options: argparse.Namespace):
    progress.working("at this and that")
    time.sleep(0.3)
    return "done", {}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_that_it_is_at_work(command, terminal, monkeypatch, capsys):
    assert run_one(monkeypatch, command, slowly) == 0
    captured = capsys.readouterr()
    assert f"{command}: at this and that: 0 s" in captured.err
    assert captured.err.endswith("\r\x1b[K")  # the line is empty again
    assert captured.out == "done\n"


def test_a_quick_command_says_nothing(terminal, monkeypatch, capsys):
    monkeypatch.setattr(progress, "PATIENCE", 60.0)
    assert run_one(monkeypatch, "quick", lambda options: ("done", {})) == 0
    assert capsys.readouterr().err == ""


def test_where_there_is_no_terminal_nothing_is_said(monkeypatch, capsys):
    monkeypatch.setattr(progress, "PATIENCE", 0.05)
    assert run_one(monkeypatch, "slow", slowly) == 0
    assert capsys.readouterr().err == ""


def test_a_line_of_progress_is_alone_and_cut_to_the_terminal(terminal, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_width", lambda: 20)

    def run(options):
        with progress.progress_line() as line:
            assert line is not None
            line.write("x" * 50)
            time.sleep(0.2)
            progress.say("a whole line, however long it is")
        return "done", {}

    assert run_one(monkeypatch, "long", run) == 0
    shown = capsys.readouterr().err
    assert f"\r\x1b[K{'x' * 19}\r\x1b[Ka whole line, however long it is\n" in shown
    assert "long: " not in shown
