"""Access key ids and secrets that we issue, for clients that sign their calls as AWS's do (SigV4).

One file in the state folder in the format of AWS's own credentials file, so that a client takes it
by `AWS_SHARED_CREDENTIALS_FILE`; each profile has a `role` beside id and secret. Signatures are
checked with the secret itself, so it cannot be kept as a hash: the file is its owner's alone.
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
"""File in the state folder that holds all of them; its first start makes the profile `default`."""

_LOCK: Final = "aws-credentials.lock"
_DEFAULT: Final = "default"
_PROFILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}", re.ASCII)
_KEY_ID: Final = re.compile(r"[A-Z0-9]{16,128}", re.ASCII)
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_MIN_SECRET: Final = 20

_log = structlog.get_logger("fraud.security.aws_credentials")


@dataclass(frozen=True, slots=True)
class AwsCredential:
    """An access key.

    Attributes:
        profile: Its name in the file; names the caller in logs.
        access_key_id: What a signed call names.
        secret: What it is signed with.
        role: What its owner may do.
    """

    profile: str
    access_key_id: str
    secret: str = field(repr=False)
    role: Role


class ProfileTaken(Exception):
    """There is a profile of that name."""


class NoSuchProfile(Exception):
    """There is no profile of that name."""


class AwsCredentials:
    """The access keys of a state folder; may be used by several threads and processes.

    The file is read again when it changed, so that a key that was taken away is refused at once.

    Args:
        folder: The state folder; made when needed.

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
        """Return the access key of that id, None when there is none."""
        # Whoever was let in by the last good file still is.
        return self._file.last_good(_report_damage).get(access_key_id)

    def all(self) -> list[AwsCredential]:
        """Return all of them, in the order of the file."""
        return list(self._file.read().values())

    def ensure_first(self) -> bool:
        """Make the profile `default`, of role admin, if there is no file yet.

        One of several processes that start at the same time makes it; all have it when this
        returns.

        Returns:
            Whether this process made it.
        """
        with locked(self._lock):
            if self.path.exists():
                return False
            self._write([_made(_DEFAULT, Role.ADMIN)])
        return True

    def create(self, profile: str, role: Role) -> AwsCredential:
        """Make an access key.

        Raises:
            ValueError: The name is none of a profile, or there are too many.
            ProfileTaken: See there.
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
        """Take an access key away; it is refused from now on.

        Raises:
            NoSuchProfile: See there.
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
        """Return the access keys by their ids."""
        try:
            text = content.decode()
        except UnicodeDecodeError:
            raise self._damaged("it is not UTF-8") from None
        parser = _parser()
        try:
            parser.read_string(text)
        except Error as error:
            # Its text would show the line, which may be a secret.
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
            # The least where nothing is said, as in a profile that somebody else's tool wrote.
            role = Role(values.get("role", Role.SCORE))
        except ValueError:
            raise self._damaged(f"[{profile}] role: expected one of {', '.join(Role)}") from None
        return AwsCredential(profile, key_id, secret, role)

    def _damaged(self, why: str) -> FileDamaged:
        return FileDamaged(f"{self.path}: {why}")


def _report_damage(detail: str) -> None:
    _log.error("aws_credentials.unreadable", detail=detail)


def _parser() -> RawConfigParser:
    # AWS's files know no section that all others inherit from.
    return RawConfigParser(default_section="", delimiters=("=",), strict=True)


def _made(profile: str, role: Role) -> AwsCredential:
    # Not AKIA: nobody is to take it for a key of AWS, nor a scanner to report it.
    key_id = "FSKA" + "".join(secrets.choice(_ALPHABET) for _ in range(16))
    return AwsCredential(profile, key_id, secrets.token_urlsafe(30), role)
