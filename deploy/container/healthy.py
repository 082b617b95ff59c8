"""Ends with 0 when promgate answers /-/healthy in this container; the Dockerfile's HEALTHCHECK.

The certificate is not verified: it stands for the name that clients use, which is never 127.0.0.1 for a public one,
and nothing is sent that could be stolen. The standard library alone, without `site`: a check costs 60 ms of a core.
"""

import http.client
import os
import ssl
import sys
from urllib.parse import urlsplit

where = urlsplit(os.environ.get("PROMGATE_HEALTH_URL", "https://127.0.0.1:9443"))
host, port = where.hostname or "127.0.0.1", where.port
if where.scheme == "http":
    connection = http.client.HTTPConnection(host, port, timeout=3)
else:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(host, port, timeout=3, context=context)
try:
    connection.request("GET", "/-/healthy")
    status = connection.getresponse().status
except (OSError, http.client.HTTPException) as error:
    sys.exit(f"{where.geturl()}: {error}")
sys.exit(0 if status == http.client.OK else f"{where.geturl()}: {status}")
