"""`python -m fraudstream`, the same as the command `fraudstream`."""

from fraudstream.cli import app

if __name__ == "__main__":
    app()
