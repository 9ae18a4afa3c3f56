"""The whole stack, as `make up` starts it, once for all end-to-end tests."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.faults.stack import PORTS
from devstack.ports import free_ports
from tests.support.stack import Stack


@pytest.fixture(scope="package")
def stack() -> Iterator[Stack]:
    """Everything, on free ports and with a state of its own; one transaction a second flows."""
    ports = {name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
    # Not one of pytest's folders: only their owner can enter those, and as root OpenSearch runs as
    # somebody else.
    with tempfile.TemporaryDirectory(prefix="fraudstream-e2e-") as folder:
        Path(folder).chmod(0o755)
        state = Path(folder) / "state"
        # One mail for each alert, so that each can be counted.
        own = {"STATE_DIR": str(state), "PRODUCER_RATE": "1", "NOTIFIER_DIGEST_S": "0"}
        env = {**os.environ, **ports, **own}
        command = [sys.executable, "-m", "devstack"]
        try:
            up = subprocess.run(
                [*command, "up"], env=env, capture_output=True, text=True, check=False
            )
            assert up.returncode == 0, up.stdout + up.stderr
            yield Stack(state, env)
        finally:
            subprocess.run([*command, "clean"], env=env, capture_output=True, check=False)
