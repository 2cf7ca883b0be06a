"""The leader's mirror: writes summaries, index and head to Redis. It gets the UserStorages from the watch caches and sends the
API server no request.
"""

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import structlog

from userstorage_operator.api.userstorage import Key
from userstorage_operator.readmodel.summary import summary
from userstorage_operator.redis_cache.codec import GONE, Codec, Entry, Rejected
from userstorage_operator.redis_cache.connection import RedisUnavailable
from userstorage_operator.redis_cache.head import Head, Scopes
from userstorage_operator.redis_cache.index import ENTRIES_PER_ROW, Row
from userstorage_operator.redis_cache.keys import Keys
from userstorage_operator.redis_cache.ports import CacheObserver, RedisConnection, WatchedStorages
from userstorage_operator.redis_cache.scripts import WRITE

log = structlog.get_logger(__name__)

TTL = 3600.0
"""Seconds after their last write at which summaries and index expire in Redis."""
_HEAD_TTL = 60
_HEAD_INTERVAL = 1.0
"""Maximum seconds between two writes of the head to Redis."""
_BATCH_WINDOW = 0.1
"""Seconds for which changes of UserStorages are collected into one batch."""
_REFRESH = 0.45 * TTL
"""Seconds within which every summary is written to Redis again, changed or not."""
_TOMBSTONE = 60.0
"""Seconds for which a tombstone (an entry without a value) keeps a late writer from storing the summary of a deleted
UserStorage again.
"""
_BATCH = 200
_BATCH_BYTES = 256 * 1024
"""A batch that is larger than this number of bytes takes no more objects: it must arrive within the timeout of one call."""
_MAX_PENDING = 10_000
"""Maximum number of changed UserStorages that wait to be written while Redis does not answer, without those of a fill. If there
are more, a new fill starts.
"""
_REFUSALS = (b"fenced", b"lost")
"""Results of the script WRITE if it wrote nothing. Any other result but `ok` comes from a faulty Redis."""
_LEADER_TIMEOUT = 15
"""If the head in Redis has a later term, this leader does not write, unless that head is older than this many seconds. Such a
head is forged, or from before the Lease was deleted and its terms started over.
"""


@dataclass(slots=True)
class _Batch:
    """The changes to the index and the summaries that one call to Redis makes."""

    keys: list[Key]
    rows: dict[Key, Row | None] = field(default_factory=dict)
    """Key of each UserStorage in the batch -> its row in the index after the write; None if it then has no row."""
    removed: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    summaries: list[tuple[str, bytes, float]] = field(default_factory=list)
    """Redis key, sealed value and TTL in seconds of each summary to write."""


