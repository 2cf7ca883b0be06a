"""What a person sees while a cluster is built and started.

Everything in this package reports through a `Report`, any callable that takes one line of text. A line that ends in
`MORE` tells of work under way and comes about once a second; other lines tell of something done.
"""

import os
import sys
import time
from collections.abc import Callable
from typing import TextIO

Report = Callable[[str], None]

MORE = " ..."

SECONDS_BETWEEN_LINES = 20.0
"""How often work under way is told of where lines cannot be overwritten (a log file, a CI run)."""


def silent(_line: str) -> None:
    """The report of a caller who wants none."""


class Console:
    """A `Report` for people: each line preceded by the seconds since the start.

    On a terminal, work under way overwrites its own line; elsewhere it is told of every twenty seconds.
    """

    def __init__(self, stream: TextIO = sys.stderr, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._start = clock()
        self._last_written = self._start
        self._terminal = stream.isatty()

    def __call__(self, line: str) -> None:
        """Show one line."""
        now = self._clock()
        under_way = line.endswith(MORE)
        if under_way and not self._terminal and now - self._last_written < SECONDS_BETWEEN_LINES:
            return
        self._last_written = now
        text = f"{now - self._start:6.1f}s  {line}"
        if not self._terminal:
            self._stream.write(text + "\n")
        else:
            # Cut to one row: a line that wraps cannot be overwritten.
            self._stream.write("\r\x1b[K" + text[: _columns(self._stream) - 1] + ("" if under_way else "\n"))
        self._stream.flush()


def _columns(stream: TextIO) -> int:
    """The width of the terminal behind a stream, 80 where it does not tell."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except OSError:
        return 80
