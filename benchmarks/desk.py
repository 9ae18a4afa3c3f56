"""The policy of a stack that is measured, changed as its users would change it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fraud.contracts.rules import RuleSet
from fraud.kafka.control import ControlPublisher
from fraud.policy.editor import Desk
from fraud.policy.follower import LiveBook, SeenPublisher
from fraud.runtime.settings import KafkaSettings

AUTHOR: Final = "benchmark"
SETTLED_S: Final = 3.0
"""Longer than a switch takes; who measures checks that there was no other policy meanwhile."""


@contextmanager
def desk_of(settings: KafkaSettings) -> Iterator[tuple[Desk, LiveBook]]:
    """Give what changes the policy, and what follows it."""
    with LiveBook(settings, service="benchmark", stop=threading.Event()) as book:
        book.wait_ready()
        yield Desk(SeenPublisher(ControlPublisher(settings), book), book.current), book


def approve_everything(settings: KafkaSettings) -> None:
    """Switch to no rules at all: nothing then asks for reasons (TreeSHAP)."""
    with desk_of(settings) as (desk, _):
        desk.activate(desk.draft(RuleSet(rules=()), AUTHOR).version, AUTHOR)
    time.sleep(SETTLED_S)
