"""What is asked of every server: one row is one workload, and what wrk needs to know to make it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Per(enum.StrEnum):
    """What the CPU time is divided by."""

    REQUEST = "us/request"
    GIGABYTE = "ms/GB"


@dataclass(frozen=True, slots=True)
class Workload:
    """`script` is a file of bench/wrk/; `body` names a body of bench/stage.py; `settings` go to the script.

    `quick`: part of a quick run. `direct`: makes sense without a proxy, over plain TCP.
    """

    name: str
    title: str
    script: str
    connections: int = 64
    body: str | None = None
    per: Per = Per.REQUEST
    settings: Mapping[str, str] = field(default_factory=dict)
    quick: bool = False
    direct: bool = True


WORKLOADS = {
    row.name: row
    for row in (
        Workload("get1k", "GET 1 KB", "get.lua", quick=True),
        Workload("unique", "GET 1 KB, two headers differ each time", "unique.lua"),
        Workload("post8", "POST 8 KB", "write.lua", body="8k", quick=True),
        Workload("post64", "remote write 64 KB", "write.lua", body="64k", quick=True),
        Workload("post200", "remote write 200 KB", "write.lua", body="200k"),
        Workload(
            "answer10m",
            "10 MB answer, Content-Length",
            "fetch.lua",
            connections=8,
            per=Per.GIGABYTE,
            settings={"BENCH_PATH": "/prometheus/answer/10m"},
            quick=True,
        ),
        Workload(
            "chunked10m",
            "10 MB answer, chunked",
            "fetch.lua",
            connections=8,
            per=Per.GIGABYTE,
            settings={"BENCH_PATH": "/prometheus/answer/10m-chunked"},
        ),
        Workload(
            "handshake",
            "new connection each: handshake + GET 1 KB",
            "fetch.lua",
            settings={"BENCH_PATH": "/prometheus/api/v1/query", "BENCH_CLOSE": "1"},
            quick=True,
            direct=False,
        ),
    )
}
