"""Service declaration of the mail catcher."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path

from devstack.probes import http_ready
from devstack.service import Service
from devstack.settings import PYTHON


def mail(
    state: Path, *, host: str, smtp_port: int, ui_port: int, env: Mapping[str, str]
) -> Service:
    """Declare the mail catcher as a service.

    Args:
        state: State folder of the stack; messages go to its subfolder `mail`.
        host: Address to listen on.
        smtp_port: Port of the mail server.
        ui_port: Port of page and API.
        env: Environment of the process.
    """
    reach = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104 - compared, not bound
    page_ready = http_ready(f"http://{reach}:{ui_port}/readyz")

    def ready() -> str | None:
        try:
            with socket.create_connection((reach, smtp_port), timeout=2) as connection:
                if not connection.recv(4).startswith(b"220"):
                    return "no SMTP greeting"
        except OSError:
            return "not listening yet"
        return page_ready()

    settings = {
        "STATE_DIR": str(state),
        "BIND_HOST": host,
        "SMTP_PORT": str(smtp_port),
        "MAIL_UI_PORT": str(ui_port),
    }
    return Service(
        name="mail",
        command=(PYTHON, "-m", "devstack.mail"),
        ready=ready,
        env={**env, **settings},
        ports={"SMTP_PORT": smtp_port, "MAIL_UI_PORT": ui_port},
        address=f"http://{reach}:{ui_port}",
        stage=0,
        stop_timeout_s=10.0,
    )
