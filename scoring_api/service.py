"""The API as a process: start, serving, ordered shutdown."""

from __future__ import annotations

import gc
import socket
import sys
import threading
from contextlib import ExitStack
from typing import Final

import structlog
import uvicorn

from fraud.contracts.versions import shown
from fraud.runtime.background import Background
from fraud.runtime.lifecycle import CannotStart
from model.registry import ModelError, Registry
from scoring_api.follower import SERVICE
from scoring_api.settings import Settings
from scoring_api.wiring import compose_app, follow_stream, open_backends, read_secrets

_SWITCH_S: Final = 0.0005
"""Seconds for which the follower's thread may hold up a request; Python's default is 5 ms."""

_BACKLOG: Final = 2048
_log = structlog.get_logger(SERVICE)


def _listen(host: str, port: int) -> socket.socket:
    """Open the port, before anything slow is done.

    Raises:
        CannotStart: The port is taken, or may not be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise CannotStart(
            f"cannot listen on {host} port {port}: {error.strerror}; set another API_PORT or stop what uses it"
        ) from None


def run(settings: Settings, stop: threading.Event) -> None:
    """Serve the API until `stop` is set or SIGTERM comes.

    Shutdown answers open requests, stops following, writes the history's snapshot, and closes.

    Raises:
        CannotStart: The port, the champion, a key or a setting of the AFD protocol cannot be used.
    """
    listener = _listen(settings.bind_host, settings.api_port)
    sys.setswitchinterval(_SWITCH_S)
    secrets = read_secrets(settings)
    registry = Registry(settings.model_registry)
    with ExitStack() as stack:
        try:
            stream = follow_stream(settings, registry, stop, stack)
        except ModelError as problem:
            raise CannotStart(str(problem)) from None
        backends = open_backends(settings, stream.policy, stack)
        app = compose_app(settings, registry, secrets, stream, backends, stack)
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                loop="uvloop",
                http="httptools",
                lifespan="off",
                access_log=False,  # takes time and shows who asked
                log_config=None,
                server_header=False,
                # Longer than clients' pools, so that they do not reuse a closed connection.
                timeout_keep_alive=75,
                timeout_graceful_shutdown=10,
            )
        )

        def follow() -> None:
            try:
                stream.follower.run(stop)
            finally:
                # Without the follower the history gets old, so the API must not go on.
                server.should_exit = True

        stack.enter_context(Background("follower", follow, stop))
        # Objects made so far live to the end, so collections need not look at them.
        gc.freeze()
        model = stream.engine.current.scorer.ref
        _log.info(
            "scoring_api.started",
            address=f"{settings.bind_host}:{listener.getsockname()[1]}",
            model=f"{model.name}@{shown(model.version)}",
        )
        server.run(sockets=[listener])
        _log.info("scoring_api.stopping")
