-- One value out of two of the same record, whatever their order: see docs/decisions/0035.
--
-- A value is a byte for its layout and then fields, big-endian, so that bytes compare as numbers do
-- and nothing is a number here that a double could not hold. The form names the fields in their order:
--   x8     the larger          n8    the smaller         o8  all bits of both
--   l2     a life: what follows is of the higher one, whole
--   t5.6.5 the newest: 6 entries of 5 bytes, falling, each once by its last 5 bytes; zeros are none
--   d2.16  2 bytes for a day and 16 of bits: those of the later day, or of both
--   f4.4.S 4 bytes of seconds and 4 counts that halve every S seconds: as of the later, the larger
--   r      all that is left: the larger

-- Not `>`: that asks the server's locale.
local function is_larger(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = a:byte(i), b:byte(i)
    if x ~= y then return x > y end
  end
  return #a > #b
end

local function larger(a, b)
  if is_larger(b, a) then return b end
  return a
end

local function both(a, b)
  local bits = {}
  for i = 1, #a do bits[i] = string.char(bit.bor(a:byte(i), b:byte(i))) end
  return table.concat(bits)
end

local function number(s)
  local n = 0
  for i = 1, #s do n = n * 256 + s:byte(i) end
  return n
end

local function bytes(n)
  local out = {}
  for i = 4, 1, -1 do
    out[i] = string.char(n % 256)
    n = math.floor(n / 256)
  end
  return table.concat(out)
end

local function newest(a, b, width, count, by)
  local all, none = {}, string.rep('\0', width)
  for _, list in ipairs({a, b}) do
    for i = 1, #list, width do
      local entry = list:sub(i, i + width - 1)
      if entry ~= none then all[#all + 1] = entry end
    end
  end
  table.sort(all, is_larger)
  local kept, known = {}, {}
  for _, entry in ipairs(all) do
    local id = entry:sub(width - by + 1)
    if not known[id] and #kept < count then
      known[id] = true
      kept[#kept + 1] = entry
    end
  end
  while #kept < count do kept[#kept + 1] = none end
  return table.concat(kept)
end

local function of_the_day(a, b, width)
  local one, other = a:sub(1, width), b:sub(1, width)
  if one == other then return one .. both(a:sub(width + 1), b:sub(width + 1)) end
  if is_larger(one, other) then return a end
  return b
end

local function faded(a, b, count, half_life)
  local at = larger(a:sub(1, 4), b:sub(1, 4))
  local phase = math.floor(number(at) / half_life)
  local out = {at}
  local function brought(value, i)
    local halvings = phase - math.floor(number(value:sub(1, 4)) / half_life)
    return math.floor(number(value:sub(4 * i + 1, 4 * i + 4)) / 2 ^ halvings)
  end
  for i = 1, count do
    out[#out + 1] = bytes(math.max(brought(a, i), brought(b, i)))
  end
  return table.concat(out)
end

local function merge(form, a, b)
  if a == b then return a end
  local out, at = {a:sub(1, 1)}, 2
  for op, numbers in form:gmatch('(%l)([%d.]*)') do
    local args = {}
    for digits in numbers:gmatch('%d+') do args[#args + 1] = tonumber(digits) end
    local width, count, last = args[1], args[2], args[3]
    local length = width
    if op == 't' then length = width * count
    elseif op == 'd' then length = width + count
    elseif op == 'f' then length = 4 + 4 * count
    elseif op == 'r' then length = math.max(#a, #b) end
    local one, other = a:sub(at, at + length - 1), b:sub(at, at + length - 1)
    if op == 'l' and one ~= other then
      local higher = a
      if is_larger(other, one) then higher = b end
      out[#out + 1] = higher:sub(at)
      return table.concat(out)
    end
    local merged = one
    if op == 'x' or op == 'r' then merged = larger(one, other)
    elseif op == 'n' then if is_larger(one, other) then merged = other end
    elseif op == 'o' then merged = both(one, other)
    elseif op == 't' then merged = newest(one, other, width, count, last)
    elseif op == 'd' then merged = of_the_day(one, other, width)
    elseif op == 'f' then merged = faded(one, other, count, last) end
    out[#out + 1] = merged
    at = at + length
  end
  return table.concat(out)
end

-- A value of another layout is a newer greygate's, or a stranger's: it is left as it is.
local function is_alike(form, a, b)
  return a:byte(1) == b:byte(1) and (#a == #b or form:find('r', 1, true))
end
