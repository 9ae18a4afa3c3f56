"""The audit log: who changed what, when, from what to what. One file of JSON lines, only ever appended to.

It holds no personal data in clear: whoever records a change of some pseudonymises it first.
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
    """What became of a change."""

    RECORDED = "recorded"
    """It was about to be made; without a later record of its id that says otherwise, it was."""
    DONE = "done"
    """It was made, and `after` says more of what is now so. Not every change has such a record."""
    FAILED = "failed"
    """It was refused, or not acknowledged: what Kafka did not acknowledge may be in force all the same."""


class Actor(BaseModel):
    """Who changed something."""

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
    """Who changes something.

    Attributes:
        actor: As the audit log names them.
        request_id: Of their request, None at the command line.
    """

    actor: Actor
    request_id: str | None = None

    @property
    def name(self) -> str:
        """As documents name them."""
        return self.actor.name


class RecordedChange:
    """A change on record that is being made; `AuditLog.change` yields it.

    Attributes:
        after: What is now so, None as long as nobody said more than before the change.
    """

    def __init__(self) -> None:
        self.after: dict[str, Any] | None = None

    def done(self, after: dict[str, Any]) -> None:
        """Describe what is now so, where that is known only once the change is made."""
        self.after = after

    @contextmanager
    def change(self, *_: Any, **__: Any) -> Iterator[RecordedChange]:
        """Make a part of it, which is on record with the whole."""
        yield RecordedChange()


def at_the_command_line() -> Actor:
    """Give who runs this program, as the system knows them."""
    return Actor(name=user_name(), via="cli")


class AuditLog:
    """The audit log of a state folder; several threads and processes may write to it.

    Args:
        folder: The state folder; made when needed.
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
        """Return records, the newest first.

        Args:
            limit: Most records.
            before: Place to go on from, as a page before gave it; None starts with the newest.

        Returns:
            The records and where to go on from, None when there are no more. A damaged line is
            passed over.
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
                # What a crash left half written must not swallow this line.
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
        """Yield lines and where they start, from `end` (a line's start, or the file's end) backwards."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return
        with file:
            size = file.seek(0, os.SEEK_END)
            at = size if end is None else min(end, size)
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
