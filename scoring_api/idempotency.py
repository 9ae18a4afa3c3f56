"""`Idempotency-Key`: a request that is repeated with its key is done once and answered the same.

As in the IETF's draft of that header, the same key with another request is 422, and a repeat of a
request that is not answered yet 409. Answers of the newest `MAX_KEPT` requests are kept for a day,
in a SQLite file of the state folder that several processes may share. They are encrypted, as they
may hold personal data.

A failed request frees its key. A change that Kafka did not acknowledge (503) may be in force all
the same. Repeating it changes nothing more, but making a list again is a conflict (409).
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
"""Milliseconds after which an unrenewed request is given up: its process may have died."""
_RENEWALS: Final = 3
"""Number of renewals in a lease."""
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
    """The first request with the key is not answered yet."""


class ShownOnce(Exception):
    """The first request with the key was done, but its answer cannot be repeated."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The answer to a request.

    Attributes:
        status: HTTP status.
        body: Body; None if it must not or cannot be repeated.
        media_type: Media type of the body.
    """

    status: int
    body: bytes | None
    media_type: str | None


class Answers:
    """Keeps answers by key; may be used by several threads and processes.

    Args:
        path: The SQLite file; its folder is made when needed.
        seal: Encrypts the bodies of answers.
        clock: Returns the current time, UTC epoch milliseconds.
        lease_ms: Lease of a key, see `LEASE_MS`.
    """

    def __init__(
        self, path: Path, seal: Seal, clock: Clock = system_clock, *, lease_ms: int = LEASE_MS
    ) -> None:
        self._path = path
        self._seal = seal
        self._clock = clock
        self._lease_ms = lease_ms
        self.renew_s = lease_ms / _RENEWALS / 1000
        """Seconds between calls of `renew`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o600)
        with closing(self._open()) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.executescript(_SCHEMA)

    def begin(self, caller: str, key: str, fingerprint: bytes) -> Kept | None:
        """Reserve a key for a request, or return the answer to the first request with it.

        Raises:
            KeyReused: The key was used for another request.
            StillWorking: The first request is not answered yet.
        """
        now_ms = self._clock()
        with closing(self._open()) as database, database:
            # Locks the file, so that only one of several requests reserves the key.
            database.execute("BEGIN IMMEDIATE")
            database.execute("DELETE FROM sealed_answers WHERE at_ms < ?", (now_ms - _KEPT_MS,))
            # Leases that were not renewed: their processes died.
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
        """Extend the lease of a key whose request is not answered yet."""
        with closing(self._open()) as database, database:
            database.execute(
                "UPDATE sealed_answers SET at_ms = ? WHERE caller = ? AND key = ? AND status IS NULL",
                (self._clock(), caller, key),
            )

    def keep(self, caller: str, key: str, answer: Kept) -> None:
        """Keep the answer to the request that reserved a key."""
        purpose = _purpose(caller, key)
        body = None if answer.body is None else self._seal.close(answer.body, purpose)
        with closing(self._open()) as database, database:
            database.execute(
                "UPDATE sealed_answers SET status = ?, body = ?, media_type = ? WHERE caller = ? AND key = ?",
                (answer.status, body, answer.media_type, caller, key),
            )

    def forget(self, caller: str, key: str) -> None:
        """Free a key whose request failed."""
        with closing(self._open()) as database, database:
            database.execute(
                "DELETE FROM sealed_answers WHERE caller = ? AND key = ?", (caller, key)
            )

    def _opened(self, caller: str, key: str, body: bytes | None) -> bytes | None:
        try:
            return None if body is None else self._seal.open(body, _purpose(caller, key))
        except Unreadable:
            # Encrypted by another key: the request was done, but its answer cannot be read.
            return None

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)
        database.execute("PRAGMA synchronous = NORMAL")
        # Deleted answers must not remain in the file.
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
    """Mark the answer to a request as secret, so that its body is not kept."""
    request.state.shown_once = True


class OnceRoute(APIRoute):
    """A route whose POST is done once per `Idempotency-Key`; needs `app.state.answers`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, wrapped to keep and repeat answers."""
        handle = super().get_route_handler()

        async def once(request: Request) -> Response:
            key = request.headers.get(HEADER)
            # Other methods may be repeated anyway.
            if request.method != "POST" or not key:
                return await handle(request)
            answers: Answers = request.app.state.answers
            caller = admitted(request).key_id or ""
            fingerprint = _fingerprint(request, await request.body())
            kept = await run_in_threadpool(answers.begin, caller, key, fingerprint)
            if kept is not None:
                return _again(kept)
            # Renews the lease for as long as the handler runs.
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
