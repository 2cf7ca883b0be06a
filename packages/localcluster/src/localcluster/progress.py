"""Progress reports for the person who waits for a cluster.

Everything in this package reports through a `Report`, any callable that takes one line of text. A line that ends in `MORE`
is about work in progress and is repeated about once a second. Every other line is about work that is done.
"""

import os
import sys
import time
from collections.abc import Callable
from typing import TextIO

Report = Callable[[str], None]

MORE = " ..."

SECONDS_BETWEEN_LINES = 20.0
"""Seconds between two lines about work in progress, if lines cannot be overwritten (in a log file or a CI run)."""


def silent(_line: str) -> None:
    """Discard the line. Callers that want no progress reports pass this function as the `Report`."""


class Console:
    """A `Report` that writes to a terminal or a log file. Each line starts with the seconds since the Console was created.

    On a terminal, a line about work in progress overwrites the previous one. Elsewhere, such a line is written every twenty
    seconds.
    """

    def __init__(self, stream: TextIO = sys.stderr, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._start = clock()
        self._last_written = self._start
        self._terminal = stream.isatty()

    def __call__(self, line: str) -> None:
        """Write the line. Without a terminal, drop a line about work in progress if the previous line is too recent."""
        now = self._clock()
        in_progress = line.endswith(MORE)
        if in_progress and not self._terminal and now - self._last_written < SECONDS_BETWEEN_LINES:
            return
        self._last_written = now
        text = f"{now - self._start:6.1f}s  {line}"
        if not self._terminal:
            self._stream.write(text + "\n")
        else:
            # Cut to the width of the terminal: a line that wraps cannot be overwritten.
            self._stream.write("\r\x1b[K" + text[: _columns(self._stream) - 1] + ("" if in_progress else "\n"))
        self._stream.flush()


def _columns(stream: TextIO) -> int:
    """Return the width in columns of the terminal that `stream` writes to; 80 if it is unknown."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except OSError:
        return 80
