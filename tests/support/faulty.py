"""OpenSearch behind a proxy that lets some items of bulk requests fail, as a busy cluster does."""

from __future__ import annotations

import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import httpx
import orjson


class FaultyProxy:
    """Forward all requests to OpenSearch, as a context manager; of bulk requests, fail some items.

    Of the items that fail one half is not passed on, and the other half is written although the
    answer says otherwise.

    Args:
        url: Of OpenSearch.
        rate: Share of the items that fail.
        seed: Of the draw.
    """

    def __init__(self, url: str, *, rate: float, seed: int) -> None:
        self._url = url
        self._rate = rate
        self._rng = random.Random(seed)
        self._lock = threading.Lock()
        self.failed = 0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                answer = proxy.answer(self.command, self.path, body)
                self.send_response(answer.status_code)
                self.send_header("Content-Type", answer.headers.get("Content-Type", "text/plain"))
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.content)

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _forward  # noqa: N815 - their names

            def log_message(self, *_: Any) -> None:
                """Stay silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._client = httpx.Client(base_url=self._url, timeout=60)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._client.close()

    def answer(self, method: str, path: str, body: bytes) -> httpx.Response:
        """Forward one request, less what is to fail."""
        headers = {"Content-Type": "application/json"}
        if "/_bulk" not in path:
            return self._client.request(method, path, content=body, headers=headers)
        lines = body.split(b"\n")[:-1]
        pairs = list(zip(lines[::2], lines[1::2], strict=True))
        with self._lock:
            draws = [self._rng.random() for _ in pairs]
        kept = [pair for pair, draw in zip(pairs, draws, strict=True) if draw >= self._rate / 2]
        items: list[dict[str, Any]] = []
        if kept:
            content = b"".join(line + b"\n" for pair in kept for line in pair)
            forwarded = self._client.request(method, path, content=content, headers=headers)
            if forwarded.status_code != 200:
                return forwarded
            items = forwarded.json()["items"]
        left = iter(items)
        answers = []
        for (action, _), draw in zip(pairs, draws, strict=True):
            (name,) = orjson.loads(action)
            item = next(left) if draw >= self._rate / 2 else {}
            if draw < self._rate:
                with self._lock:
                    self.failed += 1
                error = {"type": "rejected_execution_exception", "reason": "as told"}
                item = {name: {"status": 429, "error": error}}
            answers.append(item)
        return httpx.Response(200, json={"items": answers})
