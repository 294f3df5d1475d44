-- KEYS: the record. ARGV: its form, its value at one node, the milliseconds it is good for.
-- Answers with what it is now where that is not what was sent, and with 1 where that is news to everybody:
-- two nodes changed the record, and neither knew of the other.
local old = redis.call('GET', KEYS[1])
local value, ttl = ARGV[2], tonumber(ARGV[3])
if old then
  if not is_alike(ARGV[1], old, value) then
    return redis.error_reply('FOREIGN the key holds something else')
  end
  value = merge(ARGV[1], old, value)
  ttl = math.max(ttl, redis.call('PTTL', KEYS[1]))
end
if value == old then
  redis.call('PEXPIRE', KEYS[1], ttl)
else
  redis.call('SET', KEYS[1], value, 'PX', ttl)
end
if value == ARGV[2] then return false end
return {value, value ~= old and 1 or 0}
