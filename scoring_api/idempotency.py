"""`Idempotency-Key`: a request sent again with the same key is answered again, and done once.

As the IETF's draft on that header says: the same key with another body is 422, one that is still
being worked on 409. Answers are kept in one SQLite file of the state folder, for a day, of the
newest `MAX_KEPT` requests, sealed: they may hold personal data. Those of processes that share the
folder are one.

What fails frees the key. A change that Kafka did not acknowledge (503) may be in force all the same;
sent again it is made again, which changes nothing but for a list that is made: that is 409 then.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import closing, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import Header, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from fraud.runtime.clock import Clock, system_clock
from fraud.security.sealing import Seal, Unreadable
from scoring_api.access import admitted

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
MAX_KEPT: Final = 100_000
_KEPT_MS: Final = 24 * 3600 * 1000
LEASE_MS: Final = 60_000
"""For how long a request counts as being worked on unless it says so again: its process may have died."""
_RENEWALS: Final = 3
"""In a lease."""
_BUSY_S: Final = 5.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS sealed_answers (
    caller TEXT NOT NULL,           -- id of the API key
    key TEXT NOT NULL,
    fingerprint BLOB NOT NULL,      -- of method, path and body
    at_ms INTEGER NOT NULL,
    status INTEGER,                 -- NULL while it is worked on
    body BLOB,                      -- sealed
    media_type TEXT,
    PRIMARY KEY (caller, key)
);
CREATE INDEX IF NOT EXISTS sealed_answers_at ON sealed_answers (at_ms);
"""


class KeyReused(Exception):
    """The key was used for another request."""


class StillWorking(Exception):
    """The first request of this key is not answered yet."""


class ShownOnce(Exception):
    """The first request of this key was done, and its answer cannot be given again."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer that was given.

    Attributes:
        status: Its HTTP status.
        body: None when it may not be shown again.
        media_type: Of the body.
    """

    status: int
    body: bytes | None
    media_type: str | None


