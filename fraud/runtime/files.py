"""Small private files that processes share: replaced as a whole, by one writer at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")


def replace_private(path: Path, content: bytes) -> None:
    """Replace a file atomically by one that only its owner may read; it is on disk on return.

    Raises:
        OSError: The file cannot be written; the old one is unchanged.
    """
    making = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(making, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:  # noqa: PTH123 - for its mode
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        making.replace(path)
    except OSError:
        making.unlink(missing_ok=True)
        raise
    _keep_name(path.parent)


def _keep_name(folder: Path) -> None:
    """Sync the folder to disk, so that a rename in it survives a crash."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for and hold the lock on a file; the system releases it when the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "rb") as file:  # noqa: PTH123 - for its mode
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Lock:
    """A lock file that is open; see `lock_file`."""

    def __init__(self, file: int) -> None:
        self._file = file

    def acquire(self) -> bool:
        """Acquire the lock unless another process holds it, and return whether it is held by us."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def lock_file(path: Path) -> Iterator[Lock]:
    """Open a lock file that is taken without waiting; the system frees it when the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield Lock(file)
    finally:
        os.close(file)


class FileDamaged(Exception):
    """The content of a file is not valid; the message names the file and contains no secret."""


class SharedFile(Generic[T]):
    """A file that other processes may replace; it is read again after each change.

    Args:
        path: Path of the file.
        parse: Parses the file's content, or raises `FileDamaged`.
        missing: Content if the file does not exist.
    """

    def __init__(self, path: Path, parse: Callable[[bytes], T], missing: T) -> None:
        self._path = path
        self._parse = parse
        self._missing = missing
        self._version: tuple[int, int, int] | None = None
        self._content = missing

    def read(self) -> T:
        """Return the current content of the file.

        Raises:
            FileDamaged: The content is not valid.
        """
        version = self._version_now()
        if version != self._version:
            try:
                self._content = self._parse(self._path.read_bytes())
            except FileNotFoundError:
                version, self._content = None, self._missing
            self._version = version
        return self._content

    def last_good(self, damaged: Callable[[str], object]) -> T:
        """Return the current content of the file, or its last valid content if it is damaged.

        Args:
            damaged: Called once for each damaged version of the file, with the problem.
        """
        version = self._version_now()
        try:
            return self.read()
        except FileDamaged as problem:
            self._version = version
            damaged(str(problem))
            return self._content

    def _version_now(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        # A replaced file has another inode.
        return found.st_ino, found.st_mtime_ns, found.st_size
