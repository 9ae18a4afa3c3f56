"""A real HTTP server for what posts to people's addresses."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class Receiver:
    """A server on a free port that keeps what it gets and answers as told, as a context manager.

    Attributes:
        status: Code of its answers.
        statuses: Codes of the next answers, before that.
        headers: Headers of its answers.
        body: Body of its answers.
        answering: Answers wait until it is set, as it is at first.
        requests: Headers, by names in lower case, and body of each request.
        url: Where to post to.
    """

    def __init__(self) -> None:
        receiver = self
        self.status = 200
        self.statuses: list[int] = []
        self.headers: dict[str, str] = {}
        self.body = b""
        self.answering = threading.Event()
        self.answering.set()
        self.requests: list[tuple[dict[str, str], bytes]] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.requests.append((headers, body))
                receiver.answering.wait(30)
                status = receiver.statuses.pop(0) if receiver.statuses else receiver.status
                self.send_response(status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(receiver.body)))
                self.end_headers()
                self.wfile.write(receiver.body)

            def log_message(self, *_: Any) -> None:
                """Stay silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"

    @property
    def last(self) -> tuple[dict[str, str], bytes]:
        return self.requests[-1]

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
