-- Loaded by every script here: one line of JSON at the end, for bench/load.py. Latencies are in microseconds.
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"p50_us": %d, "p99_us": %d, "refused": %d, "broken": %d, "late": %d}\n',
    latency:percentile(50), latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write, errors.timeout))
end
