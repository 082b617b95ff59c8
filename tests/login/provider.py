"""A provider on a loopback port whose every answer a test decides; it counts what it was asked."""

from __future__ import annotations

import json
import threading
from collections import Counter

from tests.kit.http_server import HttpServer, Reply


def told(value, status=200):
    return Reply(status, json.dumps(value).encode(), "application/json")


class Provider(HttpServer):
    """`answers` maps a path to a Reply, to a function of the request, or to what is told as JSON; all else is 404.

    `hold` stops every answer until it is set again.
    """

    def __init__(self, **answers):
        super().__init__(self._answer)
        self.answers = {"/.well-known/openid-configuration": lambda _: told(self.description), **answers}
        self.asked = Counter()
        self.requests = []
        self.hold = threading.Event()
        self.hold.set()
        self.described = {}

    @property
    def description(self):
        return {
            "issuer": self.base,
            "jwks_uri": f"{self.base}/keys",
            "introspection_endpoint": f"{self.base}/introspect",
            **self.described,
        }

    def _answer(self, request):
        self.asked[request.path] += 1
        self.requests.append(request)
        self.hold.wait(20)
        answer = self.answers.get(request.path, Reply(404))
        answer = answer(request) if callable(answer) else answer
        return answer if isinstance(answer, Reply) else told(answer)
