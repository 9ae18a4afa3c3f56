"""The error that devstack's commands report."""

from __future__ import annotations


class DevstackError(Exception):
    """A problem that the user can solve; shown without a traceback, so the text says what to do."""
