"""Load on `POST /v1/score`: requests on a fixed schedule, whatever the server does (open loop).

Latency counts from the time a request was to be sent, so that a server that stalls is charged for
all who had to wait meanwhile, and not only for the one it stalled on.
"""

from __future__ import annotations

import itertools
import math
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import urlopen

import orjson
from rich.console import Console

from benchmarks.report import percentiles
from devstack.ports import free_ports
from fraud.security.api_keys import first_key

Body = Callable[[int], bytes]
"""Gives the body of the n-th request."""

_START_S: Final = 120
_LEAD_S: Final = 0.3
"""Time for all connections to be made before the first request is due."""


@contextmanager
def own_api(env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Run an API beside `own_stack` and give its address and an API key once it has caught up.

    It has no limit of requests a second: to find what it can take is the point.

    Args:
        env: Settings of the stack's services.

    Raises:
        TimeoutError: It was not ready in time.
    """
    (port,) = free_ports(1)
    process = subprocess.Popen(
        [sys.executable, "-m", "scoring_api"],
        env={**os.environ, **env, "API_PORT": str(port), "API_RATE_LIMIT": "0"},
        stdout=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline_s = time.monotonic() + _START_S
        while not _is_ready(url):
            if time.monotonic() > deadline_s or process.poll() is not None:
                raise TimeoutError(f"the API was not ready within {_START_S} s")
            time.sleep(0.2)
        yield url, first_key(Path(env["STATE_DIR"])) or ""
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _is_ready(url: str) -> bool:
    try:
        with urlopen(f"{url}/health/ready", timeout=5) as answer:  # noqa: S310 - our own server
            return bool(answer.status == HTTPStatus.OK)
    except OSError:
        return False


def bodies(values: Sequence[bytes], *, run: str) -> Body:
    """Make requests of records: each asks about a new event of its customer at this moment.

    Args:
        values: Records as JSON; they are used again when there are not enough.
        run: Goes into the event ids, so that no request asks about an event that is known.
    """
    records = [orjson.loads(value) for value in values]

    def body(number: int) -> bytes:
        record = records[number % len(records)]
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return orjson.dumps(record | {"event_id": f"{run}-{number}", "event_time": now})

    return body


def lists(body: Body, length: int) -> Body:
    """Make requests of lists of so many records."""

    def many(number: int) -> bytes:
        first = number * length
        return b"[" + b",".join(body(at) for at in range(first, first + length)) + b"]"

    return many


class _Connection:
    """One kept-alive HTTP/1.1 connection; no more of the protocol than the API's answers need."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        self._tls = parts.scheme == "https"
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or (443 if self._tls else 80)
        self._head = f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: ".encode()
        self._socket: socket.socket | None = None

    def _connect(self) -> socket.socket:
        made = socket.create_connection((self._host, self._port), timeout=30)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls:
            made = ssl.create_default_context().wrap_socket(made, server_hostname=self._host)
        return made

    def post(self, body: bytes) -> int:
        """Send and read the whole answer; gives its status.

        Raises:
            OSError: The connection failed; the next call makes a new one.
        """
        try:
            if self._socket is None:
                self._socket = self._connect()
            self._socket.sendall(self._head + b"%d\r\n\r\n" % len(body) + body)
            answer = self._socket.recv(65536)
            while (end := answer.find(b"\r\n\r\n")) < 0:
                answer += self._more()
            head = answer[:end].lower()
            at = head.index(b"content-length:") + len(b"content-length:")
            length = int(head[at : head.find(b"\r\n", at) if b"\r\n" in head[at:] else len(head)])
            missing = end + 4 + length - len(answer)
            while missing > 0:
                missing -= len(self._more())
            return int(head.split(b" ", 2)[1])
        except OSError:
            self.close()
            raise

    def _more(self) -> bytes:
        chunk = self._socket.recv(65536) if self._socket else b""
        if not chunk:
            raise ConnectionError("the server closed the connection")
        return chunk

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


@dataclass
class _Tally:
    last_s: float
    latencies_ms: list[float] = field(default_factory=list)
    failed: int = 0


def load(
    url: str, key: str, body: Body, *, rate: float | None, seconds: float, connections: int = 64
) -> dict[str, Any]:
    """Send requests and measure.

    Args:
        url: Of the endpoint.
        key: An API key; what it needs is the role score.
        body: Makes the requests.
        rate: Requests a second on a fixed schedule; None sends the next on each connection as soon
            as the one before is answered (closed loop), which finds the capacity.
        seconds: How long.
        connections: Most requests at the same time. When all are busy, what is due waits, and its
            waiting counts.

    Returns:
        Rate, percentiles of the latency in milliseconds, and how many requests were not answered
        with 200.
    """
    numbers = itertools.count()
    lock = threading.Lock()
    started_s = time.perf_counter() + _LEAD_S
    tallies = [_Tally(started_s) for _ in range(connections)]

    def work(tally: _Tally) -> None:
        connection = _Connection(url, key)
        while True:
            with lock:
                number = next(numbers)
            now_s = time.perf_counter()
            due_s = max(now_s, started_s) if rate is None else started_s + number / rate
            # Half a request, as the times of a schedule are not exact.
            if due_s >= started_s + seconds - 0.5 / (rate or math.inf):
                break
            request = body(number)
            wait_s = due_s - time.perf_counter()
            if wait_s > 0:
                time.sleep(wait_s)
            try:
                status = connection.post(request)
            except OSError:
                status = 0
            tally.last_s = time.perf_counter()
            if status == HTTPStatus.OK:
                tally.latencies_ms.append((tally.last_s - due_s) * 1000)
            else:
                tally.failed += 1
        connection.close()

    threads = [threading.Thread(target=work, args=[tally], daemon=True) for tally in tallies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    latencies_ms = [ms for tally in tallies for ms in tally.latencies_ms]
    taken_s = max(tally.last_s for tally in tallies) - started_s
    return {
        "requests": len(latencies_ms),
        "per_s": len(latencies_ms) / taken_s if latencies_ms else 0.0,
        **percentiles(latencies_ms or [math.nan]),
        "failed": sum(tally.failed for tally in tallies),
    }


def measure(
    url: str,
    key: str,
    values: Sequence[bytes],
    *,
    rates: Sequence[float],
    seconds: float,
    run: str,
    console: Console,
) -> list[dict[str, Any]]:
    """Measure an API that runs: each rate, then its capacity with one record and with lists.

    Args:
        url: Of `POST /v1/score`.
        key: An API key.
        values: Records as JSON.
        rates: Requests a second.
        seconds: Length of each scenario; a tenth of it warms up before, unmeasured.
        run: Goes into the event ids.
        console: Where progress goes.

    Returns:
        One row per scenario, as `report.publish` takes them.
    """
    one = bodies(values, run=run)
    scenarios: list[tuple[str, Body, float | None, int]] = [
        (f"one record at {rate:g}/s", one, rate, 64) for rate in rates
    ]
    scenarios.append(("one record, capacity with 8 connections", one, None, 8))
    scenarios.append(("lists of 100, capacity with 2 connections", lists(one, 100), None, 2))
    rows = []
    for scenario, body, rate, connections in scenarios:
        with console.status(f"{scenario}, {seconds:g} s"):
            load(url, key, body, rate=rate, seconds=seconds / 10, connections=connections)
            figures = load(url, key, body, rate=rate, seconds=seconds, connections=connections)
        rows.append({"scenario": scenario, **figures})
    return rows