class Answers:
    """The answers that are kept; may be used by several threads and processes.

    Args:
        path: The file; its folder is made when needed.
        seal: Seals the answers' bodies.
        clock: Time now, UTC epoch milliseconds.
        lease_ms: See `LEASE_MS`.
    """

    def __init__(
        self, path: Path, seal: Seal, clock: Clock = system_clock, *, lease_ms: int = LEASE_MS
    ) -> None:
        self._path = path
        self._seal = seal
        self._clock = clock
        self._lease_ms = lease_ms
        self.renew_s = lease_ms / _RENEWALS / 1000
        """How often `renew` is to be called, seconds."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o600)
        with closing(self._open()) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.executescript(_SCHEMA)

    def begin(self, caller: str, key: str, fingerprint: bytes) -> Kept | None:
        """Take a key for a request, or give the answer that it had.

        Raises:
            KeyReused: See there.
            StillWorking: See there.
        """
        now_ms = self._clock()
        with closing(self._open()) as database, database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("DELETE FROM sealed_answers WHERE at_ms < ?", (now_ms - _KEPT_MS,))
            database.execute(
                "DELETE FROM sealed_answers WHERE status IS NULL AND at_ms < ?",
                (now_ms - self._lease_ms,),
            )
            found = database.execute(
                "SELECT fingerprint, status, body, media_type FROM sealed_answers WHERE caller = ? AND key = ?",
                (caller, key),
            ).fetchone()
            if found is None:
                database.execute(
                    "INSERT INTO sealed_answers (caller, key, fingerprint, at_ms) VALUES (?, ?, ?, ?)",
                    (caller, key, fingerprint, now_ms),
                )
                database.execute(
                    "DELETE FROM sealed_answers WHERE rowid IN (SELECT rowid FROM sealed_answers ORDER BY at_ms DESC LIMIT -1 OFFSET ?)",
                    (MAX_KEPT,),
                )
                return None
        known, status, body, media_type = found
        if known != fingerprint:
            raise KeyReused
        if status is None:
            raise StillWorking
        return Kept(status, self._opened(caller, key, body), media_type)

    def renew(self, caller: str, key: str) -> None:
        """Say that the request that took the key is still being worked on."""
        with closing(self._open()) as database, database:
            database.execute(
                "UPDATE sealed_answers SET at_ms = ? WHERE caller = ? AND key = ? AND status IS NULL",
                (self._clock(), caller, key),
            )

    def keep(self, caller: str, key: str, answer: Kept) -> None:
        """Keep the answer to the request that took the key."""
        purpose = _purpose(caller, key)
        body = None if answer.body is None else self._seal.close(answer.body, purpose)
        with closing(self._open()) as database, database:
            database.execute(
                "UPDATE sealed_answers SET status = ?, body = ?, media_type = ? WHERE caller = ? AND key = ?",
                (answer.status, body, answer.media_type, caller, key),
            )

    def forget(self, caller: str, key: str) -> None:
        """Free a key: its request was not done."""
        with closing(self._open()) as database, database:
            database.execute(
                "DELETE FROM sealed_answers WHERE caller = ? AND key = ?", (caller, key)
            )

    def _opened(self, caller: str, key: str, body: bytes | None) -> bytes | None:
        try:
            return None if body is None else self._seal.open(body, _purpose(caller, key))
        except Unreadable:
            # The key is another one: that it was done is known, not what was answered.
            return None

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("PRAGMA secure_delete = ON")
        return database


def idempotent(
    key: Annotated[
        str | None,
        Header(
            alias=HEADER,
            min_length=1,
            max_length=200,
            pattern=r"^[\x21-\x7e]+$",
            description="Chosen by you, of this one change: sent again with it, it is answered again and done once.",
        ),
    ] = None,
) -> None:
    """Declare and check the header, as a dependency of routes of `OnceRoute`."""


def show_once(request: Request) -> None:
    """Say that the answer holds a secret and may not be kept."""
    request.state.shown_once = True


class OnceRoute(APIRoute):
    """A route whose changes are done once per `Idempotency-Key`; needs `app.state.answers`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, wrapped."""
        handle = super().get_route_handler()

        async def once(request: Request) -> Response:
            key = request.headers.get(HEADER)
            if request.method != "POST" or not key:
                return await handle(request)
            answers: Answers = request.app.state.answers
            caller = admitted(request).key_id or ""
            fingerprint = _fingerprint(request, await request.body())
            kept = await run_in_threadpool(answers.begin, caller, key, fingerprint)
            if kept is not None:
                return _again(kept)
            working = asyncio.create_task(_keep_working(answers, caller, key))
            try:
                answer = await handle(request)
            except Exception:
                with suppress(sqlite3.Error):
                    await run_in_threadpool(answers.forget, caller, key)
                raise
            finally:
                working.cancel()
            body = None if getattr(request.state, "shown_once", False) else bytes(answer.body)
            given = Kept(answer.status_code, body, answer.media_type)
            await run_in_threadpool(answers.keep, caller, key, given)
            return answer

        return once


async def _keep_working(answers: Answers, caller: str, key: str) -> None:
    while True:
        await asyncio.sleep(answers.renew_s)
        with suppress(sqlite3.Error):
            await run_in_threadpool(answers.renew, caller, key)


def _purpose(caller: str, key: str) -> bytes:
    return f"answer\0{caller}\0{key}".encode()


def _fingerprint(request: Request, body: bytes) -> bytes:
    text = f"{request.method}\0{request.url.path}\0{request.url.query}\0".encode()
    return hashlib.sha256(text + body).digest()


def _again(kept: Kept) -> Response:
    if kept.body is None:
        raise ShownOnce
    return Response(
        kept.body, HTTPStatus(kept.status), {REPLAYED: "true"}, media_type=kept.media_type
    )
