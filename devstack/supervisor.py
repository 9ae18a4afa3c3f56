"""The supervisor: starts services in order of their dependencies, restarts them and stops them.

It is one process in the background. A service starts when all services that it needs are ready. If
its process ends, it is restarted after 1 s, and up to 30 s if it keeps failing. SIGTERM stops the
services, then Flink, then the servers; a process that does not end in time is killed with its group.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from devstack import state
from devstack.errors import DevstackError
from devstack.process import Identity, excerpt, has_ended, spawn, stop, tail
from devstack.service import Service
from devstack.state import OK_STATES, Phase, ServiceRecord, ServiceState, StackRecord
from fraud.runtime.clock import system_clock

_LOOK_S: Final = 0.1
_PROBE_WHILE_STARTING_S: Final = 0.3
_PROBE_WHILE_READY_S: Final = 5.0
_HOUSEKEEPING_S: Final = 5.0
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 30.0
_STEADY_S: Final = 60.0
"""Uptime after which a service that ends is restarted with the shortest pause again."""
_TRIES_BEFORE_READY: Final = 3
"""Number of failures of a service that was never ready after which the start is given up."""
_MB: Final = 1_000_000
_DETAIL_LENGTH: Final = 120


class _Runner:
    """Starts, restarts and stops one service."""

    def __init__(
        self, service: Service, record: ServiceRecord, supervisor: StackSupervisor
    ) -> None:
        self.service = service
        self.record = record
        self.process: subprocess.Popen[bytes] | None = None
        self.was_ready = asyncio.Event()
        self._supervisor = supervisor
        self._log = supervisor.logs / f"{service.name}.log"

    async def look_after(self, needs: Sequence[_Runner]) -> None:
        """Wait for the services in `needs`, then keep this one running until cancelled."""
        for need in needs:
            if not need.was_ready.is_set():
                self._enter(ServiceState.WAITING, f"for {need.service.name}")
            await need.was_ready.wait()
        failures = 0
        while True:
            began = time.monotonic()
            reason = await self._run_once()
            if reason is None:
                return
            # After a long uptime the pauses start from the shortest again.
            failures = 1 if time.monotonic() - began > _STEADY_S else failures + 1
            if failures >= _TRIES_BEFORE_READY and not self.was_ready.is_set():
                self._supervisor.give_up(
                    f"{self.service.name} does not start: {reason}. "
                    f"The end of {self._log}:\n{excerpt(self._log)}"
                )
            pause_s = min(_FIRST_PAUSE_S * 2 ** (failures - 1), _LONGEST_PAUSE_S)
            self._say(f"{self.service.name}: {reason}; starting again in {pause_s:g} s")
            self._enter(ServiceState.BACKING_OFF, f"{reason}; again in {pause_s:g} s")
            await asyncio.sleep(pause_s)
            self.record.restarts += 1

    async def _run_once(self) -> str | None:
        """Run the process once; return None if a one-shot succeeded, else why the process ended."""
        service = self.service
        self._enter(ServiceState.STARTING)
        try:
            if service.prepare:
                await asyncio.to_thread(service.prepare)
            self.process = process = spawn(service, self._log)
        except (DevstackError, OSError) as error:
            return str(error)
        self.record.identity = Identity.of(process.pid)
        self._supervisor.publish()
        deadline = time.monotonic() + service.start_timeout_s
        next_probe = 0.0
        while not has_ended(process):
            now = time.monotonic()
            if service.one_shot:
                self._note(_last_line(self._log))
            elif now >= next_probe:
                waiting = await asyncio.to_thread(service.ready)
                ready = waiting is None
                # The probe takes time; its answer is void if the process ended meanwhile.
                if not has_ended(process):
                    self._show_readiness(waiting)
                next_probe = time.monotonic() + (
                    _PROBE_WHILE_READY_S if ready else _PROBE_WHILE_STARTING_S
                )
            if self.record.state is ServiceState.STARTING and now > deadline:
                await asyncio.to_thread(stop, process, service.stop_timeout_s)
                self._forget()
                return f"not ready after {service.start_timeout_s:.0f} s ({self.record.detail})"
            await asyncio.sleep(_LOOK_S)
        self._forget()
        if service.one_shot and process.returncode == 0:
            self._enter(ServiceState.DONE)
            return None
        return _how_it_ended(process.returncode)

    async def stop(self) -> None:
        """Stop the process if it runs."""
        if self.process is not None and not has_ended(self.process):
            await asyncio.to_thread(stop, self.process, self.service.stop_timeout_s)
        if self.process is not None or self.record.state is not ServiceState.DONE:
            self._forget()
            if self.record.state is not ServiceState.DONE:
                self._enter(ServiceState.STOPPED)

    def _show_readiness(self, waiting: str | None) -> None:
        if waiting is None:
            if self.record.state is not ServiceState.READY:
                self._enter(ServiceState.READY)
        elif self.record.state is ServiceState.STARTING:
            self._note(waiting)
        elif self.record.state is ServiceState.READY or waiting != self.record.detail:
            self._enter(ServiceState.UNREADY, waiting)

    def _enter(self, entered: ServiceState, detail: str = "") -> None:
        if entered is not self.record.state or not self.record.since_ms:
            self.record.since_ms = system_clock()
        self.record.state = entered
        self.record.detail = detail
        if entered in OK_STATES and not self.was_ready.is_set():
            self.record.ready_after_s = round(self._supervisor.elapsed_s(), 1)
            self.was_ready.set()
            self._say(f"{self.service.name}: {entered.value}")
        self._supervisor.publish()

    def _note(self, detail: str) -> None:
        if detail != self.record.detail:
            self.record.detail = detail
            self._supervisor.publish()

    def _forget(self) -> None:
        self.process = None
        self.record.identity = None

    def _say(self, line: str) -> None:
        with suppress(OSError):  # a full disk
            print(f"{datetime.now(UTC).isoformat(timespec='seconds')} {line}", flush=True)


class StackSupervisor:
    """Runs services until asked to stop.

    Args:
        services: Services in start order; needed services outside this list are assumed ready.
        folder: State folder, for the record of the stack.
        logs: Folder of the log files.
        log_file_mb: Size at which a log file is rotated, MB.
    """

    def __init__(
        self, services: Sequence[Service], folder: Path, logs: Path, log_file_mb: int
    ) -> None:
        self.logs = logs
        self._folder = folder
        self._log_file_bytes = log_file_mb * _MB
        self._began = time.monotonic()
        self._stop = asyncio.Event()
        self._is_published = True
        self._record = StackRecord(
            supervisor=Identity.of(os.getpid()),
            phase=Phase.STARTING,
            started_ms=system_clock(),
            services={
                service.name: ServiceRecord(address=service.address, stage=service.stage)
                for service in services
            },
        )
        self._runners = {
            service.name: _Runner(service, self._record.services[service.name], self)
            for service in services
        }

    async def run(self) -> int:
        """Run all services until SIGTERM or Ctrl-C; return the exit code, 1 if the start failed."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self.stop)
        state.write(self._folder, self._record)  # raises: without a record nobody sees the stack
        tasks = [
            asyncio.create_task(
                runner.look_after(
                    [self._runners[need] for need in runner.service.needs if need in self._runners]
                )
            )
            for runner in self._runners.values()
        ]
        keeping_house = asyncio.create_task(self._keep_house())
        watched = [asyncio.create_task(self._stop.wait()), keeping_house, *tasks]
        try:
            pending: set[asyncio.Task[object]] = set(watched)
            while not self._stop.is_set() and pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()  # raises: a bug in a task must not go unseen
        finally:
            for task in watched:
                task.cancel()
            await asyncio.gather(*watched, return_exceptions=True)
            await self._stop_all()
        return 1 if self._record.failure else 0

    def stop(self) -> None:
        """Make `run` stop all services and return; must be called in its event loop."""
        self._stop.set()

    def give_up(self, failure: str) -> None:
        """Record why the stack cannot start, and stop all services."""
        if not self._record.failure:
            self._record.failure = failure
        self._stop.set()

    def elapsed_s(self) -> float:
        """Return the seconds since the supervisor started."""
        return time.monotonic() - self._began

    def publish(self) -> None:
        """Write the stack's state to the file that the other commands read.

        A starting stack becomes a running one here, once every service is ready or done. On a full
        disk the file stays as it is and is written later: services must not end for that.
        """
        states = [service.state for service in self._record.services.values()]
        if self._record.phase is Phase.STARTING and all(
            service_state in OK_STATES for service_state in states
        ):
            self._record.phase = Phase.RUNNING
        try:
            state.write(self._folder, self._record)
            self._is_published = True
        except OSError:
            self._is_published = False

    async def _stop_all(self) -> None:
        self._record.phase = Phase.STOPPING
        self.publish()
        stages = sorted({runner.service.stage for runner in self._runners.values()}, reverse=True)
        for stage in stages:
            await asyncio.gather(
                *(
                    runner.stop()
                    for runner in self._runners.values()
                    if runner.service.stage == stage
                )
            )
        self._record.phase = Phase.STOPPED
        self.publish()

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(_HOUSEKEEPING_S)
            if not self._is_published:
                self.publish()
            for log in self.logs.glob("*.log"):
                with suppress(OSError):
                    if log.stat().st_size > self._log_file_bytes:
                        await asyncio.to_thread(set_aside, log)


def set_aside(log: Path) -> None:
    """Rotate a log by copying and truncating it, because its writer keeps the file open.

    Lines written between the two steps are lost; the alternative would be to pipe all logs through
    the supervisor.
    """
    shutil.copyfile(log, log.with_name(log.name + ".1"))
    with log.open("r+b") as file:
        file.truncate(0)


def _last_line(log: Path) -> str:
    """Return the last line of a log; if it is one of our JSON logs, only its event."""
    line = tail(log, 1).strip()
    with suppress(ValueError, KeyError, TypeError):
        line = str(json.loads(line)["event"])
    return line[-_DETAIL_LENGTH:]


def _how_it_ended(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
