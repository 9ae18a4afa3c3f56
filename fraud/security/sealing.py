"""Encrypt data at rest with a key from the state folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fraud.security.pseudonyms import kept_key

_NONCE: Final = 12


class Unreadable(ValueError):
    """The data was sealed with another key or for another purpose, or not at all."""


class Seal:
    """Encrypt and authenticate data (AES-256-GCM).

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
        """Load the key from its file, which is created if missing; raises as `kept_key`."""
        return cls(bytes.fromhex(kept_key(path).decode()))

    def close(self, content: bytes, purpose: bytes) -> bytes:
        """Encrypt content for one purpose; it can be opened only for the same purpose."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, content, purpose)

    def open(self, sealed: bytes, purpose: bytes) -> bytes:
        """Decrypt content that was sealed for this purpose.

        Raises:
            Unreadable: It was not sealed with this key for this purpose.
        """
        try:
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], purpose)
        except (InvalidTag, ValueError):
            raise Unreadable from None
