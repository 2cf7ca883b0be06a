"""Requests at a constant rate, by h2load of Debian's nghttp2-client, with latencies corrected for coordinated omission.

Each connection is a process of its own with its own log, so that the moment at which each request was due is known: a request
that had to wait for the one before it counts from that moment on, not from the one at which it could be sent.
"""

import os
import random
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from localcluster import packages
from localcluster.packages import Package
from localcluster.progress import Report

H2LOAD = Package("nghttp2-client", "h2load", "asks HTTP servers at a constant rate")
CONNECTIONS = 20


@dataclass(frozen=True)
class Answered:
    """One request: its URL, status code (-1 where the connection failed), seconds from when it was due to its answer's end."""

    url: str
    status: int
    seconds: float


@dataclass(frozen=True)
class Attack:
    """All requests, in no order, and the generator's own CPU in seconds."""

    answered: list[Answered]
    cpu: float


def attack(urls: Sequence[str], token: str, rate: int, seconds: int, directory: Path, report: Report) -> Attack:
    """Ask `rate` times a second, on each connection all of `urls` over and over in an order of its own."""
    packages.ensure_package(H2LOAD, report)
    each = rate // CONNECTIONS
    running = [_start(number, urls, token, each, each * seconds, directory) for number in range(CONNECTIONS)]
    answered, cpu = [], 0.0
    for number, (process, order) in enumerate(running):
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, "h2load")
        cpu += usage.ru_utime + usage.ru_stime
        answered += _read(_log(directory, number), order, each)
    return Attack(answered, cpu)


def _start(
    number: int, urls: Sequence[str], token: str, rate: int, count: int, directory: Path
) -> tuple[subprocess.Popen[bytes], list[str]]:
    order = list(urls)
    random.Random(number).shuffle(order)  # noqa: S311  # the same in every run
    listed = directory / f"{number}.urls"
    listed.write_text("\n".join(order) + "\n")
    _log(directory, number).unlink(missing_ok=True)
    command = ["h2load", "--h1", "--clients=1", f"--rps={rate}", f"--requests={count}", f"--input-file={listed}"]
    command += [f"--header=Authorization: Bearer {token}", f"--log-file={_log(directory, number)}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL), order


def _log(directory: Path, number: int) -> Path:
    return directory / f"{number}.log"


def _read(log: Path, order: Sequence[str], rate: int) -> list[Answered]:
    """h2load fires on a fixed beat of the connection. Its phase is told by requests that hardly waited for their turn, and not by
    those that waited least: after a late one h2load rounds, and may fire the next up to half a beat too early.
    """
    rows = [[int(field) for field in line.split("\t")[:3]] for line in log.read_text().splitlines()]
    beat = 1e6 / rate
    phase = sorted(sent - number * beat for number, (sent, _, _) in enumerate(rows))[len(rows) // 10]
    return [
        Answered(order[number % len(order)], status, max(took, sent + took - phase - number * beat) / 1e6)
        for number, (sent, status, took) in enumerate(rows)
    ]
