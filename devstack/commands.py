"""Implements the commands up, down, status, logs, clean, run and supervise."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from devstack import preflight, stack, state
from devstack.arrival import arrived_since
from devstack.errors import DevstackError
from devstack.process import Identity, find_marked, stop_strangers, tail
from devstack.servers.flink import discard_leftovers
from devstack.service import Service
from devstack.settings import PYTHON, DevstackSettings
from devstack.state import LockedError, Phase, StackRecord
from devstack.supervisor import StackSupervisor
from devstack.tables import address_table, progress_line, progress_table, status_table
from fraud.security.api_keys import FIRST_KEY, first_key
from fraud.security.aws_credentials import FILE_NAME as AWS_CREDENTIALS

_LOOK_S: Final = 0.2
_ARRIVAL_LOOK_S: Final = 1.0
_STOP_TIMEOUT_S: Final = 120.0
_STRANGER_STOP_S: Final = 20.0
_LAST_LINES: Final = 20

UP_LOCK: Final = "up.lock"
SUPERVISOR_LOCK: Final = "supervisor.lock"


class _InterruptedError(BaseException):
    """Raised on Ctrl-C, SIGTERM or a closed terminal."""


def up(settings: DevstackSettings, only: Sequence[str], console: Console) -> int:
    """Start the stack in the background and wait until it works.

    Args:
        settings: Settings of devstack.
        only: Names of services or groups; empty means all.
        console: Shows progress and the table of addresses.

    Returns:
        Exit code: 0 when the stack works, or already did; 130 after Ctrl-C.

    Raises:
        DevstackError: The stack cannot start, in which case nothing is left running, or another
            stack runs that lacks a service or does not work.
    """
    began = time.monotonic()
    chosen = stack.expand(only or stack.NAMES)
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        lock = state.exclusive(settings.state_dir / UP_LOCK)
        with _interruptible(), lock:
            already = _already_running(settings, chosen, console)
            if already is not None:
                return already
            _sweep(settings, console)
            services = stack.build(settings, chosen)
            _check(settings, services)
            console.print(
                f"checked this machine in {time.monotonic() - began:.1f} s", highlight=False
            )
            stack.fetch(settings, chosen, console)
            return _start(settings, services, console, began)
    except LockedError as locked:
        pid = f" (pid {locked})" if str(locked) else ""
        raise DevstackError(
            f"another `up` is starting the stack{pid}; wait until it has, or stop it with `make down`"
        ) from None
    except _InterruptedError:
        console.print("interrupted; nothing is left running", highlight=False)
        return 130
    except PermissionError as error:
        raise DevstackError(
            f"cannot write to {error.filename} ({error.strerror}); make it writable for you, or "
            "set STATE_DIR in .env to another folder"
        ) from error


def _already_running(
    settings: DevstackSettings, chosen: Sequence[str], console: Console
) -> int | None:
    record = state.read(settings.state_dir)
    if record is None or not record.is_supervised():
        return None
    lacking = set(chosen) - set(record.services) - settings.devstack_without
    if lacking:
        raise DevstackError(
            f"a stack without {', '.join(sorted(lacking))} is running; stop it with `make down` first"
        )
    if record.is_healthy():
        console.print("already running; nothing to do (`make down` stops it)", highlight=False)
        console.print(status_table(record))
        _print_key(settings, list(record.services), console)
        return 0
    console.print(status_table(record))
    raise DevstackError(
        f"already up, but {_what_is_wrong(record)}; it goes on trying by itself: see `make logs`, "
        "or stop it with `make down` and run this again"
    )


def _what_is_wrong(record: StackRecord) -> str:
    if record.phase is not Phase.RUNNING:
        return f"{record.phase.value} still"
    behind = [
        name for name, service in record.services.items() if service.state not in state.OK_STATES
    ]
    return f"not ready: {', '.join(behind)}"


def _check(settings: DevstackSettings, services: Sequence[Service]) -> None:
    ports = {name: port for service in services for name, port in service.ports.items()}
    needs_flink = any(service.name == "taskmanager" for service in services)
    if found := preflight.problems(settings, ports, needs_flink):
        raise DevstackError(preflight.in_one_line(found))


def _start(
    settings: DevstackSettings, services: Sequence[Service], console: Console, began: float
) -> int:
    names = [service.name for service in services]
    logs = stack.log_folder(settings)
    logs.mkdir(parents=True, exist_ok=True)
    with (logs / "supervisor.log").open("ab") as log:
        supervisor = subprocess.Popen(
            [PYTHON, "-m", "devstack", "supervise", *names],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        record = _watch(settings, supervisor, names, console)
    except BaseException:
        _end_supervisor(settings, supervisor, console)
        raise
    console.print(f"everything works after {time.monotonic() - began:.0f} s", highlight=False)
    host = settings.reach_host
    extra = {}
    if "scoring_api" in names:
        extra["API docs"] = f"http://{host}:{settings.api_port}/docs"
    if "mail" in names:
        extra["SMTP"] = f"{host}:{settings.smtp_port}"
    console.print(address_table(record, extra))
    _print_key(settings, names, console)
    console.print(f"logs are in {logs}; `make status`, `make logs`, `make down`", highlight=False)
    return 0


def _print_key(settings: DevstackSettings, names: Sequence[str], console: Console) -> None:
    """Show the API's first key until it is revoked: it is generated, so users cannot know it."""
    if "scoring_api" in names and (key := first_key(settings.state_dir)):
        console.print(
            f"API key of role admin, kept in {settings.state_dir / FIRST_KEY}:", highlight=False
        )
        console.print(key, highlight=False, markup=False)
    access_keys = settings.state_dir / AWS_CREDENTIALS
    if "scoring_api" in names and access_keys.exists():
        console.print(
            f"access key for clients of Amazon Fraud Detector: {access_keys}", highlight=False
        )


