"""Which records of the control topic count, and proof that none of them is missing.

Each record has three headers, made with the installation's key:

- `fd-number`: a running number. Readers refuse numbers that they have passed, so a record that is
  sent again changes nothing.
- `fd-existing`: a seal of all documents that exist after this record, by their hashes. A reader
  that has read to the end computes it from what it read. So a document that was removed, or
  overwritten, is noticed.
- `fd-signature`: HMAC-SHA256 of number, key, the SHA-256 of the value (or that it is a tombstone)
  and `fd-existing`. The value has author and content.

A record without a valid signature counts only if a signed document of the kind `adopted` lists it
by hash: those that were on the topic before documents were signed.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final, Self

from pydantic import SecretStr

from fraud.contracts.control import decode_control
from fraud.kafka.group_consumer import Message
from fraud.runtime.settings import KafkaSettings
from fraud.security.pseudonyms import kept_key

KEY_FILE: Final = "control-key"
ADOPTED: Final = "adopted"
"""Kind of documents that list unsigned documents, by key, with the SHA-256 of their values."""

NUMBER: Final = "fd-number"
EXISTING: Final = "fd-existing"
SIGNATURE: Final = "fd-signature"

_ADOPTING: Final = f"{ADOPTED}/".encode()
_MODULUS: Final = 1 << 256
_UNNUMBERED: Final = 0

Headers = list[tuple[str, bytes]]


def with_key(settings: KafkaSettings) -> KafkaSettings:
    """Return settings with their key, which is read from its file, or made, if they have none.

    Raises:
        ValueError: The file does not hold a key.
        OSError: The file can be neither read nor created.
    """
    if settings.control_key.get_secret_value():
        return settings
    key = kept_key(settings.state_dir / KEY_FILE).decode()
    return settings.model_copy(update={"control_key": SecretStr(key)})


class Verdict(Enum):
    """What a record of the control topic is to its readers."""

    ACCEPTED = "accepted"
    """A signed document, or the signed tombstone of one."""
    KNOWN = "known"
    """A document that exists already, sent again."""
    PASSED = "passed"
    """A signed record whose number was passed."""
    UNSIGNED = "unsigned"
    """A record without a valid signature; it counts only if it is adopted."""


class ControlIndex:
    """The documents that exist on the control topic. One thread reads; others may sign.

    Args:
        key: The secret key.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._lock = threading.Lock()
        self.clear()

    @classmethod
    def of(cls, settings: KafkaSettings) -> Self:
        """Load the key, see `with_key`."""
        return cls(with_key(settings).control_key.get_secret_value().encode())

    def clear(self) -> None:
        """Forget all that was read."""
        self.number = 0
        """Highest number of a record that was accepted; 0 before the first."""
        self.unsigned = 0
        """Number of documents without a valid signature."""
        self._existing: bytes | None = None
        self._total = 0
        # By key: the number of the document, and its share of the total.
        self._documents: dict[bytes, tuple[int, int]] = {}
        self._adopted: dict[bytes, str] = {}

    def read(self, message: Message) -> Verdict:
        """Judge the next record of the topic, and note what it makes exist."""
        key, value = message.key or b"", message.value
        headers = dict(message.headers)
        number, signed = headers.get(NUMBER) or b"", _hash(value)
        existing = headers.get(EXISTING) or b""
        expected = self._mac(b"signature", number, key, signed, existing)
        if not hmac.compare_digest(headers.get(SIGNATURE) or b"", expected):
            self.unsigned += value is not None
            return Verdict.UNSIGNED
        share = self._share(int(number), key, signed)
        if int(number) <= self.number:
            known = self._documents.get(key)
            return Verdict.KNOWN if known == (int(number), share) else Verdict.PASSED
        with self._lock:
            self._put(key, None if value is None else (int(number), share))
            self._adopt(key, value)
            self.number, self._existing = int(number), existing
        return Verdict.ACCEPTED

    def is_adopted(self, message: Message) -> bool:
        """Return whether an unsigned record counts, because a signed document lists it."""
        known = self._documents.get(message.key or b"")
        return self.was_adopted(message) and known is not None and known[0] == _UNNUMBERED

    def was_adopted(self, message: Message) -> bool:
        """Return whether an unsigned record counts, or did until it was replaced or removed."""
        return self._adopted.get(message.key or b"") == digest_of(message)

    def has(self, key: bytes, number: int | None = None) -> bool:
        """Return whether a document exists, optionally as written by the record of a number."""
        known = self._documents.get(key)
        return known is not None and number in (None, known[0])

    def missing(self, unsigned: Iterable[Message]) -> str | None:
        """Return one line on the documents that a topic that was read to its end lacks.

        Args:
            unsigned: The unsigned records.

        Returns:
            None if all documents are there that existed after the newest record.
        """
        existing = self._mac(b"existing", b"%d" % self.number, _text(self._total))
        if self._existing is not None and not hmac.compare_digest(self._existing, existing):
            return f"some that existed at document {self.number} were removed or overwritten"
        there = {message.key or b"" for message in unsigned if self.was_adopted(message)}
        gone = sorted(key.decode() for key in self.adopted_keys() if key not in there)
        if gone:
            named = ", ".join(gone[:5])
            return f"{len(gone)} adopted ones were removed or overwritten ({named})"
        return None

    def sign(
        self, key: bytes, value: bytes | None, adopted: Mapping[str, str] | None = None
    ) -> tuple[int, Headers]:
        """Return the next number, and the headers of a record that has it.

        Args:
            key: Key of the record.
            value: Value of the record, None for a tombstone.
            adopted: Documents that the record adopts, by key.
        """
        with self._lock:
            number = self.number + 1
            changes: dict[bytes, int] = {key: 0}
            if value is not None:
                changes[key] = self._share(number, key, _hash(value))
            for adopted_key, digest in (adopted or {}).items():
                of_adopted = adopted_key.encode()
                changes[of_adopted] = self._share(_UNNUMBERED, of_adopted, digest.encode())
            total = self._total
            for changed, share in changes.items():
                total += share - self._documents.get(changed, (0, 0))[1]
        said = b"%d" % number
        existing = self._mac(b"existing", said, _text(total % _MODULUS))
        signature = self._mac(b"signature", said, key, _hash(value), existing)
        return number, [(NUMBER, said), (EXISTING, existing), (SIGNATURE, signature)]

    def note(self, number: int, key: bytes, value: bytes) -> None:
        """Note a document that this process has signed as if it had been read."""
        with self._lock:
            self._put(key, (number, self._share(number, key, _hash(value))))
            self._adopt(key, value)
            self.number = number

    def adopted_keys(self) -> list[bytes]:
        """Return the keys of adopted documents that exist."""
        return [key for key, (number, _) in self._documents.items() if number == _UNNUMBERED]

    def forget(self, keys: Iterable[bytes]) -> None:
        """Remove documents from those that exist."""
        with self._lock:
            for key in keys:
                self._put(key, None)

    def skip_to(self, number: int) -> None:
        """Raise the number to one that was seen elsewhere, so that the next is higher."""
        with self._lock:
            self.number = max(self.number, number)

    def _adopt(self, key: bytes, value: bytes | None) -> None:
        listed, replaces = _listed(key, value)
        if replaces:
            for other in self.adopted_keys():
                if other.decode() not in listed:
                    self._put(other, None)
        for name, digest in listed.items():
            adopted = name.encode()
            self._adopted[adopted] = digest
            share = self._share(_UNNUMBERED, adopted, digest.encode())
            self._put(adopted, (_UNNUMBERED, share))

    def _put(self, key: bytes, document: tuple[int, int] | None) -> None:
        before = self._documents.pop(key, (0, 0))[1]
        if document is not None:
            self._documents[key] = document
        self._total = (self._total - before + (document[1] if document else 0)) % _MODULUS

    def _share(self, number: int, key: bytes, digest: bytes) -> int:
        """Return what a document adds to the total, which nobody can compute without the key."""
        return int(self._mac(b"document", b"%d" % number, key, digest), 16)

    def _mac(self, *parts: bytes) -> bytes:
        # Lengths keep parts apart, whatever they contain.
        text = b"".join(b"%d:%b" % (len(part), part) for part in parts)
        return hmac.digest(self._key, text, "sha256").hex().encode()


def _hash(value: bytes | None) -> bytes:
    return b"tombstone" if value is None else hashlib.sha256(value).hexdigest().encode()


def _text(total: int) -> bytes:
    return b"%064x" % total


def _listed(key: bytes, value: bytes | None) -> tuple[dict[str, str], bool]:
    """Return the documents that a document adopts, and whether no others stay adopted."""
    if value is None or not key.startswith(_ADOPTING):
        return {}, False
    content = decode_control(key, value).content
    return content["documents"], content["replaces"]


def digest_of(message: Message) -> str:
    """Return the hash of a record's value, by which unsigned documents are adopted."""
    return _hash(message.value).decode()
