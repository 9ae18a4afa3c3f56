"""Dry runs over REST, each in a process of its own so that it does not slow down scoring."""

from __future__ import annotations

import secrets
import subprocess
import sys
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

import orjson
import structlog

from fraud.contracts.rules import RuleSet
from fraud.decision.rule_files import write_rule_file

_KEPT: Final = 20
"""Number of newest runs that are kept."""
MOST_S: Final = 1_800.0
"""Time limit of a run, seconds; a million transactions take one minute."""
_NICE: Final = 10
_LAST_LINE: Final = 500

_log = structlog.get_logger("scoring_api")


class RunState(StrEnum):
    """State of a dry run."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class NoSuchRun(LookupError):
    """The dry run is unknown, or its report is no longer kept."""


class RunBusy(Exception):
    """Another dry run is still running."""


@dataclass(frozen=True, slots=True)
class Run:
    """The current state of a dry run.

    Attributes:
        state: Whether it runs, is done or failed.
        report: The report as JSON values; None until it is done.
        detail: Why it failed, empty if it did not.
    """

    state: RunState
    report: dict[str, Any] | None = None
    detail: str = ""


def command(file: Path, days: float, limit: int | None) -> list[str]:
    """Return the command for a dry run of a rule file."""
    asked = [sys.executable, "-m", "fraud.backtest", str(file), "--days", f"{days:g}"]
    return asked if limit is None else [*asked, "--limit", str(limit)]


class DryRuns:
    """Starts dry runs, one at a time, and keeps the reports of the last ones; a context manager.

    Args:
        command: Returns the command for a file, days and limit.
        most_s: Time limit of a run, seconds; a run that exceeds it is killed and has failed.
    """

    def __init__(
        self,
        command: Callable[[Path, float, int | None], Sequence[str]] = command,
        *,
        most_s: float = MOST_S,
    ) -> None:
        self._command = command
        self._most_s = most_s
        self._lock = threading.Lock()
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            process, thread = self._process, self._thread
        if process is not None:
            process.terminate()
        if thread is not None:
            thread.join()

    def start(self, rules: RuleSet, *, days: float, limit: int | None) -> str:
        """Start a dry run, and return its id.

        Raises:
            RunBusy: Another one is running.
        """
        with self._lock:
            if self._process is not None:
                raise RunBusy
            folder = tempfile.TemporaryDirectory(prefix="fraudstream-dry-run-")
            file = Path(folder.name) / "rules.toml"
            file.write_text(write_rule_file(rules), "utf-8")
            # Nice, so that scoring goes first.
            self._process = subprocess.Popen(
                ["nice", "-n", str(_NICE), *self._command(file, days, limit)],  # noqa: S607 - of every system
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=folder.name,
            )
            run_id = secrets.token_hex(8)
            self._keep(run_id, Run(RunState.RUNNING))
            self._thread = threading.Thread(
                target=self._wait, args=(run_id, self._process, folder), name="dry run"
            )
            self._thread.start()
        return run_id

    def get(self, run_id: str) -> Run:
        """Return the current state of a dry run.

        Raises:
            NoSuchRun: The dry run is unknown, or no longer kept.
        """
        with self._lock:
            if run_id not in self._runs:
                raise NoSuchRun
            return self._runs[run_id]

    def _wait(
        self,
        run_id: str,
        process: subprocess.Popen[bytes],
        folder: tempfile.TemporaryDirectory[str],
    ) -> None:
        try:
            output, errors = process.communicate(timeout=self._most_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
            output, errors = b"", f"it took longer than {self._most_s:g} s".encode()
        folder.cleanup()
        try:
            run = Run(RunState.DONE, orjson.loads(output))
        except orjson.JSONDecodeError:
            # No report: the last line of the error output says why.
            lines = errors.decode("utf-8", "replace").strip().splitlines() or ["it gave no report"]
            run = Run(RunState.FAILED, detail=lines[-1][:_LAST_LINE])
            _log.warning("scoring_api.dry_run_failed", code=process.returncode)
        with self._lock:
            self._keep(run_id, run)
            self._process = None

    def _keep(self, run_id: str, run: Run) -> None:
        self._runs[run_id] = run
        while len(self._runs) > _KEPT:
            self._runs.popitem(last=False)
