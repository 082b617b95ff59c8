-- What a dashboard sends: 1,000 queries that differ in their time. BENCH_ROUTES=N spreads them over /team-0001 .. /team-N.
require "report"
local requests, next_one = {}, 0
local routes = tonumber(os.getenv("BENCH_ROUTES"))

function init()
  local headers = {
    ["Authorization"] = "Bearer " .. os.getenv("BENCH_READ_TOKEN"),
    ["User-Agent"] = "Grafana/11.2.0",
    ["Accept-Encoding"] = "gzip",
    ["X-Grafana-Org-Id"] = "1",
  }
  for i = 1, 1000 do
    local route = routes > 0 and string.format("/team-%04d", i % routes + 1) or "/prometheus"
    local query = "/api/v1/query?query=up%7Bjob%3D%22node%22%7D&time=" .. (1700000000 + i)
    requests[i] = wrk.format("GET", route .. query, headers)
  end
end

function request()
  next_one = next_one % #requests + 1
  return requests[next_one]
end
