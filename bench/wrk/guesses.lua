-- Wrong passwords of one user, each another one.
require "report"
require "base64"
local path, guess = os.getenv("BENCH_PATH"), 0

function request()
  guess = guess + 1
  return wrk.format("GET", path, { ["Authorization"] = "Basic " .. base64("u0000:wrong horse " .. guess) })
end
