"""The Lua that runs inside Redis, where several steps must be one."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from userstorage_operator.redis_cache.codec import LARGEST

NO_VALUE = "?"
"""Stands for somebody's list or hash where a value should be."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script, sent whole only to a Redis that does not have it."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()  # Redis' own name of a script
        object.__setattr__(self, "sha", sha)

    async def __call__(self, redis: Redis, keys: list[str], args: list[Any]) -> Any:
        """The script's answer."""
        try:
            return await redis.evalsha(self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return await redis.eval(self.text, len(keys), *keys, *args)


_VERSION = """
local function version(data) -- of a sealed value; -1 where it is none, or of another type
  return type(data) == 'string' and tonumber(string.match(data, '^(%d+) ')) or -1
end
"""

WRITE = Script(
    _VERSION
    + """
-- KEYS: head, index, then views.
-- ARGV: mode (begin, fill, newest), term, fill, the sequence numbers between which the head's must be, the new one, the
-- sealed head, rows of the index afterwards, seconds that a leader is believed alive, TTLs of head and index in seconds,
-- how many arguments ZREM and ZADD get, these arguments, and of each view its value and its TTL in milliseconds.
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
if mode == 'begin' then
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
"""Answers ok; fenced: a later leader lives; lost: this is not what the writer left here."""

READ = Script(
    f"""
-- KEYS: head, index. ARGV: first, end, how many rows, what the keys of views begin with (empty for no views). The keys of the
-- views are known only here; they have the hash tag of the others, so they are on the same node.
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
local rows, views = redis.call('ZRANGEBYLEX', KEYS[2], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3]), {{}}
for i, row in ipairs(rows) do
  if #row > 1024 then rows[i] = '' end
  if ARGV[4] ~= '' then
    local uid = string.match(rows[i], '^n%z[^%z]*%z[^%z]*%z([^%z]*)') or string.match(rows[i], '^u%z[^%z]*%z[^%z]*%z[^%z]*%z([^%z]*)')
    local view = redis.pcall('GETRANGE', ARGV[4] .. (uid or ''), 0, {LARGEST})
    views[i] = type(view) == 'string' and view or '{NO_VALUE}'
  end
end
return {{sealed, age, redis.call('ZCARD', KEYS[2]), rows, views}}
"""
)
"""Answers the sealed head and its age in seconds (empty where there is none), the number of rows, the rows asked for, and the
view of each (empty where there is none, NO_VALUE where something else is there).
"""

PUT = Script(
    _VERSION
    + f"""
-- KEYS: the value's. ARGV: the value, its TTL in milliseconds, SHA-1 of a value that is to be replaced whatever it says.
local there = redis.pcall('GETRANGE', KEYS[1], 0, {LARGEST})
if type(there) ~= 'string' or redis.sha1hex(there) == ARGV[3] or version(ARGV[1]) >= version(there) then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
"""
)
"""Newest wins."""

SCAN = Script("return redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])")
"""One step over the keys, on the node of a Redis cluster that has KEYS[1]: the next cursor, and some keys."""

RELEASE = Script("if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end")
"""Lets go of a lock that is still ours."""
