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
    # The first two log every request: opensearch with the search terms, httpx with an address that
    # may be secret. Services log the important requests themselves.
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
    """Redact personal data anywhere in a log line (a structlog processor)."""
    for key, value in event.items():
        event[key] = REDACTED if key in _SECRET_KEYS else _masked(value)
    return event


def configure_logs(settings: ServiceSettings, service: str) -> None:
    """Send the log lines of structlog and the standard library to stdout, redacted.

    Args:
        settings: `log_level` and `log_format` are used.
        service: Name of the service, bound to every line.
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
    """Send a command's warnings and errors to stderr, redacted; stdout is for its result."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.processors.format_exc_info,
            redact,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        # Looked up for each logger: a process that runs several commands may replace stderr.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def configure_worker_logs(service: str) -> None:
    """Send structlog's lines, redacted, to the logging that the standard library is set up with.

    In Flink's Python workers, that is the TaskManager's log. structlog cannot print there: PyFlink
    replaces `print` by a function without the argument `flush`, so that the call raises.
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
