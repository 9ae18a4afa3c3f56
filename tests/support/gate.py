"""A way to a server that can be shut and opened: an outage that costs no restart."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self


class Gate:
    """Forward connections from a port of ours to a server, while open, as a context manager.

    Args:
        host: The server's host.
        port: The server's port.
        opened: Whether it starts open.
    """

    def __init__(self, host: str, port: int, *, opened: bool = True) -> None:
        self._server = (host, port)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._listener: socket.socket | None = None
        self._through: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.bytes_in = 0
        self._opened = opened

    def __enter__(self) -> Self:
        if self._opened:
            self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.shut()

    def open(self) -> None:
        """Accept and forward connections."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen()
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def shut(self) -> None:
        """Refuse connections, and cut those that are open."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            for end in self._through:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                inner, _ = listener.accept()
                outer = socket.create_connection(self._server)
            except OSError:
                return
            with self._lock:
                self._through |= {inner, outer}
            for source, target, inward in ((inner, outer, True), (outer, inner, False)):
                threading.Thread(
                    target=self._pump, args=(source, target, inward), daemon=True
                ).start()

    def _pump(self, source: socket.socket, target: socket.socket, inward: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                self.bytes_in += len(data) if inward else 0
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._lock:
            # The other direction closes what it reads from.
            self._through.discard(source)
        source.close()
