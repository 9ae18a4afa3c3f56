"""API keys: who may ask what of the REST API.

One file in the state folder, changed by the API and the command line alike and read again when it
changed, so that a revoked key is refused at once, by every process.

Keys are 256 random bits, so what is kept is their plain SHA-256: salts and slow hashes protect what
people think up and others can guess, and here there is nothing to guess.
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
    """What a key may do; each may do what those before it may."""

    SCORE = "score"
    """Score transactions and send events and labels."""
    ANALYST = "analyst"
    """Look decisions up, and change rules and lists."""
    ADMIN = "admin"
    """Change which model decides, and keys; read the audit log."""

    def covers(self, needed: Role) -> bool:
        """Return whether this role may do what `needed` may.

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
    """There is a key of that name."""


class NoSuchKey(Exception):
    """There is no key of that id."""


class LastAdminKey(Exception):
    """It is the only key of role admin: nobody could manage keys without it."""


class TooManyKeys(Exception):
    """There are `MAX_KEYS` already."""


class KeyStore:
    """The keys of a state folder; may be used by several threads and processes.

    Args:
        folder: The state folder; made when needed.
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
        """Return the key that a secret belongs to, None when there is none.

        It takes microseconds, for every request asks. What a lookup may tell by its time is
        something about the hash of a guess, which helps nobody to a key; the comparison itself
        takes the same time always.
        """
        digest = _hash(token)
        key = self._file.last_good(_report_damage).get(digest)
        return key if key is not None and hmac.compare_digest(key.sha256, digest) else None

    def all_keys(self) -> list[ApiKey]:
        """Return all keys, the oldest first."""
        return [_public(key) for key in self._file.last_good(_report_damage).values()]

    def get(self, key_id: str) -> ApiKey:
        """Return the key of an id.

        Raises:
            NoSuchKey: See there.
        """
        for key in self._file.last_good(_report_damage).values():
            if key.id == key_id:
                return _public(key)
        raise NoSuchKey(key_id)

    def create(self, name: str, role: Role, by: str) -> tuple[ApiKey, str]:
        """Make a key; give it and its secret, which is kept nowhere.

        Raises:
            KeyNameTaken: See there.
            TooManyKeys: See there.
        """
        token = _PREFIX + secrets.token_urlsafe(_KEY_BYTES)
        with locked(self._folder / _LOCK):
            key = self._add(name, role, by, token)
        return _public(key), token

    def revoke(self, key_id: str) -> ApiKey:
        """Take a key away; it is refused from now on.

        Raises:
            NoSuchKey: See there.
            LastAdminKey: See there.
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
            if _hash(first_key(self._folder) or "") == key.sha256:
                (self._folder / FIRST_KEY).unlink(missing_ok=True)
        return _public(key)

    def ensure_first(self) -> bool:
        """Make a key of role admin if there are no keys yet, and keep it for its owner to read.

        One of several processes that start at the same time makes it; all have it when this
        returns. A key that the file `api-key` holds already is taken.

        Returns:
            Whether this process made it.
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
    """Log that the last good keys stay in use; our next change repairs the file."""
    _log.error("api_keys.unreadable", detail=detail)


def first_key(folder: Path) -> str | None:
    """Return the first key of a state folder, None when there is none or it was revoked."""
    try:
        return (folder / FIRST_KEY).read_text("utf-8").strip() or None
    except FileNotFoundError:
        return None


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _public(key: _StoredKey) -> ApiKey:
    return ApiKey.model_validate(key.model_dump(exclude={"sha256"}))
