-- A remote write as Prometheus sends it; the body is the file BENCH_BODY.
require "report"
wrk.method = "POST"
wrk.path = "/prometheus/api/v1/write"
wrk.headers = {
  ["Authorization"] = "Bearer " .. os.getenv("BENCH_WRITE_TOKEN"),
  ["User-Agent"] = "Prometheus/2.53.0",
  ["Content-Encoding"] = "snappy",
  ["Content-Type"] = "application/x-protobuf",
  ["X-Prometheus-Remote-Write-Version"] = "0.1.0",
}
local file = assert(io.open(os.getenv("BENCH_BODY"), "rb"))
wrk.body = file:read("*a")
file:close()
