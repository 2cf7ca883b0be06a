"""Lua scripts: several steps that Redis must execute atomically."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from userstorage_operator.redis_cache.codec import LARGEST

NO_VALUE = "?"
"""Returned for a summary whose key holds a list, hash or other type instead of a value."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script; its text is sent only if Redis does not have it."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()  # by which Redis identifies a script
        object.__setattr__(self, "sha", sha)

    async def __call__(self, redis: Redis, keys: list[str], args: list[Any]) -> Any:
        """Run the script and return its result."""
        try:
            return await redis.evalsha(self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return await redis.eval(self.text, len(keys), *keys, *args)


_VERSION = """
local function version(data) -- of a sealed value; -1 if it is missing or of another type
  return type(data) == 'string' and tonumber(string.match(data, '^(%d+) ')) or -1
end
"""

WRITE = Script(
    _VERSION
    + """
-- KEYS: head, index, then summaries.
-- ARGV: mode (start, fill, newest), term, fill, lower and upper bound of the sequence number in the head (the new one is
-- the upper bound + 1), sealed head, rows of the index after the write, seconds after which a silent leader no longer fences,
-- TTLs of head and index in seconds, number of arguments of ZREM and ZADD, these arguments, then value and TTL in
-- milliseconds of each summary.
local mode, term, fill = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local removed, added, at = tonumber(ARGV[11]), tonumber(ARGV[12]), 13
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local known = {}
if redis.call('TYPE', KEYS[1]).ok == 'hash' then
  known = redis.call('HMGET', KEYS[1], 'term', 'fill', 'seq', 'time')
end
local seq, since = tonumber(known[3] or ''), now - (tonumber(known[4] or '') or 0)
if (tonumber(known[1] or '') or 0) > term and since >= 0 and since < tonumber(ARGV[8]) then
  return 'fenced'
end
if mode == 'start' then
  redis.call('UNLINK', KEYS[1], KEYS[2])
else
  local kind = redis.call('TYPE', KEYS[2]).ok
  if known[2] ~= fill or tonumber(known[1]) ~= term or not seq or seq < tonumber(ARGV[4]) or seq > tonumber(ARGV[5])
      or (kind ~= 'zset' and kind ~= 'none') then
    return 'lost'
  end
end
if removed > 0 then redis.call('ZREM', KEYS[2], unpack(ARGV, at, at + removed - 1)) end
at = at + removed
if added > 0 then redis.call('ZADD', KEYS[2], unpack(ARGV, at, at + added - 1)) end
at = at + added
if redis.call('ZCARD', KEYS[2]) ~= tonumber(ARGV[7]) then
  return 'lost'
end
for i = 3, #KEYS do
  if mode ~= 'newest' or version(ARGV[at]) >= version(redis.pcall('GETRANGE', KEYS[i], 0, 24)) then
    redis.call('SET', KEYS[i], ARGV[at], 'PX', ARGV[at + 1])
  end
  at = at + 2
end
redis.call('HSET', KEYS[1], 'term', term, 'fill', fill, 'seq', ARGV[5] + 1, 'sealed', ARGV[6],
  'time', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], ARGV[9])
redis.call('EXPIRE', KEYS[2], ARGV[10])
return 'ok'
"""
)
"""Returns `ok`; `fenced` if a leader of a later term is alive; `lost` if Redis does not hold what the writer last wrote."""

READ = Script(
    f"""
-- KEYS: head, index. ARGV: first, end, number of rows, prefix of the keys of summaries (empty: read no summaries). The keys of
-- summaries are computed here instead of passed in KEYS; they have the same hash tag, so they are on the same node.
local time = redis.call('TIME')
local now, sealed, age = time[1] + time[2] / 1000000, '', ''
if redis.call('TYPE', KEYS[1]).ok == 'hash' and redis.call('HSTRLEN', KEYS[1], 'sealed') <= {LARGEST}
    and redis.call('HSTRLEN', KEYS[1], 'time') < 32 then
  sealed = redis.call('HGET', KEYS[1], 'sealed') or ''
  local since = tonumber(redis.call('HGET', KEYS[1], 'time') or '')
  age = since and string.format('%.6f', now - since) or ''
end
if redis.call('TYPE', KEYS[2]).ok ~= 'zset' then
  return {{sealed, age, 0, {{}}, {{}}}}
end
local rows, summaries = redis.call('ZRANGEBYLEX', KEYS[2], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3]), {{}}
for i, row in ipairs(rows) do
  if #row > 1024 then rows[i] = '' end
  if ARGV[4] ~= '' then
    local uid = string.match(rows[i], '^n%z[^%z]*%z[^%z]*%z([^%z]*)') or string.match(rows[i], '^u%z[^%z]*%z[^%z]*%z[^%z]*%z([^%z]*)')
    local summary = redis.pcall('GETRANGE', ARGV[4] .. (uid or ''), 0, {LARGEST})
    summaries[i] = type(summary) == 'string' and summary or '{NO_VALUE}'
  end
end
return {{sealed, age, redis.call('ZCARD', KEYS[2]), rows, summaries}}
"""
)
"""Returns the sealed head and its age in seconds (both empty if there is none), the size of the index, the requested rows, and
the summary of each (empty if there is none, NO_VALUE if the key holds another type).
"""

PUT = Script(
    _VERSION
    + f"""
-- KEYS: the key. ARGV: the value, its TTL in milliseconds, SHA-1 of a value that is replaced whatever its version.
local known = redis.pcall('GETRANGE', KEYS[1], 0, {LARGEST})
if type(known) ~= 'string' or redis.sha1hex(known) == ARGV[3] or version(ARGV[1]) >= version(known) then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
"""
)
"""Stores a value unless Redis has a newer one."""

SCAN = Script("return redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])")
"""One SCAN step on the node of a Redis cluster that holds KEYS[1]. Returns the next cursor and some keys."""

RELEASE = Script("if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end")
"""Releases a lock if it still holds the caller's token."""
