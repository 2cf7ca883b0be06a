"""Where the CPU of the operator goes in a burst: a flame graph, and the shares by package.

py-spy samples the operator from outside, with the functions of C libraries, while UserStorages are created and deleted. It has to
be allowed to trace another process: run this as root. Open the flame graph with https://www.speedscope.app.
"""

import argparse
import asyncio
import json
import re
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apiserver import connect
from contenders import Contender, login, new_cluster, running
from load import create_namespace, create_until_ready, delete_until_gone, users
from measuring import Cpu, command, new_result, save, versions

from localcluster import Cluster
from localcluster.progress import Console

PY_SPY = Path(sys.executable).with_name("py-spy")
_OURS = re.compile(r"userstorage_operator/(?:(\w+)/)?(\w+)\.py$")
_PACKAGE = re.compile(r"site-packages/(\w+)")
_LIBRARIES = (
    # Of a frame without a Python file: the library, or the function of it, by which it is known.
    ("ssl", re.compile(r"_ssl|libssl|libcrypto|SSL_|EVP_|BIO_|aes_|gcm|ossl|CRYPTO_", re.IGNORECASE)),
    ("uvloop and libuv", re.compile(r"uvloop|\buv_|uv__", re.IGNORECASE)),
    ("json", re.compile(r"orjson|yyjson", re.IGNORECASE)),
    ("aiohttp", re.compile(r"llhttp|_http_parser|_http_writer|multidict|yarl|frozenlist|propcache", re.IGNORECASE)),
    ("system calls", re.compile(r"^(epoll_\w+|__?write|__?read|writev|send\w*|recv\w*|__libc_\w+|syscall) ", re.IGNORECASE)),
)
_GROUPS = {
    "aiohttp": "aiohttp",
    "multidict": "aiohttp",
    "yarl": "aiohttp",
    "aiosignal": "aiohttp",
    "kubernetes": "kubernetes.aio",
    "kopf": "kopf",
    "uvloop": "uvloop and libuv",
    "orjson": "json",
    "structlog": "logging",
    "prometheus_client": "prometheus_client",
}
_STANDARD = {"json": "json", "ssl": "ssl", "asyncio": "asyncio", "logging": "logging"}
_CALLERS = ("ours", "kopf")
_RUNS_THE_LOOP = frozenset({"cli", "redis_options", "app", "manager", "__main__"})
_VISIBLE = 0.002
"""Share of all samples below which the flame graph leaves out a frame: its time then counts as its caller's."""
_RATE = 60
"""Samples a second. Each stops the operator for a few milliseconds, to unwind the stack of the C libraries."""


def package(frame: dict[str, Any]) -> str:
    """Return the package of a frame: a subpackage of ours as `ours: NAME`, a library, or `python` for the rest."""
    file, name = frame.get("file") or "", frame["name"]
    if found := _OURS.search(file):
        ours = found.group(1) or found.group(2)
        return "asyncio" if ours in _RUNS_THE_LOOP else f"ours: {ours}"
    if found := _PACKAGE.search(file):
        return _GROUPS.get(found.group(1), found.group(1))
    if found := re.search(r"lib/python3\.\d+/(\w+)", file):
        return _STANDARD.get(found.group(1), "python")
    for library, known in _LIBRARIES:
        if known.search(f"{name} {file}"):
            return library
    return "python"


def attribute(stack: Sequence[str]) -> tuple[str, str]:
    """Return for whom a sample worked, and in which package it was, from the packages of its frames, outermost first.

    For whom: the innermost of our packages or kopf; `the event loop` if there is none. In which: the innermost that is not `python`.
    """
    known = [name for name in stack if name != "python"]
    callers = [name for name in known if name.startswith(_CALLERS)]
    return callers[-1] if callers else "the event loop (sockets, TLS)", known[-1] if known else "python"


def shares(profile: dict[str, Any]) -> Counter[tuple[str, str]]:
    """Return the seconds of a profile in speedscope's format, by what `attribute` returns."""
    packages = [package(frame) for frame in profile["shared"]["frames"]]
    counted: Counter[tuple[str, str]] = Counter()
    for thread in profile["profiles"]:
        for stack, weight in zip(thread["samples"], thread["weights"], strict=True):
            counted[attribute([packages[index] for index in stack])] += weight
    return counted


