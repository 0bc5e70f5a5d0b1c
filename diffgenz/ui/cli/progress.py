"""The line of progress of long commands, on stderr."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class Line:
    """A line of progress, written over itself on a terminal."""

    def __init__(self):
        self.over = sys.stderr.isatty()

    def write(self, text: str) -> None:
        """Show `text` in place of what was there."""
        shown = f"\r{text:<100}" if self.over else text
        print(shown, end="" if self.over else "\n", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the line as it is."""
        if self.over:
            print(file=sys.stderr)


@contextmanager
def progress_line(always: bool = False) -> Iterator[Line | None]:
    """A line to write progress to, which ends with the block; None where stderr is no terminal.

    Arguments:
        always: whether there is one even where stderr is no terminal.
    """
    line = Line() if always or sys.stderr.isatty() else None
    try:
        yield line
    finally:
        if line is not None:
            line.close()
