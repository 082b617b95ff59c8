"""promgate's own log, on stderr: one event a line, in logfmt or JSON; no line break in a text makes a second line."""

from __future__ import annotations

import json
import logging
import sys
import time

from proxy.observe.writing import LineWriter


class _Line(logging.Formatter):
    def fields(self, record: logging.LogRecord) -> dict[str, str]:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields = {
            "ts": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "component": record.name.removeprefix("promgate."),
            "msg": record.getMessage(),
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return fields


class _Logfmt(_Line):
    def format(self, record: logging.LogRecord) -> str:
        return " ".join(
            f"{key}={json.dumps(value) if key in {'msg', 'error'} else value}"
            for key, value in self.fields(record).items()
        )


class _Json(_Line):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(self.fields(record))


class _Stderr(logging.Handler):
    """Whoever does not read our log any more must not stop the server with it."""

    def __init__(self) -> None:
        super().__init__()
        self._lines = LineWriter(sys.stderr.fileno())

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.write(f"{self.format(record)}\n".encode(errors="backslashreplace"))


def set_up_logging(level: str, log_format: str) -> None:
    """`level`: debug, info, warning, error. `log_format`: logfmt, json."""
    stderr = _Stderr()
    stderr.setFormatter(_Json() if log_format == "json" else _Logfmt())
    root = logging.getLogger()
    root.handlers[:] = [stderr]
    root.setLevel(level.upper())
    logging.getLogger("asyncio").setLevel(logging.WARNING)
