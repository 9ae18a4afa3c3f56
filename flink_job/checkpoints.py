"""The retained checkpoints of the job, from which a resubmission starts."""

from __future__ import annotations

import shutil
from pathlib import Path

_METADATA = "_metadata"


def retained(folder: Path) -> list[Path]:
    """List complete checkpoints, newest first.

    Flink writes `<folder>/<job id>/chk-<n>/_metadata` last, so a checkpoint with that file is complete.

    Args:
        folder: The job's checkpoint folder; it may not exist yet.
    """
    found = []
    for metadata in folder.glob(f"*/*/{_METADATA}"):
        try:
            found.append((metadata.stat().st_mtime_ns, metadata.parent))
        except FileNotFoundError:
            continue  # a running job removed it just now
    return [path for _, path in sorted(found, reverse=True)]


def remove_outdated(folder: Path, job_id: str) -> list[Path]:
    """Remove checkpoints of earlier submissions, once the running job has its own.

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
