"""Entry point of `python -m devstack`."""

from __future__ import annotations

from devstack.cli import app

if __name__ == "__main__":
    app(prog_name="devstack")
