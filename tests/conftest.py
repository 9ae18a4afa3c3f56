"""Real servers for the tests that ask for them, started once per session and stopped by pid.

A test that takes `kafka`, `opensearch`, `smtp` or `flink_cluster` gets the real thing on free ports,
with its state in a temporary folder. Nothing starts unless some selected test asks for it; then all
servers that the session will need start at the same time.
"""

from __future__ import annotations

import os

# Read once, when XGBoost loads its threads, as `model.commands.train` does it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import gc
import logging
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import structlog
from hypothesis import settings as hypothesis_settings

from devstack.process import tail
from tests.support.servers import FlinkCluster, Servers, SmtpServer

# What is imported stays; looking through it at each collection of garbage is a fifth of the time
# that collecting the tests takes.
gc.disable()

_LOGS = pytest.StashKey[Path]()
_SHOWN_LINES = 25

_configure = structlog.configure


def _configure_uncached(**settings: Any) -> None:
    """Set up structlog so that no logger keeps the processors of the test that used it first."""
    _configure(**settings | {"cache_logger_on_first_use": False})


structlog.configure = _configure_uncached
_LOGGING: Final = structlog.get_config()

# How long an example takes says more about the machine's load than about the code.
hypothesis_settings.register_profile("full", deadline=None)
hypothesis_settings.register_profile("fast", deadline=None, max_examples=50)
hypothesis_settings.load_profile("full")


def pytest_collection_finish() -> None:
    """Collect garbage again, but not what was imported."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show, beside a failure, what the servers said last."""
    report = yield
    logs = item.config.stash.get(_LOGS, None)
    if report.failed and logs is not None:
        for log in sorted(logs.glob("*.log")):
            report.sections.append((f"end of {log.name}", tail(log, _SHOWN_LINES)))
    return report


@pytest.fixture(autouse=True)
def _process_as_before() -> Iterator[None]:
    """Commands set up logs and environment for their whole process, and here that is all tests'."""
    # Fixtures of a module may have run a command before this.
    structlog.configure(**_LOGGING)
    handlers = logging.getLogger().handlers[:]
    environment = dict(os.environ)
    yield
    if os.environ != environment:
        os.environ.clear()
        os.environ.update(environment)
    structlog.contextvars.clear_contextvars()
    for handler in logging.getLogger().handlers[:]:
        # pytest's own come and go; those that commands add write to what was stdout then.
        if type(handler) is logging.StreamHandler and handler not in handlers:
            logging.getLogger().removeHandler(handler)


@pytest.fixture(scope="session")
def _servers(request: pytest.FixtureRequest) -> Iterator[Servers]:
    wanted = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    # Not one of pytest's folders: only their owner can enter those, and as root OpenSearch runs as
    # somebody else.
    with tempfile.TemporaryDirectory(prefix="fraudstream-tests-") as folder:
        Path(folder).chmod(0o755)
        servers = Servers(Path(folder), wanted)
        request.config.stash[_LOGS] = servers.logs
        yield servers
        servers.close()


@pytest.fixture(scope="session")
def kafka(_servers: Servers) -> str:
    """Bootstrap address of a real broker; topics are not created by themselves."""
    return _servers.get("kafka")  # type: ignore[return-value]


@pytest.fixture(scope="session")
def opensearch(_servers: Servers) -> str:
    """Address of a real OpenSearch."""
    return _servers.get("opensearch")  # type: ignore[return-value]


@pytest.fixture(scope="session")
def smtp(_servers: Servers) -> SmtpServer:
    """A real SMTP server that catches all mail and shows it by Mailpit's API."""
    return _servers.get("smtp")  # type: ignore[return-value]


@pytest.fixture(scope="session")
def flink_cluster(_servers: Servers) -> FlinkCluster:
    """A real standalone Flink cluster."""
    return _servers.get("flink_cluster")  # type: ignore[return-value]
