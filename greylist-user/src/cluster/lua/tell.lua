-- KEYS: what is told (a hash), when each ends (a sorted set), what was told lately (a stream).
-- ARGV: the form, the field, its value at one node, when it ends, the time, the node, entries that the
-- stream keeps, milliseconds that all of it is kept without a word from anybody.
-- Answers with what it is now where that is not what was sent.
local form, field, value, ends = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local old = redis.call('HGET', KEYS[1], field)
if old then
  if not is_alike(form, old, value) then
    return redis.error_reply('FOREIGN the field holds something else')
  end
  value = merge(form, old, value)
  local before = tonumber(redis.call('ZSCORE', KEYS[2], field) or 0)
  -- What counts whole ends when it says; of what was put together nothing ends before any of it.
  if form ~= 'r' then ends = math.max(ends, before)
  elseif value == old then ends = before end
end
if value ~= old then
  -- The record last: what fails before is done again, and nobody hears too little.
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[7], '*', 'f', field, 'v', value, 'n', ARGV[6])
  redis.call('ZADD', KEYS[2], ends, field)
  redis.call('HSET', KEYS[1], field, value)
end
-- What has ended goes as others come, a few at a time.
local over = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[5], 'LIMIT', 0, 16)
for _, ended in ipairs(over) do
  redis.call('HDEL', KEYS[1], ended)
  redis.call('ZREM', KEYS[2], ended)
end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[8]) end
if value == ARGV[3] then return false end
return {value, 0}
