"""The retained checkpoints of the job, from which a resubmission starts.

Checkpoints in a folder are listed. Those in an object store are noted in a file of the state folder
while the job runs, as Flink reports them.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from fraud.runtime.files import replace_private

_METADATA: Final = "_metadata"
_NUMBER: Final = re.compile(r"chk-([0-9]+)", re.ASCII)
_NOTED: Final = 3
"""Checkpoints that are noted of an object store: as many as Flink retains."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint of the job.

    Attributes:
        number: Flink's number, which goes on when a job is restored: a higher one is newer.
        job_id: Flink's id of the submission that made it.
        uri: Where it is, as Flink takes it.
        completed_ms: When it was complete, UTC epoch milliseconds.
    """

    number: int
    job_id: str
    uri: str
    completed_ms: int


def is_local(uri: str) -> bool:
    """Check whether a folder can be listed from here.

    Example:
        >>> is_local("/var/lib/checkpoints"), is_local("s3://bucket/checkpoints")
        (True, False)
    """
    return "://" not in uri or uri.startswith("file://")


def retained(folder: Path) -> list[Checkpoint]:
    """List complete checkpoints, newest first, by number: clocks and copies change times of files.

    Flink writes `<folder>/<job id>/chk-<n>/_metadata` last, so a checkpoint that has it is complete.

    Args:
        folder: The job's checkpoint folder; it may not exist yet.
    """
    found = []
    for metadata in folder.glob(f"*/*/{_METADATA}"):
        number = _NUMBER.fullmatch(metadata.parent.name)
        try:
            completed_ms = metadata.stat().st_mtime_ns // 1_000_000
        except FileNotFoundError:
            continue  # a running job removed it just now
        if number:
            checkpoint = metadata.parent
            found.append(
                Checkpoint(
                    int(number[1]),
                    checkpoint.parent.name,
                    checkpoint.resolve().as_uri(),
                    completed_ms,
                )
            )
    return sorted(
        found, key=lambda checkpoint: (checkpoint.number, checkpoint.completed_ms), reverse=True
    )


def remove_outdated(folder: Path, job_id: str) -> list[Path]:
    """Remove what earlier submissions left, once the running job has a checkpoint of its own.

    Args:
        folder: Checkpoints of one job name and one layout; those of other layouts lie beside it.
        job_id: Of the running submission.

    Returns:
        The folders removed.
    """
    if not any((folder / job_id).glob(f"chk-*/{_METADATA}")):
        return []
    outdated = [path for path in folder.iterdir() if path.is_dir() and path.name != job_id]
    # Of other layouts too: whoever goes back to one must not begin where it ended.
    outdated += [path for path in folder.parent.glob("layout-*") if path != folder]
    for path in outdated:
        shutil.rmtree(path, ignore_errors=True)
    return outdated


def noted(file: Path) -> list[Checkpoint]:
    """Return the checkpoints that were noted, newest first; none without the file."""
    try:
        rows = orjson.loads(file.read_bytes())
    except FileNotFoundError:
        return []
    return [Checkpoint(**row) for row in rows]


def note(file: Path, checkpoints: Iterable[Checkpoint]) -> None:
    """Keep the newest checkpoints, for a start that cannot list them.

    Raises:
        OSError: The file cannot be written.
    """
    known = {checkpoint.uri: checkpoint for checkpoint in (*noted(file), *checkpoints)}
    newest = sorted(known.values(), key=lambda checkpoint: checkpoint.number, reverse=True)
    if newest[:_NOTED] != noted(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_private(file, orjson.dumps(newest[:_NOTED]))
