"""Change history of the policy: who changed what, and when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fraud.contracts.control import LIST, ControlDocument
from fraud.policy.follower import Listener
from fraud.policy.state import KINDS


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """One change of the policy, taken from a control document.

    Attributes:
        kind: `model`, `rules` or `list`.
        name: Name within the kind, such as `champion`, or the name of a list.
        version: Version of the document.
        author: Name of the author.
        time_ms: Time of the change, UTC epoch milliseconds.
    """

    kind: str
    name: str
    version: str
    author: str
    time_ms: int


class PolicyHistory(Listener):
    """Record every change that the policy state applies, in order."""

    kinds = KINDS

    def __init__(self) -> None:
        self._changes: list[PolicyChange] = []

    def apply(self, document: ControlDocument) -> None:
        """Append a change to the history; a snapshot of a list changes nothing."""
        if document.kind == LIST and document.content.get("follows") is not None:
            return
        self._changes.append(
            PolicyChange(
                document.kind, document.name, document.version, document.author, document.time_ms
            )
        )

    def clear(self) -> None:
        """Discard all changes, after the topic was recreated."""
        self._changes = []

    def changes(self, kind: str | None = None, name: str | None = None) -> Iterable[PolicyChange]:
        """Return the changes, newest first, optionally of one kind or name only."""
        return (
            change
            for change in reversed(self._changes)
            if kind in (None, change.kind) and name in (None, change.name)
        )
