"""The history of the policy: who changed what, when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fraud.contracts.control import ControlDocument
from fraud.policy.follower import Listener
from fraud.policy.state import KINDS


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """One document, as history shows it.

    Attributes:
        kind: model, rules or list.
        name: Which one of that kind.
        version: Its version.
        author: Who changed it.
        time_ms: When, UTC epoch milliseconds.
    """

    kind: str
    name: str
    version: str
    author: str
    time_ms: int


class PolicyHistory(Listener):
    """Keeps the changes of the policy state, as it took them."""

    kinds = KINDS

    def __init__(self) -> None:
        self._changes: list[PolicyChange] = []

    def apply(self, document: ControlDocument) -> None:
        """Keep a change."""
        self._changes.append(
            PolicyChange(
                document.kind, document.name, document.version, document.author, document.time_ms
            )
        )

    def clear(self) -> None:
        """Forget the changes: the topic was made anew."""
        self._changes = []

    def changes(self, kind: str | None = None, name: str | None = None) -> Iterable[PolicyChange]:
        """Return the changes, the newest first."""
        return (
            change
            for change in reversed(self._changes)
            if kind in (None, change.kind) and name in (None, change.name)
        )
