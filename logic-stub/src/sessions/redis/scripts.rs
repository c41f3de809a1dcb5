//! What Redis does in one step. Each script touches the keys of one slot only.

use super::wire::Script;

/// Finds what stands beside a session; nothing if it is of another server.
macro_rules! with_beside {
    ($text:literal) => {
        concat!(
            r"
local function beside(held, text)
  if not held or not text then return nil end
  local ok, found = pcall(cjson.decode, text)
  if ok and type(found) == 'table' and found.server == held then return found end
end
",
            $text
        )
    };
}

/// Keys: the session, what is beside it. Arguments: server, connection, the new text beside, life in milliseconds, mid, and the
/// end of the caller's patience in milliseconds of Redis's own time, or 0. Answers 1 if the session is the new one's, 0 if a
/// newer connection of the same server keeps it; and what was there. After the end it does nothing and answers 2 and the time:
/// a Redis that was stopped for a while would otherwise write down logins that nobody waits for any more, over those that live.
pub(super) static REGISTER: Script = Script::new(with_beside!(
    r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local patience = tonumber(ARGV[6])
if patience > 0 and now > patience then return {2, now, false} end
local held = redis.call('GET', KEYS[1])
local text = redis.call('GET', KEYS[2])
local old = beside(held, text)
if old and held == ARGV[1] and ARGV[2] ~= '' and old.connection and old.connection > ARGV[2] then
  return {0, held, text}
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[4])
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
return {1, held, text}
"
));

/// Keys and arguments as [`REGISTER`]. Answers 0 if there is no session, 1 if it was renewed, 2 if it is another's.
/// A session that goim's logic wrote for this server is taken to be this connection's.
pub(super) static RENEW: Script = Script::new(with_beside!(
    r"
local held = redis.call('GET', KEYS[1])
if not held then return 0 end
if held ~= ARGV[1] then return 2 end
local old = beside(held, redis.call('GET', KEYS[2]))
if old then
  if old.mid ~= ARGV[5] then return 2 end
  if ARGV[2] ~= '' and old.connection ~= ARGV[2] then return 2 end
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
else
  redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
"
));

/// Keys: as [`REGISTER`]. Arguments: server, connection. Answers what was removed.
pub(super) static REMOVE: Script = Script::new(with_beside!(
    r"
local held = redis.call('GET', KEYS[1])
if not held or held ~= ARGV[1] then return {false, false} end
local text = redis.call('GET', KEYS[2])
if ARGV[2] ~= '' then
  local old = beside(held, text)
  if not old or old.connection ~= ARGV[2] then return {false, false} end
end
redis.call('DEL', KEYS[1], KEYS[2])
return {held, text}
"
));

/// Key: the index of a mid. Arguments: key, server, life in milliseconds.
pub(super) static INDEX: Script = Script::new(
    r"
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
",
);

/// Key: the index of comets. Arguments: name, milliseconds after which a name that was not heard of is forgotten, the limit.
/// Answers whether the name is in the index.
pub(super) static ENLIST: Script = Script::new(
    r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', now - ARGV[2]))
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then
  return 0
end
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
return 1
",
);

/// Keys: what the comet says, its epoch while it lives. Arguments: epoch, what it says, life of the lease and of what it says in
/// milliseconds. Answers 0 if the lease is new, 1 if it was known, 2 if a later epoch has the name.
pub(super) static RENEW_LEASE: Script = Script::new(
    r"
local known = redis.call('HGET', KEYS[1], 'epoch')
if known and known > ARGV[1] then return 2 end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'info', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3])
if known == ARGV[1] then return 1 end
return 0
",
);

/// Keys: as [`RENEW_LEASE`]. Argument: for how many milliseconds what a comet says outlives its lease. Answers what the comet says
/// and the milliseconds that its lease has left; below 0, those since its end. Nothing if neither is known.
pub(super) static READ_LEASE: Script = Script::new(
    r"
local alive = redis.call('GET', KEYS[2])
local lease = redis.call('HMGET', KEYS[1], 'epoch', 'info')
if not lease[1] then return {false, 0} end
if lease[1] == alive then return {lease[2], redis.call('PTTL', KEYS[2])} end
return {lease[2], math.min(-1, redis.call('PTTL', KEYS[1]) - ARGV[1])}
",
);

/// Keys: a comet's rooms, the epoch of the report. Arguments: epoch or nothing, life in milliseconds, then fields and values.
pub(super) static REPORT_ROOMS: Script = Script::new(
    r"
redis.call('DEL', KEYS[1], KEYS[2])
for at = 3, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
if ARGV[1] ~= '' then redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2]) end
",
);

/// Keys: as [`REPORT_ROOMS`], the comet's epoch while it lives. Answers the values of the report; none if the comet that made it
/// is dead.
pub(super) static READ_ROOMS: Script = Script::new(
    r"
local epoch = redis.call('GET', KEYS[2])
if epoch and epoch ~= redis.call('GET', KEYS[3]) then return {} end
return redis.call('HVALS', KEYS[1])
",
);

/// Key: a part of the generation. Argument: its value if it has none. Answers its value, the name that the server has given
/// itself at its start, or nothing where it does not tell: one that has started again may lack what was written last. And its time
/// in milliseconds.
pub(super) static GENERATION: Script = Script::new(
    r"
redis.call('SET', KEYS[1], ARGV[1], 'NX')
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or ''
local time = redis.call('TIME')
return {redis.call('GET', KEYS[1]), run, time[1] * 1000 + math.floor(time[2] / 1000)}
",
);
