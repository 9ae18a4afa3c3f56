"""Tables and lines that `up` and `status` show."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from rich.table import Table

from devstack.process import resident_mb
from devstack.state import OK_STATES, ServiceRecord, ServiceState, StackRecord

_COLOURS: Final = {
    ServiceState.READY: "green",
    ServiceState.DONE: "green",
    ServiceState.STARTING: "yellow",
    ServiceState.WAITING: "dim",
    ServiceState.STOPPED: "dim",
    ServiceState.UNREADY: "red",
    ServiceState.BACKING_OFF: "red",
}


def progress_table(record: StackRecord) -> Table:
    """Return a table of the services' states during a start."""
    table = _plain_table("Service", "State", "")
    for name, service in record.services.items():
        after = f"after {service.ready_after_s:g} s" if service.ready_after_s is not None else ""
        table.add_row(name, _coloured(service.state), service.detail or after)
    return table


def status_table(record: StackRecord) -> Table:
    """Return a table of each service's state, process, restarts, memory and address."""
    table = _plain_table("Service", "State", "Pid", "Since", "Restarts", "Memory", "Address", "")
    total = 0.0
    for name, service in record.services.items():
        pid = service.identity.pid if service.identity and service.identity.is_alive() else None
        memory = resident_mb(pid) if pid else 0.0
        total += memory
        state = service.state
        if pid is None and state in (ServiceState.READY, ServiceState.UNREADY):
            state = ServiceState.STOPPED  # the supervisor died before it could say so
        table.add_row(
            name,
            _coloured(state),
            str(pid or ""),
            _ago(service),
            str(service.restarts or ""),
            f"{memory:.0f} MB" if pid else "",
            service.address,
            service.detail,
        )
    table.add_section()
    table.add_row("together", "", "", "", "", f"{total:.0f} MB", "", "")
    return table


def address_table(record: StackRecord, extra: Mapping[str, str]) -> Table:
    """Return a table of each service's address, time to readiness and memory.

    Args:
        record: State of the stack.
        extra: Further addresses by name.
    """
    table = _plain_table("", "Address", "Ready after", "Memory")
    total = 0.0
    for name, service in record.services.items():
        memory = resident_mb(service.identity.pid) if service.identity else 0.0
        total += memory
        after = f"{service.ready_after_s:.1f} s" if service.ready_after_s is not None else ""
        table.add_row(name, service.address, after, f"{memory:.0f} MB" if memory else "")
    for name, address in extra.items():
        table.add_row(name, address, "", "")
    table.add_section()
    table.add_row("together", "", "", f"{total:.0f} MB")
    return table


def progress_line(name: str, service: ServiceRecord) -> str:
    """Return a line with the state of a service."""
    detail = f" ({service.detail})" if service.detail else ""
    is_up = service.state in OK_STATES and service.ready_after_s is not None
    after = f" after {service.ready_after_s:g} s" if is_up else ""
    return f"{name}: {service.state.value}{detail or after}"


def _plain_table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        justify = "right" if heading in ("Memory", "Ready after", "Restarts", "Pid") else "left"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=bool(heading))  # type: ignore[arg-type]
    return table


def _coloured(state: ServiceState) -> str:
    return f"[{_COLOURS[state]}]{state.value}[/]"


def _ago(service: ServiceRecord) -> str:
    if not service.since_ms:
        return ""
    return str(timedelta(seconds=max(0, int(time.time() - service.since_ms / 1000))))
