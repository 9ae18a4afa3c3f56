"""Logs where somebody else has set up logging, and has replaced `print`."""

from __future__ import annotations

import builtins
import logging

import pytest
import structlog

from fraud.runtime.logs import configure_worker_logs


def test_lines_reach_the_standard_library_redacted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyFlink's `print` raises for what structlog's own logger passes to it."""

    def pyflinks_print(*_: object) -> None:
        raise TypeError("an unexpected keyword argument 'flush'")

    configure_worker_logs("flink_job")
    monkeypatch.setattr(builtins, "print", pyflinks_print)
    with caplog.at_level(logging.ERROR):
        structlog.get_logger("test").error("it.failed", email_address="ada@example.com", n=1)
    assert '"event": "it.failed"' in caplog.text
    assert '"service": "flink_job"' in caplog.text
    assert "ada" not in caplog.text
