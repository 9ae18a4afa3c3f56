"""Complete the environment of the command line from `.env` and the addresses of the local stack."""

from __future__ import annotations

import os
import sys

from devstack.errors import DevstackError
from devstack.settings import env_file_values, load


def complete_environment() -> None:
    """Complete the environment as devstack does for the services it starts.

    Variables that are set stay. Others come from `.env` in the current folder, or else are derived
    from STATE_DIR, BIND_HOST and the ports.
    """
    try:
        settings = load()
    except DevstackError as error:
        sys.exit(f"fraudstream: {error}")
    defaults = settings.addresses() | settings.places() | {"STATE_DIR": str(settings.state_dir)}
    for name, value in (defaults | {k: v for k, v in env_file_values().items() if v}).items():
        if not os.environ.get(name):
            os.environ[name] = value
