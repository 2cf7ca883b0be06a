"""Lua scripts that Redis executes: each takes several steps that must be atomic."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from userstorage_operator.redis_cache.codec import LARGEST

NO_VALUE = "?"
"""What READ returns instead of a summary if the Redis key holds a list, hash or other type."""


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script for Redis. Its text is sent only if Redis does not have it."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()  # by which Redis identifies a script
        object.__setattr__(self, "sha", sha)

    async def __call__(self, redis: Redis, keys: list[str], args: list[Any]) -> Any:
        """Run the script on the server of `redis`, and return its result."""
        try:
            return await redis.evalsha(self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return await redis.eval(self.text, len(keys), *keys, *args)


_VERSION = """
-- Returns the resourceVersion of a sealed value; -1 if `data` is missing or of another type.
local function version(data)
  return type(data) == 'string' and tonumber(string.match(data, '^(%d+) ')) or -1
end
"""

WRITE = Script(
    _VERSION
    + """
-- KEYS: head, index, then summaries. ARGV: the twelve below, the arguments of ZREM, the arguments of ZADD, then the value
-- and the TTL in milliseconds of each summary.
local head, index = KEYS[1], KEYS[2]
local mode, term, fill = ARGV[1], tonumber(ARGV[2]), ARGV[3] -- mode: start, fill or newest
local confirmed, attempted = tonumber(ARGV[4]), tonumber(ARGV[5]) -- the number of the last write is one of these or between
local sealed_head, entries_after = ARGV[6], tonumber(ARGV[7]) -- entries_after: size of the index after this write
local leader_timeout, head_ttl, index_ttl = tonumber(ARGV[8]), ARGV[9], ARGV[10] -- in seconds
local removed, added, at = tonumber(ARGV[11]), tonumber(ARGV[12]), 13 -- numbers of arguments of ZREM and ZADD
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local known = {}
if redis.call('TYPE', head).ok == 'hash' then
  known = redis.call('HMGET', head, 'term', 'fill', 'seq', 'time')
end
local known_term, known_fill, seq, written_at = known[1], known[2], tonumber(known[3] or ''), known[4]
local age = now - (tonumber(written_at or '') or 0)
if (tonumber(known_term or '') or 0) > term and age >= 0 and age < leader_timeout then
  return 'fenced'
end
if mode == 'start' then
  redis.call('UNLINK', head, index)
else
  local kind = redis.call('TYPE', index).ok
  if known_fill ~= fill or tonumber(known_term) ~= term or not seq or seq < confirmed or seq > attempted
      or (kind ~= 'zset' and kind ~= 'none') then
    return 'lost'
  end
end
if removed > 0 then redis.call('ZREM', index, unpack(ARGV, at, at + removed - 1)) end
at = at + removed
if added > 0 then redis.call('ZADD', index, unpack(ARGV, at, at + added - 1)) end
at = at + added
if redis.call('ZCARD', index) ~= entries_after then
  return 'lost'
end
for i = 3, #KEYS do
  local summary, value, ttl = KEYS[i], ARGV[at], ARGV[at + 1]
  if mode ~= 'newest' or version(value) >= version(redis.pcall('GETRANGE', summary, 0, 24)) then
    redis.call('SET', summary, value, 'PX', ttl)
  end
  at = at + 2
end
redis.call('HSET', head, 'term', term, 'fill', fill, 'seq', attempted + 1, 'sealed', sealed_head,
  'time', string.format('%.6f', now))
redis.call('EXPIRE', head, head_ttl)
redis.call('EXPIRE', index, index_ttl)
return 'ok'
"""
)
"""Writes one batch of the mirror. Returns `ok`; `fenced` if a leader of a later term is alive; `lost` if Redis does not hold what
the caller last wrote.
"""

READ = Script(
    f"""
-- The keys of summaries are computed here instead of passed in KEYS; they have the same hash tag, so they are on the same node.
local head, index = KEYS[1], KEYS[2]
local first, last, limit = ARGV[1], ARGV[2], ARGV[3] -- the bounds of ZRANGEBYLEX, and the maximum number of entries
local summary_prefix = ARGV[4] -- what the keys of summaries start with; empty to read no summaries
local time = redis.call('TIME')
local now, sealed, age = time[1] + time[2] / 1000000, '', ''
if redis.call('TYPE', head).ok == 'hash' and redis.call('HSTRLEN', head, 'sealed') <= {LARGEST}
    and redis.call('HSTRLEN', head, 'time') < 32 then
  sealed = redis.call('HGET', head, 'sealed') or ''
  local written_at = tonumber(redis.call('HGET', head, 'time') or '')
  age = written_at and string.format('%.6f', now - written_at) or ''
end
if redis.call('TYPE', index).ok ~= 'zset' then
  return {{sealed, age, 0, {{}}, {{}}}}
end
local entries, summaries = redis.call('ZRANGEBYLEX', index, first, last, 'LIMIT', 0, limit), {{}}
for i, entry in ipairs(entries) do
  if #entry > 1024 then entry = '' end -- too long to be ours; the caller rejects it
  entries[i] = entry
  if summary_prefix ~= '' then
    local uid = string.match(entry, '^n%z[^%z]*%z[^%z]*%z([^%z]*)') or string.match(entry, '^u%z[^%z]*%z[^%z]*%z[^%z]*%z([^%z]*)')
    local summary = redis.pcall('GETRANGE', summary_prefix .. (uid or ''), 0, {LARGEST})
    summaries[i] = type(summary) == 'string' and summary or '{NO_VALUE}'
  end
end
return {{sealed, age, redis.call('ZCARD', index), entries, summaries}}
"""
)
"""Reads the mirror. Returns the sealed head and its age in seconds (both empty if there is none), the size of the index, the
requested entries, and the summary for each entry (empty if there is none, NO_VALUE if the key holds another type).
"""

PUT = Script(
    _VERSION
    + f"""
local key, value, ttl = KEYS[1], ARGV[1], ARGV[2] -- ttl in milliseconds
local replaceable_sha1 = ARGV[3] -- of a stored value that is replaced whatever its version
local stored = redis.pcall('GETRANGE', key, 0, {LARGEST})
if type(stored) ~= 'string' or redis.sha1hex(stored) == replaceable_sha1 or version(value) >= version(stored) then
  redis.call('SET', key, value, 'PX', ttl)
end
"""
)
"""Stores a sealed value at a Redis key, unless the key has a newer one."""

SCAN = Script("""
local cursor, pattern, count = ARGV[1], ARGV[2], ARGV[3]
return redis.call('SCAN', cursor, 'MATCH', pattern, 'COUNT', count)
""")
"""One SCAN step on the node of a Redis cluster that holds KEYS[1]. Returns the next cursor and some keys."""

RELEASE = Script("""
local lock, token = KEYS[1], ARGV[1]
if redis.call('GET', lock) == token then redis.call('DEL', lock) end
""")
"""Releases a lock if it still holds the caller's token."""
