"""The whole stack, as `make up` starts it, once for all end-to-end tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from devstack.ports import free_ports
from tests.e2e.stack import Stack

_PORTS = (
    "KAFKA_PORT",
    "OPENSEARCH_PORT",
    "API_PORT",
    "FLINK_PORT",
    "SMTP_PORT",
    "MAIL_UI_PORT",
    "PRODUCER_OPS_PORT",
    "FLINK_JOB_OPS_PORT",
    "NOTIFIER_OPS_PORT",
    "INDEXER_OPS_PORT",
)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything, on free ports and with a state of its own; one transaction a second flows."""
    state = tmp_path_factory.mktemp("stack")
    # An unprivileged OpenSearch must be able to enter the folders above its own.
    for folder in (state, state.parent, state.parent.parent):
        folder.chmod(0o755)
    ports = {name: str(port) for name, port in zip(_PORTS, free_ports(len(_PORTS)), strict=True)}
    env = {**os.environ, **ports, "STATE_DIR": str(state), "PRODUCER_RATE": "1"}
    command = [sys.executable, "-m", "devstack"]
    try:
        up = subprocess.run([*command, "up"], env=env, capture_output=True, text=True, check=False)
        assert up.returncode == 0, up.stdout + up.stderr
        yield Stack(state, env)
    finally:
        subprocess.run([*command, "down"], env=env, capture_output=True, check=False)
