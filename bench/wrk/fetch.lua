-- A GET of BENCH_PATH; with BENCH_CLOSE=1 each request has a connection of its own (wrk never resumes a TLS session).
require "report"
wrk.path = os.getenv("BENCH_PATH")
wrk.headers["Authorization"] = "Bearer " .. os.getenv("BENCH_READ_TOKEN")
if os.getenv("BENCH_CLOSE") == "1" then
  wrk.headers["Connection"] = "close"
end
