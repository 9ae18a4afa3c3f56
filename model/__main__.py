"""`python -m model`: train models, list them, and score files with them."""

from __future__ import annotations

from model.commands import app

if __name__ == "__main__":
    app(prog_name="python -m model")