def _watch(
    settings: DevstackSettings,
    supervisor: subprocess.Popen[bytes],
    names: Sequence[str],
    console: Console,
) -> StackRecord:
    """Show progress until all services are ready and the producer's first result is indexed."""
    env = stack.base_environment(settings)
    waits_for_arrival = "producer" in names and "indexer" in names
    deadline = time.monotonic() + settings.start_timeout_s
    shown: dict[str, str] = {}
    next_arrival_look = 0.0
    with _live(console) as live:
        while True:
            record = state.read(settings.state_dir)
            ended = supervisor.poll() is not None
            # The record may still be that of an earlier supervisor.
            if (
                record is None
                or record.supervisor is None
                or record.supervisor.pid != supervisor.pid
            ):
                if ended:
                    raise DevstackError(
                        "the supervisor ended at once; its log ends:\n"
                        + tail(stack.log_folder(settings) / "supervisor.log")
                    )
                time.sleep(_LOOK_S)
                continue
            if ended:
                raise DevstackError(
                    record.failure
                    or "the supervisor ended; see "
                    + str(stack.log_folder(settings) / "supervisor.log")
                )
            waiting = "" if record.is_healthy() else "starting"
            if record.is_healthy() and waits_for_arrival:
                waiting = "waiting for the first transaction to be scored and searchable"
                if time.monotonic() >= next_arrival_look:
                    if arrived_since(record.started_ms, env):
                        waiting = ""
                    next_arrival_look = time.monotonic() + _ARRIVAL_LOOK_S
            if live:
                live.update(Group(progress_table(record), Text(waiting)))
            else:
                _print_changes(record, waiting, shown, console)
            if not waiting:
                return record
            if time.monotonic() > deadline:
                raise DevstackError(_not_in_time(settings, record, waiting))
            time.sleep(_LOOK_S)


def _not_in_time(settings: DevstackSettings, record: StackRecord, waiting: str) -> str:
    behind = [
        progress_line(name, service)
        for name, service in record.services.items()
        if service.state not in state.OK_STATES
    ]
    return (
        f"not working after {settings.start_timeout_s} s: {'; '.join(behind) or waiting}. Stopped; look "
        f"into {stack.log_folder(settings)}, or raise START_TIMEOUT_S in .env on a slow machine"
    )


