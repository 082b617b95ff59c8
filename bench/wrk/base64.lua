-- Base64 (RFC 4648), for basic auth.
local letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

function base64(text)
  local out = {}
  for at = 1, #text, 3 do
    local a, b, c = text:byte(at, at + 2)
    local bits = a * 65536 + (b or 0) * 256 + (c or 0)
    for place, weight in ipairs({262144, 4096, 64, 1}) do
      local letter = math.floor(bits / weight) % 64 + 1
      local missing = (place == 3 and not b) or (place == 4 and not c)
      out[#out + 1] = missing and "=" or letters:sub(letter, letter)
    end
  end
  return table.concat(out)
end
