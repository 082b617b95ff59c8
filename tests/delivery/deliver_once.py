"""One delivery to a file as a command of its own, for the rig that kills it."""

from __future__ import annotations

import sys

from proxy.delivery.file import FileSink
from proxy.tokens.ports import DeliveryError
from proxy.tokens.targets import FileTarget
from tests.delivery.play import parcel


def main(arguments):
    path, seed = arguments
    try:
        FileSink(FileTarget(path)).deliver(parcel(int(seed)))
    except DeliveryError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
