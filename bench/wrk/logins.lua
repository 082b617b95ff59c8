-- Logins by users of bench/logins.py, each one once: from user BENCH_FIRST on.
require "report"
require "base64"
local path, user = os.getenv("BENCH_PATH"), tonumber(os.getenv("BENCH_FIRST"))

function request()
  local shown = string.format("u%04d:correct horse %d", user, user % 4)
  user = user + 1
  return wrk.format("GET", path, { ["Authorization"] = "Basic " .. base64(shown) })
end