def _print_changes(
    record: StackRecord, waiting: str, shown: dict[str, str], console: Console
) -> None:
    for name, service in record.services.items():
        if service.state is not shown.get(name):
            shown[name] = service.state
            console.print(progress_line(name, service), highlight=False, markup=False)
    if waiting and waiting != "starting" and shown.get("") != waiting:
        shown[""] = waiting
        console.print(waiting, highlight=False)


@contextmanager
def _live(console: Console) -> Iterator[Live | None]:
    if not console.is_terminal:
        yield None
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield live


def _end_supervisor(
    settings: DevstackSettings, supervisor: subprocess.Popen[bytes], console: Console
) -> None:
    """Stop everything after a failed or interrupted start; Ctrl-C is ignored meanwhile."""
    with _deaf():
        console.print("stopping what was started", highlight=False)
        if supervisor.poll() is None:
            supervisor.send_signal(signal.SIGTERM)
            try:
                supervisor.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                supervisor.kill()
                supervisor.wait()
        _sweep(settings, console)


def supervise(settings: DevstackSettings, names: Sequence[str]) -> int:
    """Run the supervisor in this process and return the exit code."""
    services = stack.build(settings, stack.expand(names))
    try:
        with state.exclusive(settings.state_dir / SUPERVISOR_LOCK):
            discard_leftovers(settings.state_dir / "flink")
            logs = stack.log_folder(settings)
            supervisor = StackSupervisor(services, settings.state_dir, logs, settings.log_file_mb)
            return asyncio.run(supervisor.run())
    except LockedError as locked:
        raise DevstackError(f"another supervisor runs already (pid {locked})") from None


def run(settings: DevstackSettings, name: str) -> NoReturn:
    """Replace this process by one of Flink's.

    Raises:
        DevstackError: The name is not one of Flink's processes.
    """
    service = stack.in_foreground(settings, name)
    if service.prepare:
        service.prepare()
    os.execvpe(service.command[0], service.command, dict(service.env))  # noqa: S606 - our own list


def down(settings: DevstackSettings, console: Console) -> int:
    """Stop the stack, or processes that a dead supervisor left; the state folder stays."""
    record = state.read(settings.state_dir)
    stopped = False
    if record is not None and record.supervisor is not None and record.is_supervised():
        console.print("stopping", highlight=False)
        _wait_for_end(record.supervisor, settings, console)
        stopped = True
    stopped = _sweep(settings, console) or stopped
    console.print(
        "stopped; its state stays in " + str(settings.state_dir)
        if stopped
        else "nothing was running",
        highlight=False,
    )
    return 0