class Mirror:
    """Receives the keys of changed UserStorages, and writes their state to Redis in batches. The state is read from the watch
    caches when the batch is written.

    A fill is a complete rewrite of the mirror. Every write names its fill, and the sequence number that the previous write left
    in the head. If the head has another fill or number, Redis has lost data, and a new fill starts. If the head has a later
    term, this mirror writes nothing.
    """

    def __init__(
        self,
        connection: RedisConnection,
        keys: Keys,
        codec: Codec,
        watched: WatchedStorages,
        scopes: Scopes,
        term: int,
        observer: CacheObserver,
    ) -> None:
        """`term` is the term of this leader; it increases with every change of the leader."""
        self._connection = connection
        self._keys = keys
        self._codec = codec
        self._watched = watched
        self._scopes = scopes
        self._term = term
        self._observer = observer
        self._changes = asyncio.Event()
        self._pending: dict[Key, None] = {}
        self._rows: dict[Key, Row] = {}
        self._fill: str | None = None
        """Random id of the current fill; None if a new fill must start."""
        self._fill_started = False
        """Whether the first batch of the current fill is in Redis."""
        self._unfilled: set[Key] = set()
        self._complete = False
        self._confirmed = 0
        self._attempted = 0
        self._failure: str | None = None
        self._refreshing: Iterator[Key] = iter(())
        self._refreshes_due = 0.0

    def changed(self, key: Key) -> None:
        """Queue a UserStorage that was created, changed or deleted, for `run` to write. Does no I/O and never raises."""
        self._pending[key] = None
        if len(self._pending) - len(self._unfilled) > _MAX_PENDING:
            self._discard_fill()
        self._changes.set()

    def refill(self) -> None:
        """Start a new fill, which replaces every summary in Redis, also by one with a lower resourceVersion."""
        self._discard_fill()
        self._changes.set()

    async def run(self) -> None:
        """Write changed UserStorages to Redis until cancelled. Failures of Redis never end this loop."""
        refreshed_at = time.monotonic()
        while True:
            succeeded = await self._write()
            while succeeded and (self._pending or not self._complete):
                succeeded = await self._write()
            if succeeded:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_HEAD_INTERVAL - _BATCH_WINDOW):
                        await self._changes.wait()
                await asyncio.sleep(_BATCH_WINDOW)
            else:
                await asyncio.sleep(_HEAD_INTERVAL)
            self._changes.clear()
            now = time.monotonic()
            self._refresh(now - refreshed_at)
            refreshed_at = now

    def _discard_fill(self) -> None:
        self._fill = None
        self._pending.clear()
        self._unfilled.clear()

    async def _write(self) -> bool:
        """Write the next batch to Redis. Return whether Redis accepted it."""
        fill = self._fill if self._fill is not None and self._fill_started else self._start_fill()
        batch = self._next_batch()
        try:
            answer = await self._connection.run("mirror", lambda redis: WRITE(redis, *self._script_call(fill, batch)))
        except RedisUnavailable as error:
            self._log_failure(error.kind)
            self._attempted += 1  # Redis may have executed the script nevertheless
            self._pending = dict.fromkeys(batch.keys) | self._pending
            return False
        if answer != b"ok":
            self._log_failure(answer.decode() if answer in _REFUSALS else "garbage")
            self._discard_fill()
            return False
        self._log_failure(None)
        if self._fill == fill:
            self._confirm(batch)
        return True

    def _start_fill(self) -> str:
        self._fill = secrets.token_hex(8)
        self._fill_started = self._complete = False
        self._rows, self._confirmed, self._attempted = {}, 0, 0
        self._pending = dict.fromkeys(self._watched.keys())
        self._unfilled = set(self._pending)
        return self._fill

    def _confirm(self, batch: _Batch) -> None:
        """Record that Redis has accepted a batch."""
        self._fill_started = True
        self._attempted += 1
        self._confirmed = self._attempted
        for key, row in batch.rows.items():
            if row is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = row
        self._unfilled.difference_update(batch.keys)
        if not self._complete and not self._unfilled:
            self._complete = True
            self._observer.mirror_filled()
            log.info("mirror_filled", objects=len(self._rows), term=self._term)

    def _script_call(self, fill: str, batch: _Batch) -> tuple[list[str], list[Any]]:
        """Return the arguments KEYS and ARGV for the Lua script WRITE that writes the batch."""
        gone = sum(row is None and key in self._rows for key, row in batch.rows.items())
        new = sum(row is not None and key not in self._rows for key, row in batch.rows.items())
        members = ENTRIES_PER_ROW * (len(self._rows) + new - gone)
        complete = self._unfilled.issubset(batch.keys)
        head = Head(self._term, self._attempted + 1, complete, self._scopes, members)
        mode = "newest" if self._complete else "fill" if self._fill_started else "start"
        added = [part for member in batch.added for part in ("0", member)]
        return (
            [self._keys.head, self._keys.index, *(key for key, _, _ in batch.summaries)],
            [
                *(mode, self._term, fill, self._confirmed, self._attempted, head.sealed(self._keys, self._codec, time.time())),
                *(members, _LEADER_TIMEOUT, _HEAD_TTL, int(TTL), len(batch.removed), len(added), *batch.removed, *added),
                *(part for _, data, ttl in batch.summaries for part in (data, int(ttl * 1000))),
            ],
        )

    def _next_batch(self) -> _Batch:
        """Remove the next keys from `_pending` and return the current state of their objects as a batch."""
        batch, size = _Batch([]), 0
        for key in self._pending:
            if len(batch.keys) == _BATCH or size > _BATCH_BYTES:
                break
            batch.keys.append(key)
            size += self._add(key, batch)
        for key in batch.keys:
            del self._pending[key]
        return batch

    def _add(self, key: Key, batch: _Batch) -> int:
        """Add the current state of one UserStorage to the batch. Return by how many bytes the summaries in the batch have
        grown.
        """
        raw, known, written = self._watched.storage(key), self._rows.get(key), len(batch.summaries)
        mirrored = summary(raw) if raw is not None else None
        row = Row.of(mirrored, self._codec) if mirrored is not None else None
        if known is not None and (row is None or row.uid != known.uid):
            self._add_summary(batch, Entry(None, known.uid, GONE, term=self._term, time=time.time()), _TOMBSTONE)
        if mirrored is not None:
            ttl = TTL * random.uniform(0.9, 1.1)  # noqa: S311  # jitter
            self._add_summary(batch, Entry.of(mirrored, term=self._term, time=time.time()), ttl)
        batch.rows[key] = row
        if row != known:
            batch.removed.extend(known.members(self._codec) if known is not None else ())
            batch.added.extend(row.members(self._codec) if row is not None else ())
        return sum(len(data) for _, data, _ in batch.summaries[written:])

    def _add_summary(self, batch: _Batch, entry: Entry, ttl: float) -> None:
        name = self._keys.summary(entry.uid)
        # A summary that is too big is left out: its row stays in the index, and readers fetch it from the API server.
        with contextlib.suppress(Rejected):
            batch.summaries.append((name, self._codec.seal(name, entry), ttl))

    def _refresh(self, elapsed: float) -> None:
        """Queue some UserStorages to be written again, more if more seconds have elapsed. So no summary expires, and a summary
        that Redis evicted comes back.
        """
        self._refreshes_due += len(self._rows) * elapsed / _REFRESH
        while self._refreshes_due >= 1 and self._rows:
            self._refreshes_due -= 1
            key = next(self._refreshing, None)
            if key is None:
                self._refreshing = iter(list(self._rows))
                key = next(self._refreshing)
            self._pending.setdefault(key)

    def _log_failure(self, failure: str | None) -> None:
        """Log a failed write if it differs from the last failed one, and log the recovery. `failure` is its kind; None after a
        successful write.
        """
        if failure is not None and failure != self._failure:
            log.warning("mirror_behind", why=failure, term=self._term)
        elif failure is None and self._failure is not None:
            log.info("mirror_recovered", term=self._term)
        self._failure = failure
