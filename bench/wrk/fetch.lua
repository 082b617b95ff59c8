-- A GET of BENCH_PATH, with the token or with BENCH_AUTHORIZATION; with BENCH_CLOSE=1 each request has a connection of its own (wrk never resumes a TLS session).
require "report"
wrk.path = os.getenv("BENCH_PATH")
wrk.headers["Authorization"] = os.getenv("BENCH_AUTHORIZATION") or "Bearer " .. os.getenv("BENCH_READ_TOKEN")
if os.getenv("BENCH_CLOSE") == "1" then
  wrk.headers["Connection"] = "close"
end
