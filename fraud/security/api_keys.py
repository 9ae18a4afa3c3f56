"""API keys for the REST API, and their roles.

The API and the command line change the same file in the state folder. Every process reads it again
after a change, so that a revoked key is refused at once.

The file holds the plain SHA-256 of each key. Salts and slow hashes protect passwords that can be
guessed, which is not possible for keys of 256 random bits.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final

import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from fraud.runtime.clock import Clock, system_clock, to_datetime
from fraud.runtime.files import FileDamaged, SharedFile, locked, replace_private

FIRST_KEY: Final = "api-key"
"""File in the state folder that holds the first key, of role admin, in clear."""

MAX_KEYS: Final = 1000
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9 _.@-]{0,63}$"

_STORE: Final = "api-keys.json"
_LOCK: Final = "api-keys.lock"
_PREFIX: Final = "fs_"
_KEY_BYTES: Final = 32
_FIRST_NAME: Final = "first start"

_log = structlog.get_logger("fraud.security.api_keys")


class Role(StrEnum):
    """Role of a key; each role includes the permissions of those before it."""

    SCORE = "score"
    """Score transactions and send events and labels."""
    ANALYST = "analyst"
    """Look up decisions, and change rules and lists."""
    ADMIN = "admin"
    """Change keys and the model that decides, and read the audit log."""

    def covers(self, needed: Role) -> bool:
        """Return whether this role includes the permissions of `needed`.

        Example:
            >>> Role.ADMIN.covers(Role.SCORE), Role.SCORE.covers(Role.ANALYST)
            (True, False)
        """
        return _RANK[self] >= _RANK[needed]


_RANK: Final = {role: rank for rank, role in enumerate(Role)}

KeyName = Annotated[
    str,
    Field(pattern=NAME_PATTERN, description="Who uses it; unique among the keys there are.", examples=["checkout"]),
]  # fmt: skip


class ApiKey(BaseModel):
    """A key, without its secret."""

    model_config = ConfigDict(frozen=True)

    id: Annotated[
        str,
        Field(
            description="Names the key in logs and in the audit log.", examples=["key_4f1c2a9be07d"]
        ),
    ]
    name: KeyName
    role: Role
    created_at: AwareDatetime
    created_by: Annotated[
        str,
        Field(description="Name of the key, or of the person at the command line, that made it."),
    ]


class _StoredKey(ApiKey):
    sha256: str


class _Stored(BaseModel):
    keys: list[_StoredKey]


class KeyNameTaken(Exception):
    """A key of this name exists already."""


class NoSuchKey(Exception):
    """No key has this id."""


class LastAdminKey(Exception):
    """The key is the last one of role admin, without which nobody could manage keys."""


class TooManyKeys(Exception):
    """The store holds `MAX_KEYS` keys already."""


class KeyStore:
    """API keys of a state folder, for use by several threads and processes.

    Args:
        folder: The state folder; created if missing.
        clock: Time now, UTC epoch milliseconds.

    Raises:
        FileDamaged: The file of keys is damaged.
    """

    def __init__(self, folder: Path, clock: Clock = system_clock) -> None:
        self._folder = folder
        self._path = folder / _STORE
        self._clock = clock
        self._file: SharedFile[Mapping[str, _StoredKey]] = SharedFile(
            self._path, self._parse, MappingProxyType({})
        )
        self._file.read()

    def find(self, token: str) -> ApiKey | None:
        """Return the key that a secret belongs to, None if it is unknown.

        Every request calls this, so it takes microseconds. The time of a lookup may reveal
        something about the hash of a guess, which does not help to find a key; the comparison
        itself takes constant time.
        """
        digest = _hash(token)
        key = self._file.last_good(_report_damage).get(digest)
        return key if key is not None and hmac.compare_digest(key.sha256, digest) else None

    def all_keys(self) -> list[ApiKey]:
        """Return all keys, oldest first."""
        return [_public(key) for key in self._file.last_good(_report_damage).values()]

    def get(self, key_id: str) -> ApiKey:
        """Return the key with an id.

        Raises:
            NoSuchKey: No key has this id.
        """
        for key in self._file.last_good(_report_damage).values():
            if key.id == key_id:
                return _public(key)
        raise NoSuchKey(key_id)

    def create(self, name: str, role: Role, by: str) -> tuple[ApiKey, str]:
        """Create a key, and return it with its secret, which is not stored.

        Raises:
            KeyNameTaken: A key of this name exists already.
            TooManyKeys: The store holds `MAX_KEYS` keys already.
        """
        token = _PREFIX + secrets.token_urlsafe(_KEY_BYTES)
        with locked(self._folder / _LOCK):
            key = self._add(name, role, by, token)
        return _public(key), token

    def revoke(self, key_id: str) -> ApiKey:
        """Delete a key, which is refused from now on.

        Raises:
            NoSuchKey: No key has this id.
            LastAdminKey: It is the last key of role admin.
        """
        with locked(self._folder / _LOCK):
            kept = dict(self._file.read())
            key = next((key for key in kept.values() if key.id == key_id), None)
            if key is None:
                raise NoSuchKey(key_id)
            del kept[key.sha256]
            if key.role is Role.ADMIN and Role.ADMIN not in {other.role for other in kept.values()}:
                raise LastAdminKey(key_id)
            self._write(kept)
            # A revoked first key must not be left for users of the file `api-key`.
            if _hash(first_key(self._folder) or "") == key.sha256:
                (self._folder / FIRST_KEY).unlink(missing_ok=True)
        return _public(key)

    def ensure_first(self) -> bool:
        """Create a first key of role admin if none was stored yet, and write it to `api-key`.

        If several processes start at the same time, one of them creates the key, and all have it on
        return. If the file `api-key` exists, its key is used.

        Returns:
            Whether this process created it.
        """
        with locked(self._folder / _LOCK):
            if self._path.exists():
                return False
            token = first_key(self._folder)
            if token is None:
                token = _PREFIX + secrets.token_urlsafe(_KEY_BYTES)
                replace_private(self._folder / FIRST_KEY, f"{token}\n".encode())
            self._add("admin", Role.ADMIN, _FIRST_NAME, token)
        return True

    def _add(self, name: str, role: Role, by: str, token: str) -> _StoredKey:
        known = dict(self._file.read())
        if name in {key.name for key in known.values()}:
            raise KeyNameTaken(name)
        if len(known) >= MAX_KEYS:
            raise TooManyKeys
        key = _StoredKey(
            id=f"key_{secrets.token_hex(6)}",
            name=name,
            role=role,
            created_at=to_datetime(self._clock()),
            created_by=by,
            sha256=_hash(token),
        )
        self._write(known | {key.sha256: key})
        return key

    def _write(self, by_hash: dict[str, _StoredKey]) -> None:
        stored = _Stored(keys=list(by_hash.values()))
        replace_private(self._path, stored.model_dump_json(indent=1).encode() + b"\n")
        self._file.read()

    def _parse(self, content: bytes) -> Mapping[str, _StoredKey]:
        """Return the keys by their SHA-256 in hexadecimal."""
        try:
            stored = _Stored.model_validate_json(content)
        except ValidationError:
            raise FileDamaged(
                f"{self._path} is damaged: restore it, or remove it and start anew"
            ) from None
        return MappingProxyType({key.sha256: key for key in stored.keys})


def _report_damage(detail: str) -> None:
    """Log a damaged file; its last valid keys stay in use, and our next change repairs it."""
    _log.error("api_keys.unreadable", detail=detail)


def first_key(folder: Path) -> str | None:
    """Return the first key of a state folder, None if it was never created or was revoked."""
    try:
        return (folder / FIRST_KEY).read_text("utf-8").strip() or None
    except FileNotFoundError:
        return None


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _public(key: _StoredKey) -> ApiKey:
    return ApiKey.model_validate(key.model_dump(exclude={"sha256"}))
