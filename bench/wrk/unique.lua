-- The query of get.lua with a trace id and a request id that differ each time: no memo of header lines can help.
require "report"
local requests, next_one = {}, 0

function init()
  for i = 1, 20000 do
    requests[i] = wrk.format("GET", "/prometheus/api/v1/query?query=up%7Bjob%3D%22node%22%7D&time=" .. (1700000000 + i), {
      ["Authorization"] = "Bearer " .. os.getenv("BENCH_READ_TOKEN"),
      ["User-Agent"] = "Grafana/11.2.0",
      ["Accept-Encoding"] = "gzip",
      ["X-Grafana-Org-Id"] = "1",
      ["traceparent"] = string.format("00-%032x-%016x-01", i * 7919, i * 104729),
      ["X-Request-Id"] = "req-" .. i,
    })
  end
end

function request()
  next_one = next_one % #requests + 1
  return requests[next_one]
end
