"""How `make test` divides the tests among workers."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final

from xdist.scheduler import LoadFileScheduling

# What only one worker starts, the longest first; a file that names several goes with the first.
SHARED: Final = ("stack", "flink_cluster", "opensearch")
_ARGUMENT: Final = re.compile(rf"\b({'|'.join(SHARED)}): ")


@cache
def group_of(path: Path) -> str:
    """Return the large server that a file's tests ask for by an argument, or the file itself."""
    asked = set(_ARGUMENT.findall(path.read_text("utf-8"))) if path.suffix == ".py" else set()
    return next((name for name in SHARED if name in asked), str(path))


def rank_of(path: Path) -> int:
    """Return where a file's tests come in the order: those of large servers first."""
    group = group_of(path)
    return SHARED.index(group) if group in SHARED else len(SHARED)


class SharedServers(LoadFileScheduling):
    """Keeps a file's tests on one worker, and with them those of all files that share its server."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(self.config.rootpath / nodeid.partition("::")[0])
