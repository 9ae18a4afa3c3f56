"""The policy of a stack that is measured, changed as its users would change it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fraud.contracts.rules import RuleSet
from fraud.kafka.control import ControlPublisher
from fraud.policy.editor import PolicyEditor
from fraud.policy.follower import PolicyFollower, SeenPublisher, follow_policy
from fraud.runtime.settings import KafkaSettings
from fraud.security.audit import Actor, Author, RecordedChange
from fraud.security.pseudonyms import Pseudonyms

SETTLED_S: Final = 3.0
"""Longer than a switch takes; who measures checks that there was no other policy meanwhile."""


@contextmanager
def editor_of(settings: KafkaSettings) -> Iterator[tuple[PolicyEditor, PolicyFollower]]:
    """Yield the editor of the policy and its follower."""
    with follow_policy(settings, service="benchmark", stop=threading.Event()) as policy_state:
        policy_state.wait_ready()
        yield (
            PolicyEditor(
                SeenPublisher(ControlPublisher(settings), policy_state),
                policy_state.current,
                # No log is kept of a stack that is thrown away.
                RecordedChange(),
                Author(Actor(name="benchmark", via="cli")),
                lambda: Pseudonyms(bytes(32)),
            ),
            policy_state,
        )


def approve_everything(settings: KafkaSettings) -> None:
    """Switch to an empty rule set, which needs no reasons (TreeSHAP)."""
    with editor_of(settings) as (editor, _):
        editor.activate(editor.draft(RuleSet(rules=())).version)
    time.sleep(SETTLED_S)
