"""A big thing to scrape: `python -m bench.target PORT SERIES`. The values move from scrape to scrape."""

from __future__ import annotations

import itertools
import random
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: So many different pages are made before the first scrape: a scrape costs a write, not a rendering.
PAGES = 16
SERIES_PER_METRIC = 100


def render_pages(series: int) -> list[bytes]:
    chance = random.Random(0)
    values = [chance.uniform(0, 1e6) for _ in range(series)]
    pages = []
    for _ in range(PAGES):
        lines = []
        for number in range(series):
            values[number] += chance.choice((0.0, 1.0, chance.uniform(0, 100)))
            metric, one = divmod(number, SERIES_PER_METRIC)
            if one == 0:
                lines.append(f"# TYPE bench_device_{metric}_seconds_total counter")
            labels = f'device="disk{one:03d}",mode="{("read", "write", "flush", "idle")[one % 4]}",zone="eu-{one % 7}"'
            lines.append(f"bench_device_{metric}_seconds_total{{{labels}}} {values[number]:.3f}")
        pages.append("\n".join([*lines, ""]).encode())
    return pages


def main() -> None:
    port, series = map(int, sys.argv[1:])
    pages = itertools.cycle(render_pages(series))

    class Target(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            page = next(pages)
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Target).serve_forever()


if __name__ == "__main__":
    main()
