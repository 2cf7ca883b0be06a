"""The cost of rendering the children of a UserStorage, compared with reading them from Redis.

    PYTHONPATH=tests python benchmarks/rendering.py [--objects 2000]

Starts a Redis. It is read as a new leader would read it, in pipelines, and it is on the same machine, which is the best case.
Prints microseconds per object in the best of five rounds, elapsed and CPU time of this process, and the memory that the
rendered objects would take in the process.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path

from redis.asyncio import Redis

from support.builders import dufs_class, storage_object
from testservers.redis import RedisServer
from userstorage_operator import browsers
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import BUILT_IN, UserStorageClass
from userstorage_operator.plan.builders import Desired, build
from userstorage_operator.redis_cache.codec import LARGEST, Codec, Entry
from userstorage_operator.redis_cache.keys import Keys

_PIPELINE = 200
_ROUNDS = 5
_KEYS, _CODEC = Keys("benchmark"), Codec(b"a signing key")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=2000)
    asyncio.run(_compare(parser.parse_args().objects))


async def _compare(count: int) -> None:
    raws = [
        storage_object(f"user-{number}", meta={"name": f"user-{number}", "uid": f"uid-{number}"}) for number in range(count)
    ]
    storages = [UserStorage.parse(raw) for raw in raws]
    with tempfile.TemporaryDirectory() as directory:
        server = RedisServer(Path(directory)).start()
        client = Redis.from_url(server.url)
        try:
            for name, cls in (("FileBrowser (built-in class)", BUILT_IN), ("Dufs", dufs_class())):
                await _compare_class(name, cls, storages, client)
        finally:
            await client.aclose()
            server.stop()


async def _compare_class(name: str, cls: UserStorageClass, storages: list[UserStorage], client: Redis) -> None:
    sealed = {}
    for storage in storages:
        key = _KEYS.summary(storage.meta.uid)
        sealed[key] = _CODEC.seal(key, Entry(asdict(_render(storage, cls)), storage.meta.uid))
        await client.set(key, sealed[key])

    async def render() -> None:
        for storage in storages:
            _render(storage, cls)

    async def read() -> list[bytes]:
        values: list[bytes] = []
        keys = list(sealed)
        for start in range(0, len(keys), _PIPELINE):
            pipeline = client.pipeline(transaction=False)
            for key in keys[start : start + _PIPELINE]:
                pipeline.getrange(key, 0, LARGEST)
            values += await pipeline.execute()
        return values

    async def read_and_decode() -> None:
        for key, data in zip(sealed, await read(), strict=True):
            Desired(**(_CODEC.open(key, data).value or {}))

    size = statistics.mean(map(len, sealed.values()))
    print(f"{name}: {len(storages)} objects, {size:.0f} bytes each")
    for label, call in (("render", render), ("read", read), ("read and decode", read_and_decode)):
        elapsed, busy = await _microseconds(call, len(storages))
        print(f"  {label:<16}{elapsed:8.0f} us elapsed {busy:8.0f} us CPU")
    print(f"  kept in the process: {_memory(storages, cls):.1f} KiB each")


def _render(storage: UserStorage, cls: UserStorageClass) -> Desired:
    return build(storage, cls, browsers.render(storage, cls))


async def _microseconds(call: Callable[[], Awaitable[object]], objects: int) -> tuple[float, float]:
    """Return elapsed and CPU time per object, in microseconds, in the best round."""
    elapsed, busy = [], []
    for _ in range(_ROUNDS):
        start, start_cpu = time.perf_counter(), time.process_time()
        await call()
        elapsed.append((time.perf_counter() - start) / objects * 1e6)
        busy.append((time.process_time() - start_cpu) / objects * 1e6)
    return min(elapsed), min(busy)


def _memory(storages: list[UserStorage], cls: UserStorageClass) -> float:
    """Return the KiB of memory per rendered object."""
    tracemalloc.start()
    kept = [_render(storage, cls) for storage in storages]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / len(kept) / 1024


if __name__ == "__main__":
    main()
