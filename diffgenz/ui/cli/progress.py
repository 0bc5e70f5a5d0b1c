"""The line of progress of long commands, on stderr.

`clock` runs around every command: where stderr is a terminal and the command takes long, it shows
the seconds, and what `working` said it is at. A command that knows how far it is opens a
`progress_line` instead.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 2.0
"""Seconds before a command says that it is at work."""

_ERASE = "\r\x1b[K"
"""What empties the line of a terminal."""


class _Screen:
    """The last line of the terminal, which one writer at a time may have."""

    def __init__(self):
        self.lock = threading.RLock()
        self.taken = False
        self.what = ""

    def write(self, text: str) -> None:
        """Show `text` in place of what was there, cut to the terminal."""
        with self.lock:
            print(f"{_ERASE}{text[: _width() - 1]}", end="", file=sys.stderr, flush=True)


_SCREEN = _Screen()


def is_terminal() -> bool:
    """Whether what is said on stderr is seen at once."""
    return sys.stderr.isatty()


def _width() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


@contextmanager
def clock(command: str) -> Iterator[None]:
    """Show how long the block has been at work, from `PATIENCE` seconds on.

    There is nothing to see where stderr is no terminal, nor while there is a `progress_line`. At
    the end the line is empty again.

    Arguments:
        command: what is at work.
    """
    if not is_terminal():
        yield
        return
    done, start = threading.Event(), time.monotonic()
    _SCREEN.what = ""

    def tick() -> None:
        pause = PATIENCE
        while not done.wait(pause):
            with _SCREEN.lock:
                if not _SCREEN.taken and not done.is_set():
                    seconds = f"{time.monotonic() - start:.0f} s"
                    _SCREEN.write(": ".join(filter(None, (command, _SCREEN.what, seconds))))
            pause = 1.0

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        if time.monotonic() - start >= PATIENCE:
            print(_ERASE, end="", file=sys.stderr, flush=True)


def working(what: str) -> None:
    """Say what the command is at, for the line of `clock`."""
    _SCREEN.what = what


def say(text: str) -> None:
    """A line of its own on stderr, whatever else is shown there."""
    with _SCREEN.lock:
        erase = _ERASE if is_terminal() else ""
        print(f"{erase}{text}", file=sys.stderr, flush=True)


class Line:
    """A line of progress, written over itself on a terminal."""

    def __init__(self):
        self.over = is_terminal()
        _SCREEN.taken = True

    def write(self, text: str) -> None:
        """Show `text` in place of what was there."""
        if self.over:
            _SCREEN.write(text)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the line as it is."""
        _SCREEN.taken = False
        if self.over:
            print(file=sys.stderr)


@contextmanager
def progress_line(always: bool = False) -> Iterator[Line | None]:
    """A line to write progress to, which ends with the block; None where stderr is no terminal.

    Arguments:
        always: whether there is one even where stderr is no terminal.
    """
    line = Line() if always or is_terminal() else None
    try:
        yield line
    finally:
        if line is not None:
            line.close()
