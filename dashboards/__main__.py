"""Entry point of `python -m dashboards`: import the dashboard, or print its saved objects."""

from __future__ import annotations

from dashboards.commands import app

if __name__ == "__main__":
    app(prog_name="python -m dashboards")
