"""What is kept or handed out and nobody else is to read: encrypted by a key of the state folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fraud.security.pseudonyms import kept_key

_NONCE: Final = 12


class Unreadable(ValueError):
    """It was sealed by another key, for something else, or not at all."""


class Seal:
    """Encrypts and authenticates (AES-256-GCM).

    Args:
        key: 32 bytes.

    Example:
        >>> seal = Seal(bytes(32))
        >>> seal.open(seal.close(b"ada@example.com", b"list/people"), b"list/people")
        b'ada@example.com'
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    @classmethod
    def of(cls, path: Path) -> Self:
        """Take the key from its file, which is made when there is none; raises as `kept_key`."""
        return cls(bytes.fromhex(kept_key(path).decode()))

    def close(self, content: bytes, purpose: bytes) -> bytes:
        """Seal something for one purpose: for another it cannot be opened."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, content, purpose)

    def open(self, sealed: bytes, purpose: bytes) -> bytes:
        """Return what was sealed.

        Raises:
            Unreadable: See there.
        """
        try:
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], purpose)
        except (InvalidTag, ValueError):
            raise Unreadable from None
