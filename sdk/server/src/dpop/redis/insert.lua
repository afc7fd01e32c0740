-- Marks a proof as used, unless it was used before or there is no room for it. Redis runs no other command in between.
--
-- KEYS[1]   how many proofs are stored, in all
-- KEYS[2]   and how many of this one's owner
-- KEYS[3..] the proof, under each secret
-- ARGV[1]   for how many seconds to keep it
-- ARGV[2]   how many may be stored in all
--
-- Returns 1: stored; 0: used before; -1: no room.

local ttl, capacity = tonumber(ARGV[1]), tonumber(ARGV[2])

for i = 3, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    return 0
  end
end

-- Stored proofs are counted by the slot of time in which they were stored: a hash of slot and number. What an old slot
-- holds has expired. An entry counts for up to a slot longer than it is kept.
local width = math.max(1, math.floor(ttl / 7))
local slot = math.floor(redis.call('TIME')[1] / width)
local oldest = slot - math.ceil(ttl / width)

local function count(key)
  local slots, sum = redis.call('HGETALL', key), 0
  for i = 1, #slots, 2 do
    if tonumber(slots[i]) >= oldest then
      sum = sum + tonumber(slots[i + 1])
    end
  end
  return sum
end

-- The rule of shares.rs: above 80 % an owner that has 1 % gets no more.
local all = count(KEYS[1])
local is_crowded = all >= capacity - math.floor(capacity / 5)
if all >= capacity or is_crowded and count(KEYS[2]) >= math.max(1, math.floor(capacity / 100)) then
  return -1
end

-- The first command that writes: without memory it fails, and nothing has happened.
for i = 3, #KEYS do
  redis.call('SET', KEYS[i], '', 'EX', ttl)
end
for i = 1, 2 do
  if redis.call('HINCRBY', KEYS[i], slot, 1) == 1 then
    redis.call('EXPIRE', KEYS[i], ttl + 2 * width)
    for _, old in ipairs(redis.call('HKEYS', KEYS[i])) do
      if tonumber(old) < oldest then
        redis.call('HDEL', KEYS[i], old)
      end
    end
  end
end
return 1
