"""What devstack says when it cannot go on."""

from __future__ import annotations


class DevstackError(Exception):
    """A problem that a person can solve: one line that says what to do, shown without a traceback."""
