"""An upstream that says yes and then nothing: to a websocket's handshake, and to whoever asks for events."""

from __future__ import annotations

import socket
import threading

from proxy.wire.websocket import accept_of

_KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
_CONSENT = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "
    + accept_of(_KEY)
    + b"\r\n\r\n"
)
_EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n"
#: The fields of a websocket's opening handshake.
HANDSHAKE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n" % _KEY
)


def silent_upstream() -> tuple[socket.socket, int]:
    """It consents to each websocket, begins a stream for anything else, and then is silent until it is left."""
    listener = socket.create_server(("127.0.0.1", 0))

    def play(peer: socket.socket) -> None:
        with peer:
            request = b""
            while b"\r\n\r\n" not in request and (data := peer.recv(65536)):
                request += data
            peer.sendall(_CONSENT if b"Upgrade: websocket" in request else _EVENTS)
            while peer.recv(65536):
                pass

    def accept() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=play, args=(peer,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener, listener.getsockname()[1]
