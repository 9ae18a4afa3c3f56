"""Structured logs to stdout, without personal data."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

from fraud.contracts.personal import REDACTED, mask
from fraud.contracts.transaction import PERSONAL_FIELDS
from fraud.runtime.settings import ServiceSettings

_SECRET_KEYS: Final = PERSONAL_FIELDS | {
    "transaction_amt", "amount", "password", "recipient", "recipients", "authorization", "record", "value",
}  # fmt: skip

_QUIET_LIBRARIES: Final = {
    # Both log every request: the first with what was searched for, the second with an address
    # that may be a secret. Services log what matters of them.
    "opensearch": logging.ERROR,
    "httpx": logging.WARNING,
    "uvicorn": logging.WARNING,
}


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {
            key: REDACTED if key in _SECRET_KEYS else _masked(inner) for key, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_masked(inner) for inner in value]
    return value


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Remove personal data from a log line, wherever it stands (a structlog processor)."""
    for key, value in event.items():
        event[key] = REDACTED if key in _SECRET_KEYS else _masked(value)
    return event


def configure_logs(settings: ServiceSettings, service: str) -> None:
    """Send structlog's and the standard library's lines to stdout, redacted.

    Args:
        settings: `log_level` and `log_format` are used.
        service: Bound to every line.
    """
    text = settings.log_format == "text" or (settings.log_format == "auto" and sys.stdout.isatty())
    level = logging.getLevelName(settings.log_level.upper())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor] = [
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        redact,
        structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
        if text
        else structlog.processors.JSONRenderer(),
    ]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name, at_least in _QUIET_LIBRARIES.items():
        logging.getLogger(name).setLevel(at_least)
    structlog.contextvars.bind_contextvars(service=service)


def configure_command_logs() -> None:
    """Send a command's warnings and errors to stderr, redacted: stdout is for what it was asked."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.processors.format_exc_info,
            redact,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        # What stderr is when something is said: whoever runs commands in a process may replace it.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def configure_worker_logs(service: str) -> None:
    """Send structlog's lines through the standard library, redacted, where that is set up already.

    In Flink's Python workers it leads to the TaskManager's log. Printing would not do: PyFlink puts
    a `print` of its own in place of Python's, which knows no `flush` and raises.
    """

    def named(
        _logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        return {"service": service, **event}

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            named,
            structlog.processors.format_exc_info,
            redact,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
