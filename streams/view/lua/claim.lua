-- Claims the most urgent alert that has no owner and no other claim.
-- KEYS: prefix, queue. ARGV: name of the person, date, budget (0: none), seconds that a claim holds, a customer ('': the most urgent).
-- Returns the customer's id; false if no alert is left; -1 if the budget is used up.
local prefix, queue, who, date, budget, seconds, wanted = KEYS[1], KEYS[2], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local CHUNK, DAY = 100, 86400
local claims = prefix .. 'claims:' .. date .. ':' .. who
if budget > 0 and tonumber(redis.call('GET', claims) or 0) >= budget then return -1 end

local function take(id)
  if not redis.call('SET', prefix .. 'claim:' .. id, who, 'NX', 'EX', seconds) then return false end
  redis.call('INCR', claims)
  redis.call('EXPIRE', claims, 2 * DAY)
  return true
end

if wanted ~= '' then
  return redis.call('ZSCORE', queue, wanted) and take(wanted) and wanted
end
local first = 0
while true do
  local ids = redis.call('ZRANGE', queue, first, first + CHUNK - 1)
  for _, id in ipairs(ids) do if take(id) then return id end end
  if #ids < CHUNK then return false end
  first = first + CHUNK
end