def flame_graph(profile: dict[str, Any]) -> dict[str, Any]:
    """Return the profile in speedscope's format, without the frames that would be too narrow to see, and without paths."""
    names = [f"{package(frame)}: {frame['name']}" for frame in profile["shared"]["frames"]]
    weights: Counter[tuple[str, ...]] = Counter()
    for thread in profile["profiles"]:
        for stack, weight in zip(thread["samples"], thread["weights"], strict=True):
            weights[tuple(names[index] for index in stack)] += weight
    inclusive: Counter[tuple[str, ...]] = Counter()
    for stack, weight in weights.items():
        for depth in range(len(stack)):
            inclusive[stack[: depth + 1]] += weight
    least = _VISIBLE * sum(weights.values())
    visible: Counter[tuple[str, ...]] = Counter()
    for stack, weight in weights.items():
        depth = sum(inclusive[stack[: depth + 1]] >= least for depth in range(len(stack)))
        visible[stack[:depth]] += weight
    frames = sorted({name for stack in visible for name in stack})
    index = {name: number for number, name in enumerate(frames)}
    stacks = sorted(visible)
    return {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "shared": {"frames": [{"name": name} for name in frames]},
        "profiles": [
            {
                "type": "sampled",
                "name": "operator",
                "unit": "seconds",
                "startValue": 0,
                "endValue": round(sum(visible.values()), 3),
                "samples": [[index[name] for name in stack] for stack in stacks],
                "weights": [round(visible[stack], 3) for stack in stacks],
            }
        ],
    }


def table(counted: Counter[tuple[str, str]], milliseconds: float) -> str:
    """Return two Markdown tables: by the package that worked, and by the package for which it worked.

    `milliseconds` is the CPU per UserStorage, which the shares divide.
    """
    total = sum(counted.values())
    lines = []
    for title, position in (("CPU spent in", 1), ("CPU spent for (the innermost of our packages, or kopf)", 0)):
        by: Counter[str] = Counter()
        for key, seconds in counted.items():
            by[key[position]] += seconds
        lines += ["", f"| {title} | share | per UserStorage |", "|---|---|---|"]
        lines += [
            f"| {name} | {value / total:.1%} | {value / total * milliseconds:.2f} ms |" for name, value in by.most_common()
        ]
    return "\n".join(lines)


@dataclass(frozen=True)
class Part:
    """The profile of one part, in speedscope's format, and the CPU of the operator per UserStorage, in milliseconds."""

    profile: dict[str, Any]
    milliseconds: float


async def record(objects: int, contender: Contender, cluster: Cluster) -> dict[str, Part]:
    """Create and delete objects; return what was recorded of each part."""
    kubeconfig, parts = login(cluster), {}
    async with connect(cluster) as api:
        with running(contender, kubeconfig, cluster.directory / "contender.log") as process:
            cpu = Cpu({"contender": process.pid})
            await create_namespace(api, "warm-up")
            await create_until_ready(api, "warm-up", users(2, "warm-up"), timeout=120)
            await create_namespace(api, "bench")
            for part in ("created", "deleted"):
                await asyncio.to_thread(cpu.wait_until_quiet)
                output = cluster.directory / f"{part}.json"
                options = ["--native", "--function", "--full-filenames", f"--rate={_RATE}", "--format=speedscope"]
                options += [f"--pid={process.pid}", f"--output={output}"]
                spy = await asyncio.create_subprocess_exec(str(PY_SPY), "record", *options, stdout=asyncio.subprocess.DEVNULL)
                await asyncio.sleep(2)  # until py-spy has read the symbols
                cpu.reset()
                if part == "created":
                    await create_until_ready(api, "bench", users(objects))
                else:
                    await delete_until_gone(api, "bench")
                await asyncio.to_thread(cpu.wait_until_quiet)
                used = cpu.used()["contender"]
                spy.send_signal(signal.SIGINT)
                await spy.wait()
                parts[part] = Part(json.loads(output.read_text()), used / objects * 1000)
    return parts


def main() -> None:
    """Record the profiles, print the shares and save them."""
    parser = argparse.ArgumentParser(prog="make profile BENCH_ARGS=…", description=__doc__)
    parser.add_argument("--objects", type=int, default=400)
    parser.add_argument("--output", type=Path, help="file for the results, without suffix; by default in benchmarks/results")
    chosen = parser.parse_args()
    report = Console()
    path = chosen.output or new_result("profile")
    with new_cluster(report=report) as cluster:
        parts = asyncio.run(record(chosen.objects, Contender.parse("operator", report), cluster))
    about, saved = versions(), {}
    text = [f"`{command('profile', sys.argv[1:])}`: {chosen.objects} objects, at commit {about['commit']}."]
    for name, part in parts.items():
        graph = path.with_name(f"{path.name}-{name}.speedscope.json")
        graph.write_text(json.dumps(flame_graph(part.profile), separators=(",", ":")) + "\n")
        report(f"{name}: {graph}")
        counted = shares(part.profile)
        saved[name] = {
            "milliseconds": round(part.milliseconds, 2),
            "seconds": [{"for": key[0], "in": key[1], "seconds": round(value, 3)} for key, value in counted.most_common()],
        }
        text += ["", f"Objects {name} ([flame graph]({graph.name})):", table(counted, part.milliseconds)]
    save(path, {**about, "objects": chosen.objects, "parts": saved}, "\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    main()
