"""Start, readiness and orderly shutdown of services."""

from __future__ import annotations

import getpass
import signal
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType
from typing import Any, Self, TypeVar

import structlog
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import ValidationError

from fraud.runtime.logs import configure_logs
from fraud.runtime.settings import ServiceSettings, complain

S = TypeVar("S", bound=ServiceSettings)


def stop_event() -> threading.Event:
    """Return an event that SIGTERM and a first Ctrl-C set; a second Ctrl-C interrupts as usual."""
    stop = threading.Event()

    def ask(number: int, _frame: FrameType | None) -> None:
        stop.set()
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    return stop


def load_settings(settings: Callable[[], S]) -> S:
    """Read settings from the environment; print all that are wrong and exit with code 2."""
    try:
        return settings()
    except ValidationError as error:
        sys.stderr.write(complain(error) + "\n")
        raise SystemExit(2) from None


def user_name() -> str:
    """Return the name of the user who runs this process, or `unknown` if the user has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user, as in a container
        return "unknown"


class CannotStart(Exception):
    """A service cannot start until something outside it is changed; the message says what.

    Attributes:
        exit_code: Exit code of the process.
    """

    def __init__(self, message: str, *, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def run_service(
    service: str, settings: Callable[[], S], run: Callable[[S, threading.Event], int | None]
) -> int:
    """Run a service with settings from the environment until SIGTERM, and return its exit code.

    Args:
        service: Name of the service, bound to every log line.
        settings: Reads the settings from the environment.
        run: Does the work until the event is set; returns the exit code, or None for 0.
    """
    loaded = load_settings(settings)
    configure_logs(loaded, service)
    try:
        return run(loaded, stop_event()) or 0
    except CannotStart as problem:
        sys.stderr.write(f"{service}: {problem}\n")
        return problem.exit_code
    except Exception:
        # Python's own traceback would not be redacted, and error messages may hold personal values.
        structlog.get_logger(service).critical(f"{service}.crashed", exc_info=True)
        return 1


class OpsServer:
    """Serve `/metrics`, `/health/live` and `/health/ready` in the background, as a context manager.

    Leaving the context stops the server and waits for its thread.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 chooses a free one, which the attribute `port` holds.
        ready: Called on each `/health/ready`. Returns None if the service does its work, else one
            line on what it waits for (answered with 503).
    """

    def __init__(self, host: str, port: int, ready: Callable[[], str | None]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                waiting: str | None = None
                kind = "text/plain; charset=utf-8"
                if self.path == "/metrics":
                    body, kind = generate_latest(), CONTENT_TYPE_LATEST
                elif self.path == "/health/live":
                    body = b"ok\n"
                elif self.path == "/health/ready":
                    waiting = ready()
                    body = f"{waiting or 'ok'}\n".encode()
                else:
                    self.send_error(404)
                    return
                self.send_response(503 if waiting else 200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Log nothing, as probes come every second."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="ops", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