def _wait_for_end(supervisor: Identity, settings: DevstackSettings, console: Console) -> None:
    with suppress(ProcessLookupError):
        os.kill(supervisor.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    shown: set[str] = set()
    while True:
        is_alive = supervisor.is_alive()
        record = state.read(settings.state_dir)
        for name, service in record.services.items() if record else ():
            if service.state is state.ServiceState.STOPPED and name not in shown:
                shown.add(name)
                console.print(f"{name}: stopped", highlight=False)
        if not is_alive:
            return
        if time.monotonic() > deadline:
            console.print("the supervisor does not end; killing it", highlight=False)
            stop_strangers([supervisor], 0)
        time.sleep(_LOOK_S)


def _sweep(settings: DevstackSettings, console: Console) -> bool:
    """Stop processes that a dead supervisor left; return whether there were any.

    They are found by the recorded pids, and by the environment variable that marks all of them.
    """
    record = state.read(settings.state_dir)
    if record is not None and record.is_supervised():
        return False
    recorded = [one for one in record.processes() if one.is_alive()] if record else []
    mark = str(settings.state_dir)
    if not recorded and not find_marked(mark):
        return False
    console.print("stopping what an earlier stack left running", highlight=False)
    stop_strangers(recorded, _STRANGER_STOP_S)
    stop_strangers(find_marked(mark), _STRANGER_STOP_S)
    return True


def status(settings: DevstackSettings, console: Console) -> int:
    """Show the state of all services; return exit code 0 if the stack is healthy, else 1."""
    record = state.read(settings.state_dir)
    if record is None:
        console.print("nothing runs; start it with `make up`", highlight=False)
        return 1
    if record.is_supervised():
        console.print(status_table(record))
        if not record.is_healthy():
            console.print(f"the stack is {_what_is_wrong(record)}", highlight=False)
        return 0 if record.is_healthy() else 1
    left = [one for one in record.processes() if one.is_alive()]
    if left:
        console.print(status_table(record))
        console.print(
            "the supervisor is gone and nobody restarts these: `make up` starts anew, `make down` stops them",
            highlight=False,
        )
        return 1
    console.print(
        "stopped; start it with `make up`"
        + (f"\nthe last start failed: {record.failure}" if record.failure else ""),
        highlight=False,
        markup=False,
    )
    return 1


def logs(settings: DevstackSettings, names: Sequence[str], *, follow: bool) -> int:
    """Show the end of the logs and, with `follow`, new lines until Ctrl-C.

    Args:
        settings: Settings of devstack.
        names: Services or groups; empty means all.
        follow: Keep showing new lines until interrupted.
    """
    folder = stack.log_folder(settings)
    chosen = stack.expand(names) if names else ["supervisor", *stack.NAMES]
    files = {name: folder / f"{name}.log" for name in chosen}
    if not any(path.exists() for path in files.values()):
        raise DevstackError(f"there are no logs in {folder} yet; start the stack with `make up`")
    width = max(len(name) for name in chosen)
    prefixes = {name: f"{name:<{width}} | " if len(chosen) > 1 else "" for name in chosen}
    positions: dict[str, int] = {}
    for name, path in files.items():
        positions[name] = path.stat().st_size if path.exists() else 0
        for line in tail(path, _LAST_LINES).splitlines():
            sys.stdout.write(f"{prefixes[name]}{line}\n")
    sys.stdout.flush()
    with suppress(_InterruptedError, BrokenPipeError), _interruptible():
        while follow:
            for name, path in files.items():
                positions[name] = _copy_new(path, positions[name], prefixes[name])
            sys.stdout.flush()
            time.sleep(_LOOK_S)
    return 0


def _copy_new(path: Path, position: int, prefix: str) -> int:
    """Print the complete lines after a position of a log; return the position after them."""
    try:
        size = path.stat().st_size
        if size < position:  # the log was rotated
            position = 0
        with path.open("rb") as file:
            file.seek(position)
            added = file.read()
    except FileNotFoundError:
        return 0
    whole = added.rpartition(b"\n")[0]
    if not whole:
        return position
    for line in whole.decode("utf-8", "replace").splitlines():
        sys.stdout.write(f"{prefix}{line}\n")
    return position + len(whole) + 1


def clean(settings: DevstackSettings, console: Console) -> int:
    """Stop the stack and remove its state."""
    folder = settings.state_dir
    if not folder.exists():
        console.print("nothing to remove", highlight=False)
        return 0
    if not (folder / UP_LOCK).exists():
        raise DevstackError(
            f"{folder} does not look like a state folder of devstack; remove it yourself if it is"
        )
    down(settings, console)
    for link in folder.iterdir():
        if link.is_symlink() and link.resolve().is_dir():
            shutil.rmtree(link.resolve())
    shutil.rmtree(folder)
    console.print(f"removed {folder}", highlight=False)
    return 0


@contextmanager
def _interruptible() -> Iterator[None]:
    """Raise `_InterruptedError` on Ctrl-C, SIGTERM and a closed terminal."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise _InterruptedError

    with _handling(interrupt):
        yield


@contextmanager
def _deaf() -> Iterator[None]:
    """Ignore Ctrl-C, SIGTERM and a closed terminal."""
    with _handling(signal.SIG_IGN):
        yield


@contextmanager
def _handling(handler: object) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in numbers}  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)
