"""The environment of the command line: that of the process, then `.env`, then where devstack's servers are."""

from __future__ import annotations

import os
from pathlib import Path


def complete_environment() -> None:
    """Complete the environment as devstack does for the services it starts.

    What is set stays. `.env` in the current folder comes next; then the addresses that follow from
    BIND_HOST and the ports.
    """
    from dotenv import dotenv_values

    for name, value in dotenv_values(Path(".env")).items():
        if value and not os.environ.get(name):
            os.environ[name] = value
    bound = os.environ.get("BIND_HOST") or "127.0.0.1"
    host = "127.0.0.1" if bound in ("0.0.0.0", "::") else bound  # noqa: S104 - compared, not bound
    if not os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        os.environ["KAFKA_BOOTSTRAP_SERVERS"] = f"{host}:{os.environ.get('KAFKA_PORT') or 9092}"
    if not os.environ.get("OPENSEARCH_URL"):
        os.environ["OPENSEARCH_URL"] = f"http://{host}:{os.environ.get('OPENSEARCH_PORT') or 9200}"
    if not os.environ.get("SMTP_HOST"):
        os.environ["SMTP_HOST"] = host
    if not os.environ.get("PUBLIC_URL"):
        os.environ["PUBLIC_URL"] = f"http://{host}:{os.environ.get('API_PORT') or 8000}"
