"""Replace personal values by keyed hashes, which can be searched for but not read.

The index holds hashes in place of names, e-mail addresses, phone numbers, streets and personal ids;
an exact value is found by its hash. The key is as secret as the values: with it, known values could
be hashed and compared.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import re
import secrets
import unicodedata
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import Field, SecretStr

from fraud.contracts.lists import ListType, normal
from fraud.contracts.personal import is_personal
from fraud.runtime.settings import MIN_KEY, SecretKey, ServiceSettings

KEY_FILE: Final = "personal-data-key"

_PREFIX: Final = "h_"
_HEX_DIGITS: Final = 32
_PSEUDONYM: Final = re.compile(rf"{_PREFIX}[0-9a-f]{{{_HEX_DIGITS}}}")
_KEY: Final = re.compile(rb"[0-9a-f]{64}\n")


class PersonalDataSettings(ServiceSettings):
    """Settings for indexing and searching personal values."""

    personal_data_key: SecretKey = Field(
        SecretStr(""), description=f"Key of the hashes that stand for personal values in the index, at least {MIN_KEY} characters; empty = made at first start and kept in STATE_DIR/{KEY_FILE}."
    )  # fmt: skip
    index_personal_fields: Literal["hashed", "clear"] = Field(
        "hashed", description="How names, e-mail addresses, phones, streets and personal ids are indexed: as keyed hashes, found by exact value, or in clear."
    )  # fmt: skip


class Pseudonyms:
    """Hash personal values with one key.

    Args:
        key: The secret key.
        clear: Whether the index holds personal values in clear.
    """

    def __init__(self, key: bytes, *, clear: bool = False) -> None:
        self._key = key
        self.clear = clear

    @classmethod
    def of(cls, settings: PersonalDataSettings) -> Self:
        """Load the key from the settings, or from its file, which is created if missing.

        Raises:
            ValueError: The file does not hold a key.
            OSError: The file can be neither read nor created.
        """
        given = settings.personal_data_key.get_secret_value()
        key = given.encode() if given else kept_key(settings.state_dir / KEY_FILE)
        return cls(key, clear=settings.index_personal_fields == "clear")

    @property
    def key_id(self) -> str:
        """Identifier of the key that does not reveal it."""
        return self._digest("", "key")[:12]

    def hash(self, field: str, value: str) -> str:
        """Hash the value of a field, in its normalised form.

        Equal values of different fields have different hashes.

        Example:
            >>> pseudonyms = Pseudonyms(b"k" * 32)
            >>> pseudonyms.hash("phone", "+1 (202) 555-0143")
            'h_2c0059f44ee8305d7d5dc3aeb4e243cd'
            >>> pseudonyms.hash("phone", "1-202-555-0143") == pseudonyms.hash("phone", "12025550143")
            True
        """
        return _PREFIX + self._digest(field, normalised(field, value))

    def indexed(self, field: str, value: str) -> str:
        """Return the value of a field as the index holds it: hashed if personal, unless `clear`.

        Example:
            >>> pseudonyms = Pseudonyms(b"k" * 32)
            >>> pseudonyms.indexed("entity_id", "cust-0042")
            'cust-0042'
            >>> pseudonyms.indexed("entity_id", "070-69-2161")[:2]
            'h_'
        """
        if self.clear or not is_personal(field, value):
            return value
        return self.hash(field, value)

    def searched(self, field: str, value: str) -> list[str]:
        """Return the forms that a value of a field may have in the index, for a `terms` query.

        While values are indexed in clear, older documents may still have the hash.
        """
        if not is_personal(field, value):
            return [value]
        hashed = self.hash(field, value)
        return [value, hashed] if self.clear else [hashed]

    def _digest(self, field: str, text: str) -> str:
        message = f"{field}\0{text}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, message, "sha256").hex()[:_HEX_DIGITS]


def is_pseudonym(value: object) -> bool:
    """Return whether a value has the form of a hash of `Pseudonyms`."""
    return isinstance(value, str) and _PSEUDONYM.fullmatch(value) is not None


def normalised(field: str, value: str) -> str:
    """Return a personal value in one form for all its usual spellings.

    E-mail addresses and phone numbers are normalised as in lists. Names and streets ignore case,
    white space and the form of Unicode. Entity ids are unchanged.

    Example:
        >>> normalised("email_address", " Ada@Example.com"), normalised("phone", "+1 202-555-0143")
        ('ada@example.com', '12025550143')
        >>> normalised("customer_name", "Ada   EXAMPLE"), normalised("entity_id", "A 1")
        ('ada example', 'A 1')
    """
    if field == "entity_id":
        return value
    text = " ".join(unicodedata.normalize("NFKC", value).casefold().split())
    kind = {"email_address": ListType.EMAIL, "phone": ListType.PHONE}.get(field)
    if kind is None:
        return text
    try:
        return normal(kind, text)
    except ValueError:
        # Not a valid address or number, but still personal: the same text has the same hash.
        return text


def kept_key(path: Path) -> bytes:
    """Read a key from its file; create both if the file is missing or empty.

    Processes that start at the same time get the same key: the first to lock the file writes it.

    Raises:
        ValueError: The file holds something other than a key.
        OSError: The file can be neither read nor created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        found = file.read()
        if not found:
            found = secrets.token_hex(32).encode() + b"\n"
            file.write(found)
            file.flush()
            os.fsync(file.fileno())
        if not _KEY.fullmatch(found):
            raise ValueError(f"{path}: expected 64 hexadecimal digits, as it was made with")
        return found.strip()
