"""Access keys for clients that sign their requests as clients of AWS do (SigV4).

They are stored in the state folder, in a file with the format of AWS's credentials file, which
clients can read by `AWS_SHARED_CREDENTIALS_FILE`; each profile also has a `role`. A signature is
checked with the secret itself, which therefore cannot be stored as a hash: only the owner of the
file can read it.
"""

from __future__ import annotations

import io
import re
import secrets
from collections.abc import Mapping
from configparser import Error, RawConfigParser
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

import structlog

from fraud.runtime.files import FileDamaged, SharedFile, locked, replace_private
from fraud.security.api_keys import MAX_KEYS, Role

FILE_NAME: Final = "aws-credentials"
"""File in the state folder that holds all access keys; the first start creates `default`."""

_LOCK: Final = "aws-credentials.lock"
_DEFAULT: Final = "default"
_PROFILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}", re.ASCII)
_KEY_ID: Final = re.compile(r"[A-Z0-9]{16,128}", re.ASCII)
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_MIN_SECRET: Final = 20

_log = structlog.get_logger("fraud.security.aws_credentials")


@dataclass(frozen=True, slots=True)
class AwsCredential:
    """An access key, with its secret.

    Attributes:
        profile: Name of its profile in the file, which names the caller in logs.
        access_key_id: Id of the key that a signed request names.
        secret: Secret that requests are signed with.
        role: Role of the caller.
    """

    profile: str
    access_key_id: str
    secret: str = field(repr=False)
    role: Role


class ProfileTaken(Exception):
    """A profile of this name exists already."""


class NoSuchProfile(Exception):
    """No profile has this name."""


class AwsCredentials:
    """Access keys of a state folder, for use by several threads and processes.

    The file is read again after a change, so that a revoked key is refused at once.

    Args:
        folder: The state folder; created if missing.

    Raises:
        FileDamaged: The file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._lock = folder / _LOCK
        self._file: SharedFile[Mapping[str, AwsCredential]] = SharedFile(
            self.path, self._parse, MappingProxyType({})
        )
        self._file.read()

    def find(self, access_key_id: str) -> AwsCredential | None:
        """Return the access key with an id, None if it is unknown."""
        # While the file is damaged, the keys that it held last are still accepted.
        return self._file.last_good(_report_damage).get(access_key_id)

    def all(self) -> list[AwsCredential]:
        """Return all access keys, in the order of the file."""
        return list(self._file.read().values())

    def ensure_first(self) -> bool:
        """Create the profile `default`, of role admin, if the file does not exist yet.

        If several processes start at the same time, one of them creates it, and all have it on
        return.

        Returns:
            Whether this process created it.
        """
        with locked(self._lock):
            if self.path.exists():
                return False
            self._write([_made(_DEFAULT, Role.ADMIN)])
        return True

    def create(self, profile: str, role: Role) -> AwsCredential:
        """Create an access key.

        Raises:
            ValueError: The name is not allowed, or there are too many access keys.
            ProfileTaken: A profile of this name exists already.
        """
        if not _PROFILE.fullmatch(profile):
            raise ValueError("profile: expected up to 64 letters, digits, _, ., @ and -")
        with locked(self._lock):
            known = self.all()
            if profile in {other.profile for other in known}:
                raise ProfileTaken(profile)
            if len(known) >= MAX_KEYS:
                raise ValueError(f"expected at most {MAX_KEYS} access keys")
            made = _made(profile, role)
            self._write([*known, made])
        return made

    def revoke(self, profile: str) -> None:
        """Delete an access key, which is refused from now on.

        Raises:
            NoSuchProfile: No profile has this name.
        """
        with locked(self._lock):
            known = self.all()
            kept = [other for other in known if other.profile != profile]
            if len(kept) == len(known):
                raise NoSuchProfile(profile)
            self._write(kept)

    def _write(self, credentials: list[AwsCredential]) -> None:
        parser = _parser()
        for credential in credentials:
            parser[credential.profile] = {
                "aws_access_key_id": credential.access_key_id,
                "aws_secret_access_key": credential.secret,
                "role": credential.role.value,
            }
        text = io.StringIO()
        parser.write(text)
        replace_private(self.path, text.getvalue().encode())

    def _parse(self, content: bytes) -> Mapping[str, AwsCredential]:
        """Parse the file into access keys by their ids."""
        try:
            text = content.decode()
        except UnicodeDecodeError:
            raise self._damaged("it is not UTF-8") from None
        parser = _parser()
        try:
            parser.read_string(text)
        except Error as error:
            # The error's own text would show the line, which may hold a secret.
            raise self._damaged(
                f"{type(error).__name__}: expected [profile] and name = value"
            ) from None
        found: dict[str, AwsCredential] = {}
        for profile in parser.sections():
            credential = self._read(profile, dict(parser[profile]))
            if credential.access_key_id in found:
                raise self._damaged(f"[{profile}] aws_access_key_id: expected each id once")
            found[credential.access_key_id] = credential
        return MappingProxyType(found)

    def _read(self, profile: str, values: dict[str, str]) -> AwsCredential:
        key_id = values.get("aws_access_key_id", "")
        secret = values.get("aws_secret_access_key", "")
        if not _KEY_ID.fullmatch(key_id):
            raise self._damaged(
                f"[{profile}] aws_access_key_id: expected 16 to 128 capital letters and digits"
            )
        if len(secret) < _MIN_SECRET:
            raise self._damaged(
                f"[{profile}] aws_secret_access_key: expected at least {_MIN_SECRET} characters"
            )
        try:
            # A profile written by another tool has no role, and gets the lowest one.
            role = Role(values.get("role", Role.SCORE))
        except ValueError:
            raise self._damaged(f"[{profile}] role: expected one of {', '.join(Role)}") from None
        return AwsCredential(profile, key_id, secret, role)

    def _damaged(self, why: str) -> FileDamaged:
        return FileDamaged(f"{self.path}: {why}")


def _report_damage(detail: str) -> None:
    _log.error("aws_credentials.unreadable", detail=detail)


def _parser() -> RawConfigParser:
    # In AWS's format, no section is inherited by the others.
    return RawConfigParser(default_section="", delimiters=("=",), strict=True)


def _made(profile: str, role: Role) -> AwsCredential:
    # Not AWS's prefix AKIA, so that neither people nor secret scanners take it for a key of AWS.
    key_id = "FSKA" + "".join(secrets.choice(_ALPHABET) for _ in range(16))
    return AwsCredential(profile, key_id, secrets.token_urlsafe(30), role)
