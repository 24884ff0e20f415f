"""A line to Ray's dashboard that can lose replies: what was asked is done, and the asker never hears of it."""

from __future__ import annotations

import contextlib
import socket
import threading


class LossyLine:
    """Listens on a port of its own and forwards to another.

    Args:
        port: where to listen.
        target: where to forward to.
    """

    def __init__(self, port: int, target: int) -> None:
        self._target = target
        self._lose: bytes = b""
        self.lost = 0
        self._listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_replies_to(self, start: bytes) -> None:
        """Whoever sends something that holds ``start`` is cut off as soon as the answer has come; b"" for nobody."""
        self._lose = start

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            client.close()
            return
        doomed = threading.Event()
        threading.Thread(target=self._pump, args=(client, server, doomed, True), daemon=True).start()
        self._pump(server, client, doomed, False)

    def _pump(self, source: socket.socket, sink: socket.socket, doomed: threading.Event, asks: bool) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(65536):
                if asks and self._lose and self._lose in content:
                    doomed.set()
                if not asks and doomed.is_set():
                    self.lost += 1
                    break
                sink.sendall(content)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
