"""A renewal from end to end as a command of its own, for the rig that kills it: the server's part and the sender's."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path

from proxy.cli.token import desk_of
from proxy.config.read import load
from proxy.delivery.file import advice_on, replace_file
from proxy.desk.renew_reply import Renewing
from proxy.stores.sqlite import open_store
from proxy.tokens.ports import StoreError
from proxy.tokens.renewal import Caller
from proxy.tokens.secret import digest

HOST = Caller("10.0.0.7", "promgate-renew/1.0")


def main(arguments):
    """CONFIG FILE: trade the token in FILE, put the successor there, and show it; 0 when it is current."""
    config, file = map(Path, arguments)
    loaded = load(config, open_files=False)
    try:
        with closing(open_store(loaded.settings.store)) as store:
            renewing = Renewing(lambda _: desk_of(loaded, store, "renew"))
            for status in (200, 204):
                token = store.find(digest(file.read_bytes().strip()))
                answer = renewing.answer("prom", token.id, HOST)
                if answer.status == 204:
                    return 0  # the one before died with the successor in place
                if answer.status != status:
                    print(answer.body.decode(), file=sys.stderr)
                    return 1
                replace_file(file, json.loads(answer.body)["token"].encode() + b"\n")
    except OSError as error:
        print(f"{file}: {advice_on(error)}", file=sys.stderr)
    except StoreError as error:
        print(error, file=sys.stderr)
    return 1
