"""Somebody who changes the policy, on record with nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fraud.contracts.decision import ModelRef
from fraud.policy.editor import PolicyEditor, Publisher
from fraud.policy.state import PolicyState
from fraud.security.audit import Actor, Author, RecordedChange
from fraud.security.pseudonyms import Pseudonyms

PSEUDONYMS = Pseudonyms(b"a key of the tests, long enough to be one")


def an_author(name: str = "ada") -> Author:
    """Make somebody at the command line."""
    return Author(Actor(name=name, via="cli"))


def an_editor(
    publisher: Publisher,
    policy_state: Callable[[], PolicyState],
    author: str = "ada",
    **more: Any,
) -> PolicyEditor:
    """Make an editor whose changes are parts of one that is on record already."""
    return PolicyEditor(
        publisher, policy_state, RecordedChange(), an_author(author), lambda: PSEUDONYMS, **more
    )


def promote(editor: PolicyEditor, ref: ModelRef) -> None:
    """Tell services of a champion."""
    with editor.promoting(None, ref) as tell:
        tell()
