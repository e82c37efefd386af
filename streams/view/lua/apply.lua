-- Applies records of the output topics to the view, all or nothing, and notes how far it goes.
-- KEYS: prefix. ARGV: field of the position, position before, position after, seconds that an erasure is remembered, how many
-- announcements a customer's story keeps; then per record its kind, how many values follow, and these (streams/view/updates.py).
local prefix, position, erased_seconds, story_length = KEYS[1], ARGV[1], ARGV[4], tonumber(ARGV[5])
local KEPT_CLOSED, KEPT_CHANGES, KEPT_DAYS = 10000, 10000, 400
local MONEY = '%.3f'  -- no currency has more decimals
local CLOSED = {saved = true, lost = true, dismissed = true, recovered = true}
local LINES = {'tier', 'risk', 'life', 'alert'}

local stored = tonumber(redis.call('HGET', prefix .. 'positions', position) or 0)
if stored < tonumber(ARGV[2]) then return stored end  -- what came before is missing here: start again from there

-- Whether an announcement is the first of its number on its topic, so that counts and story have it once.
local function is_news(key, line, seq)
  local told = redis.call('HGET', key, 'told') or '-1,-1,-1,-1'
  local latest = {}
  for number in string.gmatch(told, '[^,]+') do latest[#latest + 1] = number end
  for index, name in ipairs(LINES) do
    if name == line then
      if seq <= tonumber(latest[index]) then return false end
      latest[index] = seq
    end
  end
  redis.call('HSET', key, 'told', table.concat(latest, ','))
  return true
end

local counts = {}  -- by date, then by name: a call may count the same thing a thousand times

local function count(date, name, amount)
  local of_date = counts[date] or {}
  counts[date] = of_date
  of_date[name] = (of_date[name] or 0) + (amount or 1)
end

local function keep_counts()
  if not next(counts) then return end
  local before = redis.call('GET', prefix .. 'latest-day') or ''
  local latest = before
  for date, of_date in pairs(counts) do
    local key = prefix .. 'day:' .. date
    -- Written out, since the sum of 0.1 and 0.2 is another double than 0.3 is.
    for name, amount in pairs(of_date) do redis.call('HINCRBYFLOAT', key, name, string.format(MONEY, amount)) end
    redis.call('EXPIRE', key, KEPT_DAYS * 86400)
    if date > latest then latest = date end
  end
  if latest ~= before then redis.call('SET', prefix .. 'latest-day', latest) end
end

local function tell(id, body)
  if story_length > 0 then
    redis.call('LPUSH', prefix .. 'story:' .. id, body)
    redis.call('LTRIM', prefix .. 'story:' .. id, 0, story_length - 1)
  end
end

local function take_tier(key, id, seq, tier, since_ms, before)
  redis.call('HSET', key, 'tier', tier, 'tier_since', since_ms, 'tier_seq', seq)
  if before and before ~= tier then redis.call('ZREM', prefix .. 'tier:' .. before, id) end
  redis.call('ZADD', prefix .. 'tier:' .. tier, since_ms, id)
end

local function take_risk(key, id, seq, level, probability, stake)
  redis.call('HSET', key, 'risk_level', level, 'probability', probability, 'value_at_stake', stake, 'risk_seq', seq)
  if level == 'none' then redis.call('ZREM', prefix .. 'at-risk', id)
  else redis.call('ZADD', prefix .. 'at-risk', stake, id) end
end

local function touched(key, seq, erased_seq)
  if seq > tonumber(redis.call('HGET', key, 'seq') or -1) then redis.call('HSET', key, 'seq', seq) end
  if erased_seq >= 0 then redis.call('PERSIST', key) end
end

-- ------------------------------------------------------------ alerts
-- Every sorted set that has an alert, and its score there: that of its state and of its owner, and of each the part with its tier,
-- its cause, its category and its region.
local function queues_of(alert)
  local bases, found = {}, {}
  if alert.state == 'open' then bases['queue'] = alert.urgency
  elseif alert.state == 'held' or alert.state == 'snoozed' then bases[alert.state] = alert.until_ms
  elseif CLOSED[alert.state] then bases['closed'] = alert.since_ms end
  if alert.owner ~= '' and not CLOSED[alert.state] then bases['owner:' .. alert.owner] = alert.urgency end
  for base, score in pairs(bases) do
    found[base] = score
    for _, name in ipairs({'tier', 'cause', 'category', 'region'}) do
      if alert[name] ~= '' then found[base .. ':' .. name .. ':' .. alert[name]] = score end
    end
  end
  return found
end

local function leave_queues(id, alert)
  for queue in pairs(queues_of(alert)) do redis.call('ZREM', prefix .. queue, id) end
  if alert.category ~= '' then redis.call('ZREM', prefix .. 'category:' .. alert.category, id) end
end

local ALERT_FIELDS = {'seq', 'number', 'state', 'owner', 'tier', 'cause', 'category', 'region', 'level', 'stake', 'deadline_ms', 'until_ms',
  'opened_ms', 'since_ms', 'urgency', 'body'}

local function alert_of(id)
  local values, alert = redis.call('HMGET', prefix .. 'alert:' .. id, unpack(ALERT_FIELDS)), {}
  if values[1] == false then return nil end
  for index, name in ipairs(ALERT_FIELDS) do alert[name] = values[index] end
  return alert
end

local function keep_alert(id, alert)
  local key, before, fields = prefix .. 'alert:' .. id, alert_of(id), {}
  if before then leave_queues(id, before) end
  for _, name in ipairs(ALERT_FIELDS) do fields[#fields + 1] = name; fields[#fields + 1] = alert[name] end
  redis.call('HSET', key, unpack(fields))
  redis.call('DEL', prefix .. 'claim:' .. id)
  for queue, score in pairs(queues_of(alert)) do
    redis.call('ZADD', prefix .. queue, score, id)
    if CLOSED[alert.state] then redis.call('ZREMRANGEBYRANK', prefix .. queue, 0, -KEPT_CLOSED - 1) end
  end
  if alert.owner ~= '' then redis.call('SADD', prefix .. 'owners', alert.owner) end
  if CLOSED[alert.state] then
    redis.call('EXPIRE', key, KEPT_DAYS * 86400)
    return
  end
  redis.call('PERSIST', key)
  if alert.category ~= '' then
    redis.call('ZADD', prefix .. 'category:' .. alert.category, alert.opened_ms, id)
    redis.call('SADD', prefix .. 'categories', alert.category)
  end
end

local function drop_alert(id)
  local before = alert_of(id)
  if before then
    leave_queues(id, before)
    redis.call('DEL', prefix .. 'alert:' .. id, prefix .. 'claim:' .. id)
  end
end

-- ------------------------------------------------------------ by kind
local apply = {}

function apply.erase(key, id, seq, erased_seq)
  -- Also where a profile from after the erasure was here first.
  local alert = alert_of(id)
  if alert and tonumber(alert.seq) <= seq then drop_alert(id) end
  if seq > erased_seq and is_news(key, 'tier', seq) then redis.call('DEL', prefix .. 'story:' .. id) end
  local known = redis.call('HMGET', key, 'tier_seq', 'tier')
  if seq > erased_seq then redis.call('HSET', key, 'erased_seq', seq) end
  if seq <= math.max(tonumber(known[1] or -1), erased_seq) then return end
  if known[2] then redis.call('ZREM', prefix .. 'tier:' .. known[2], id) end
  redis.call('ZREM', prefix .. 'at-risk', id)
  redis.call('DEL', key)
  redis.call('HSET', key, 'erased_seq', seq, 'seq', seq)
  redis.call('EXPIRE', key, erased_seconds)
end

function apply.tier(key, id, seq, erased_seq, tier, since_ms, from, date, body)
  if seq <= erased_seq then return end
  if is_news(key, 'tier', seq) then
    tell(id, body)
    if from ~= tier then count(date, 'flow:' .. from .. '>' .. tier) end
  end
  local known = redis.call('HMGET', key, 'tier_seq', 'tier')
  if seq > tonumber(known[1] or -1) then
    take_tier(key, id, seq, tier, since_ms, known[2])
    touched(key, seq, erased_seq)
  end
end

function apply.risk(key, id, seq, erased_seq, level, probability, stake, from, date, body)
  if seq <= erased_seq then return end
  if is_news(key, 'risk', seq) then
    tell(id, body)
    count(date, 'risk:' .. from .. '>' .. level)
  end
  if seq > tonumber(redis.call('HGET', key, 'risk_seq') or -1) then
    take_risk(key, id, seq, level, probability, stake)
    touched(key, seq, erased_seq)
  end
end

function apply.life(key, id, seq, erased_seq, body)
  if seq > erased_seq and is_news(key, 'life', seq) then tell(id, body) end
end

function apply.profile(key, id, seq, erased_seq, revision, tier, since_ms, level, probability, stake, profile)
  -- The profile of a customer who came back has the seq of the erasure until something new is announced.
  if seq < erased_seq then return end
  local known = redis.call('HMGET', key, 'revision', 'tier_seq', 'tier', 'risk_seq')
  if tonumber(revision) <= tonumber(known[1] or -1) then return end
  redis.call('HSET', key, 'profile', profile, 'revision', revision)
  if seq >= tonumber(known[2] or -1) then take_tier(key, id, seq, tier, since_ms, known[3]) end
  if seq >= tonumber(known[4] or -1) then take_risk(key, id, seq, level, probability, stake) end
  touched(key, seq, erased_seq)
end

function apply.alert(key, id, seq, erased_seq, change, was, date, story, body, ...)
  if seq <= erased_seq or not is_news(key, 'alert', seq) then return end
  local values, alert = {...}, {seq = seq, body = body}
  for index = 2, #ALERT_FIELDS - 1 do alert[ALERT_FIELDS[index]] = values[index - 1] end
  keep_alert(id, alert)
  tell(id, story)
  redis.call('XADD', prefix .. 'alert-stream', 'MAXLEN', '~', KEPT_CHANGES, '*', 'customer_id', id, 'change', change, 'body', body)
  count(date, change)
  if change == 'opened' and alert.category ~= '' then count(date, 'category:' .. alert.category) end
  local in_time = tonumber(alert.since_ms) <= tonumber(alert.deadline_ms)
  if change == 'contacted' and in_time then count(date, 'met') end
  if change == 'saved' or (change == 'recovered' and was == 'contacted') then count(date, 'saved_value', alert.stake) end
  if change == 'lost' then count(date, 'lost_value', alert.stake) end
end

local i = 6
while i <= #ARGV do
  local kind, size, id, seq = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2], tonumber(ARGV[i + 3])
  local key = prefix .. 'customer:' .. id
  local erased_seq = tonumber(redis.call('HGET', key, 'erased_seq') or -1)
  apply[kind](key, id, seq, erased_seq, unpack(ARGV, i + 4, i + 1 + size))
  i = i + 2 + size
end
keep_counts()
redis.call('HSET', prefix .. 'positions', position, math.max(stored, tonumber(ARGV[3])))
return -1
