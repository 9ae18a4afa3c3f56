"""The audit log: who changed what, when and how, as an append-only file of JSON lines.

It holds no personal data in clear: callers pseudonymise personal values before recording them.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from fraud.runtime.clock import Clock, system_clock, to_datetime
from fraud.runtime.files import locked
from fraud.runtime.lifecycle import user_name

_FILE: Final = "audit.jsonl"
_LOCK: Final = "audit.lock"
_CHUNK: Final = 65_536

_log = structlog.get_logger("fraud.security.audit")


class Result(StrEnum):
    """Result of a recorded change."""

    RECORDED = "recorded"
    """The change was about to be made; it was, unless a later record of its id says otherwise."""
    DONE = "done"
    """The change was made, and `after` is the resulting state. Not all changes have this record."""
    FAILED = "failed"
    """The change was refused or not acknowledged; in the latter case it may still be in force."""


class Actor(BaseModel):
    """The person or key that made a change."""

    model_config = ConfigDict(frozen=True)

    name: Annotated[
        str, Field(description="Name of the key, or of the person at the command line.")
    ]
    key_id: Annotated[
        str | None, Field(description="Null at the command line, or with keys switched off.")
    ] = None
    role: Annotated[str | None, Field(description="Role of the key.")] = None
    via: Annotated[Literal["rest", "afd", "cli"], Field(description="By which door.")]


class AuditRecord(BaseModel):
    """One line of the log."""

    model_config = ConfigDict(frozen=True)

    id: Annotated[str, Field(description="Of the change; what became of it has the same.")]
    time: AwareDatetime
    who: Actor
    action: Annotated[
        str, Field(description="What was done, such as key.created.", examples=["key.created"])
    ]
    target: Annotated[str, Field(description="To what.", examples=["key/checkout"])]
    before: Annotated[
        dict[str, Any] | None,
        Field(description="As it was; null if it was not there, or nothing of it changed."),
    ]
    after: Annotated[dict[str, Any] | None, Field(description="As it is now; null if it is gone.")]
    request_id: Annotated[str | None, Field(description="As in the header X-Request-ID.")]
    result: Result


@dataclass(frozen=True, slots=True)
class Author:
    """The author of a change.

    Attributes:
        actor: The author as the audit log names them.
        request_id: Id of the author's request, None at the command line.
    """

    actor: Actor
    request_id: str | None = None

    @property
    def name(self) -> str:
        """The author's name in control documents."""
        return self.actor.name


class RecordedChange:
    """A recorded change that is being made; `AuditLog.change` yields it.

    Attributes:
        after: The resulting state, None until `done` is called.
    """

    def __init__(self) -> None:
        self.after: dict[str, Any] | None = None

    def done(self, after: dict[str, Any]) -> None:
        """Set the resulting state, if it is known only once the change is made."""
        self.after = after

    @contextmanager
    def change(self, *_: Any, **__: Any) -> Iterator[RecordedChange]:
        """Run a `with` block that makes a part of this change, without a record of its own."""
        yield RecordedChange()


def at_the_command_line() -> Actor:
    """Return the user who runs this process, as an actor."""
    return Actor(name=user_name(), via="cli")


class AuditLog:
    """Audit log of a state folder, for use by several threads and processes.

    Args:
        folder: The state folder; created if missing.
        clock: Time now, UTC epoch milliseconds.
    """

    def __init__(self, folder: Path, clock: Clock = system_clock) -> None:
        self._path = folder / _FILE
        self._lock = folder / _LOCK
        self._clock = clock

    @contextmanager
    def change(
        self,
        who: Actor,
        action: str,
        target: str,
        *,
        before: dict[str, Any] | None = None,
        after: dict[str, Any] | None = None,
        request_id: str | None = None,
    ) -> Iterator[RecordedChange]:
        """Write an audit record, then run the `with` block that makes the change.

        No change is made without a record. If the block raises, a second record with the same id
        marks the change as failed; if it calls `done`, a second record holds the resulting state.

        Raises:
            OSError: A record cannot be written. If it is the first, the block does not run.
        """
        record = AuditRecord(
            id=secrets.token_hex(8),
            time=to_datetime(self._clock()),
            who=who,
            action=action,
            target=target,
            before=before,
            after=after,
            request_id=request_id,
            result=Result.RECORDED,
        )
        self._append(record)
        change = RecordedChange()
        try:
            yield change
        except BaseException:
            self._append_again(record, Result.FAILED, after)
            raise
        if change.after is not None:
            self._append_again(record, Result.DONE, change.after)

    def page(self, limit: int, before: int | None = None) -> tuple[list[AuditRecord], int | None]:
        """Return a page of records, newest first; damaged lines are skipped.

        Args:
            limit: Maximum number of records.
            before: Position to continue from, as returned with the page before; None starts with
                the newest record.

        Returns:
            The records, and the position to continue from, None if there are no more.
        """
        records: list[AuditRecord] = []
        end = before
        for start, line in self._lines_before(before):
            if len(records) == limit:
                return records, end
            end = start
            try:
                records.append(AuditRecord.model_validate_json(line))
            except ValidationError:
                _log.error("audit.damaged_line", offset=start)
        return records, None

    def _append_again(
        self, record: AuditRecord, result: Result, after: dict[str, Any] | None
    ) -> None:
        now = to_datetime(self._clock())
        self._append(record.model_copy(update={"time": now, "result": result, "after": after}))

    def _append(self, record: AuditRecord) -> None:
        line = record.model_dump_json().encode() + b"\n"
        with locked(self._lock):
            handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                size = os.fstat(handle).st_size
                # A line that a crash left incomplete must not run into this one.
                if size and os.pread(handle, 1, size - 1) != b"\n":
                    line = b"\n" + line
                with os.fdopen(os.dup(handle), "ab") as file:
                    file.write(line)
                os.fsync(handle)
            finally:
                os.close(handle)
        _log.info(
            "audit.change_recorded",
            id=record.id,
            who=record.who.name,
            key_id=record.who.key_id,
            via=record.who.via,
            action=record.action,
            target=record.target,
            result=record.result.value,
        )

    def _lines_before(self, end: int | None) -> Iterator[tuple[int, bytes]]:
        """Yield lines with their start offsets, backwards from `end` or the end of the file."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return
        with file:
            size = file.seek(0, os.SEEK_END)
            at = size if end is None else min(end, size)
            # Text from offset `at` on that is not yielded yet; extended backwards chunk by chunk.
            tail = b""
            while at > 0 or tail:
                cut = tail.rfind(b"\n", 0, max(0, len(tail) - 1))
                if cut < 0 and at > 0:
                    step = min(_CHUNK, at)
                    at -= step
                    file.seek(at)
                    tail = file.read(step) + tail
                    continue
                line = tail[cut + 1 :]
                tail = tail[: cut + 1]
                if line.endswith(b"\n") and line.strip():
                    yield at + cut + 1, line
