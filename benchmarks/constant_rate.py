"""Requests at a constant rate, by h2load of Debian's nghttp2-client, with latencies corrected for coordinated omission.

Each connection is a process with its own log, so that the due time of each request is known. The latency of a request that had
to wait for the previous one counts from its due time, not from the time when it was sent.
"""

import os
import random
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from localcluster import packages
from localcluster.packages import Package
from localcluster.progress import Report

H2LOAD = Package("nghttp2-client", "h2load", "asks HTTP servers at a constant rate")
CONNECTIONS = 20


@dataclass(frozen=True)
class Response:
    """The response to one request: URL and status code (-1 if the connection failed)."""

    url: str
    status: int
    seconds: float
    """Time from the moment at which the request was due until the end of its response."""
    late: float
    """The part of it until the request was sent: the previous response was missing, or the generator waited for a core."""


@dataclass(frozen=True)
class LoadResult:
    """All responses, in no order, and the CPU time of the generator in seconds."""

    responses: list[Response]
    cpu: float


def generate_load(
    urls: Sequence[str], headers: Sequence[Mapping[str, str]], rate: int, seconds: int, directory: Path, report: Report
) -> LoadResult:
    """Send `rate` requests a second for `seconds`. Each connection repeats `urls` in its own random order, with one of the sets of
    `headers`, which are dealt out in turn.

    Raises CalledProcessError if h2load fails, and ClusterError if it cannot be installed.
    """
    packages.ensure_package(H2LOAD, report)
    each = rate // CONNECTIONS
    running = [
        _start(number, urls, headers[number % len(headers)], each, each * seconds, directory) for number in range(CONNECTIONS)
    ]
    responses, cpu = [], 0.0
    for number, (process, order) in enumerate(running):
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, "h2load")
        cpu += usage.ru_utime + usage.ru_stime
        responses += _read(_log(directory, number), order, each)
    return LoadResult(responses, cpu)


def _start(
    number: int, urls: Sequence[str], headers: Mapping[str, str], rate: int, count: int, directory: Path
) -> tuple[subprocess.Popen[bytes], list[str]]:
    order = list(urls)
    random.Random(number).shuffle(order)  # noqa: S311  # the same in every run
    listed = directory / f"{number}.urls"
    listed.write_text("\n".join(order) + "\n")
    _log(directory, number).unlink(missing_ok=True)
    command = ["h2load", "--h1", "--clients=1", f"--rps={rate}", f"--requests={count}", f"--input-file={listed}"]
    command += [f"--header={name}: {value}" for name, value in headers.items()]
    command += [f"--log-file={_log(directory, number)}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL), order


def _log(directory: Path, number: int) -> Path:
    return directory / f"{number}.log"


def _read(log: Path, order: Sequence[str], rate: int) -> list[Response]:
    """Return the responses in the log of one connection, which h2load sends at fixed intervals.

    The phase of the interval is the lower decile of the send times, not their minimum: after a late request h2load rounds, and
    may send the next one up to half an interval too early.
    """
    rows = [[int(field) for field in line.split("\t")[:3]] for line in log.read_text().splitlines()]
    interval = 1e6 / rate
    phase = sorted(sent - number * interval for number, (sent, _, _) in enumerate(rows))[len(rows) // 10]
    return [
        Response(order[number % len(order)], status, (late + duration) / 1e6, late / 1e6)
        for number, (sent, status, duration) in enumerate(rows)
        for late in [max(0.0, sent - phase - number * interval)]
    ]
