//! What Redis does in one step. Each script touches the keys of one slot only, unless Redis is a single server.
//!
//! Numbers and epochs are microseconds since 1970, below 2^53: what Lua can count. Texts of numbers are the same in all scripts.

use crate::sessions::redis::wire::Script;

/// Keys: entries, state, owner and names of each stream. Arguments: the most entries and bytes of a stream, the caller, the end of
/// its patience in milliseconds of Redis's own time, or 0, the milliseconds for which names are kept, and for each stream its number,
/// the name of the push and the content. Answers 0 if there are too many entries, 1 if there are too many bytes, 3 if the patience has
/// ended, else 2; then the time in milliseconds; and the streams of which the caller is the reader that waits. Other readers that wait
/// are told on their channel.
///
/// A Redis that was stopped for a while does not store what its pushers were told is refused, and who asks again for want of an answer
/// does not store it twice; but something is written, so that `WAIT` waits for what was stored before.
pub(super) static APPEND: Script = Script::new(
    r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local millis = math.floor(now / 1000)
local patience = tonumber(ARGV[4])
if patience > 0 and millis > patience then return {3, millis} end
local streams = #KEYS / 4
local mine = {2, millis}
if redis.call('ZSCORE', KEYS[4], ARGV[7]) then
  redis.call('PEXPIRE', KEYS[4], ARGV[5])
  for at = 0, streams - 1 do mine[#mine + 1] = tonumber(ARGV[3 * at + 6]) end
  return mine
end
for at = 0, streams - 1 do
  if redis.call('XLEN', KEYS[4 * at + 1]) >= tonumber(ARGV[1]) then return {0, millis} end
  local bytes = tonumber(redis.call('HGET', KEYS[4 * at + 2], 'bytes') or '0')
  if bytes + #ARGV[3 * at + 8] > tonumber(ARGV[2]) then return {1, millis} end
end
for at = 0, streams - 1 do
  local entries, state, owner, names = unpack(KEYS, 4 * at + 1, 4 * at + 4)
  local stream, name, content = unpack(ARGV, 3 * at + 6, 3 * at + 8)
  local last = tonumber(redis.call('HGET', state, 'number') or '0')
  local number = string.format('%.0f', math.max(now, last + 1))
  redis.call('XADD', entries, number .. '-0', 'push', content)
  redis.call('HSET', state, 'number', number)
  redis.call('HINCRBY', state, 'bytes', #content)
  redis.call('ZREMRANGEBYSCORE', names, '-inf', string.format('%.0f', millis - ARGV[5]))
  redis.call('ZADD', names, string.format('%.0f', millis), name)
  redis.call('PEXPIRE', names, ARGV[5])
  if redis.call('HDEL', state, 'waits') == 1 then
    local held = redis.call('GET', owner)
    local reader = held and string.match(held, '/(.*)$')
    if reader == ARGV[3] then
      mine[#mine + 1] = tonumber(stream)
    elseif reader then
      redis.call('PUBLISH', 'push_wake_' .. reader, stream)
    end
  end
end
return mine
",
);

/// Keys: entries, state, owner. Arguments: the caller, life in milliseconds. Answers the epoch, or nothing if another one has the
/// stream, the number of entries, the microseconds for which the oldest has waited, whether another one has had the stream and not
/// given it back, and the time in milliseconds. With a new epoch the group begins anew: what was read and not acknowledged is unread.
pub(super) static CLAIM: Script = Script::new(
    r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local millis = math.floor(now / 1000)
local held = redis.call('GET', KEYS[3])
if held and string.match(held, '/(.*)$') ~= ARGV[1] then return {'', 0, 0, 0, millis} end
local epoch
local taken = 0
if held then
  epoch = string.match(held, '^(%d+)/')
  redis.call('PEXPIRE', KEYS[3], ARGV[2])
else
  local last = tonumber(redis.call('HGET', KEYS[2], 'epoch') or '0')
  epoch = string.format('%.0f', math.max(now, last + 1))
  local before = redis.call('HGET', KEYS[2], 'reader')
  if before and before ~= ARGV[1] then taken = 1 end
  redis.call('HSET', KEYS[2], 'epoch', epoch, 'reader', ARGV[1])
  redis.call('SET', KEYS[3], epoch .. '/' .. ARGV[1], 'PX', ARGV[2])
  redis.pcall('XGROUP', 'DESTROY', KEYS[1], 'lanes')
  redis.call('XGROUP', 'CREATE', KEYS[1], 'lanes', '0', 'MKSTREAM')
end
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local age = oldest and math.max(0, now - tonumber(string.match(oldest[1], '^%d+'))) or 0
return {epoch, redis.call('XLEN', KEYS[1]), age, taken, millis}
",
);

/// Keys: owner, state. Argument: what the first holds for the caller's claim.
pub(super) static RELEASE: Script = Script::new(
    r"
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
  redis.call('HDEL', KEYS[2], 'reader')
end
",
);

/// Keys: as [`CLAIM`]. Arguments: what the owner's key holds for the caller's claim, the caller, the number behind which to begin, the
/// most entries, and the bytes from which on no more are added. Answers nothing if the claim is lost, else the time, and numbers and
/// contents. If there is none, whoever appends next will wake the caller. Where the group is does not matter: an answer may have
/// got lost.
pub(super) static READ: Script = Script::new(
    r"
if redis.call('GET', KEYS[3]) ~= ARGV[1] then return false end
local set = redis.pcall('XGROUP', 'SETID', KEYS[1], 'lanes', ARGV[3] .. '-0')
if type(set) == 'table' and set.err then
  redis.call('XGROUP', 'CREATE', KEYS[1], 'lanes', ARGV[3] .. '-0', 'MKSTREAM')
end
local time = redis.call('TIME')
local answer = {string.format('%.0f', time[1] * 1000000 + time[2])}
local found = redis.call('XREADGROUP', 'GROUP', 'lanes', ARGV[2], 'COUNT', ARGV[4], 'STREAMS', KEYS[1], '>')
if not found then
  redis.call('HSET', KEYS[2], 'waits', 1)
  return answer
end
local bytes = 0
for _, entry in ipairs(found[1][2]) do
  if bytes >= tonumber(ARGV[5]) then break end
  answer[#answer + 1] = string.match(entry[1], '^%d+')
  answer[#answer + 1] = entry[2][2]
  bytes = bytes + #entry[2][2]
end
return answer
",
);

/// Keys: entries, state. Arguments: numbers and the bytes of their contents.
pub(super) static ACKNOWLEDGE: Script = Script::new(
    r"
local freed = 0
for at = 1, #ARGV, 2 do
  local id = ARGV[at] .. '-0'
  redis.call('XACK', KEYS[1], 'lanes', id)
  if redis.call('XDEL', KEYS[1], id) == 1 then freed = freed + ARGV[at + 1] end
end
if freed > 0 then redis.call('HINCRBY', KEYS[2], 'bytes', string.format('%.0f', -freed)) end
",
);

/// Key: who reads, by when they last said so. Arguments: the caller, the milliseconds for which that is believed. Answers how many.
pub(super) static READERS: Script = Script::new(
    r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[2]))
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
return redis.call('ZCARD', KEYS[1])
",
);

/// Key: a message's replies. Arguments: the stream of the part, the text, life in milliseconds, the channel of who waits and what to
/// say there. Said again, it takes the place of what was said of that part before.
pub(super) static REPLY: Script = Script::new(
    r"
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PUBLISH', ARGV[4], ARGV[5])
",
);

/// Key: as [`REPLY`]. Argument: how many are wanted. Takes the replies if there are so many.
pub(super) static REPLIES: Script = Script::new(
    r"
if redis.call('HLEN', KEYS[1]) < tonumber(ARGV[1]) then return {} end
local texts = redis.call('HVALS', KEYS[1])
redis.call('DEL', KEYS[1])
return texts
",
);
