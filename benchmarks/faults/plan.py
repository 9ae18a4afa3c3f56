"""The plan of faults: which, how long, and after how many records, all from one seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

SERVICES: Final = (
    "kafka",
    "opensearch",
    "mail",
    "jobmanager",
    "taskmanager",
    "flink_job",
    "indexer",
    "notifier",
    "scoring_api",
)
WORKERS: Final = ("reading worker", "deciding worker")
"""The Python processes of the job's two functions."""

CUTS: Final = (
    "job to kafka",
    "notifier to kafka",
    "indexer to kafka",
    "scoring_api to kafka",
    "indexer to opensearch",
    "notifier to mail",
    "flink_job to jobmanager",
)
EVERYTHING: Final = "everything"
DISK: Final = "disk"

KINDS: Final[dict[str, tuple[tuple[str, ...], float, float]]] = {
    "kill": ((*SERVICES, *WORKERS), 0, 0),
    "pause": ((*SERVICES, *WORKERS), 2, 30),
    "away": (("kafka", "opensearch", "mail", "jobmanager", "taskmanager"), 5, 40),
    "cut": (CUTS, 5, 40),
    "slow disk": ((DISK,), 10, 20),
    "full disk": ((DISK,), 10, 25),
    "clock back": (("notifier", "indexer"), 5, 15),
    "clock ahead": (("notifier", "indexer"), 5, 15),
    "restart": ((EVERYTHING,), 0, 10),
    "power cut": ((EVERYTHING,), 0, 5),
}
"""Victims of each kind, and its shortest and longest duration, seconds."""

_JOB_PATH: Final = frozenset(
    {"kafka", "jobmanager", "taskmanager", "job to kafka", DISK, EVERYTHING, *WORKERS}
)
_TOGETHER: Final = 0.2
"""Share of steps that have two faults at once."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that is brought about.

    Attributes:
        kind: One of `KINDS`.
        victim: A service, a worker, or `CLIENT to SERVER`.
        seconds: How long it lasts; 0 for a kill.
    """

    kind: str
    victim: str
    seconds: float

    @property
    def stops_deciding(self) -> bool:
        """Whether decisions may stop with it, so that their return is measured."""
        return self.victim in _JOB_PATH

    def __str__(self) -> str:
        lasting = f" for {self.seconds:g} s" if self.seconds else ""
        return f"{self.kind} {self.victim}{lasting}"


@dataclass(frozen=True, slots=True)
class Step:
    """A part of the load, and what happens in it.

    Attributes:
        first: Number of records that the earlier steps sent.
        records: Number of records that this one sends.
        begins: How many of them are sent before the faults.
        faults: One, or two at once.
    """

    first: int
    records: int
    begins: int
    faults: tuple[Fault, ...]


def draw(
    seed: int,
    *,
    records: int,
    faults: int,
    choices: Sequence[tuple[str, str]],
    together: float = _TOGETHER,
) -> list[Step]:
    """Return the steps of a run; the same arguments give the same steps.

    Every choice comes once before any comes again.

    Args:
        seed: Of everything that is drawn.
        records: Records of all steps.
        faults: Faults of all steps.
        choices: Kinds with their victims.
        together: Share of steps with two faults at once.

    Example:
        >>> for step in draw(1, records=100, faults=2, choices=[("kill", "kafka")], together=0):
        ...     print(step.first, step.records, *step.faults)
        0 50 kill kafka
        50 50 kill kafka
    """
    chance = random.Random(seed)  # noqa: S311 - a seeded plan
    deck: list[tuple[str, str]] = []
    groups: list[list[Fault]] = []
    for _ in range(faults):
        if not deck:
            deck = sorted(choices)
            chance.shuffle(deck)
        kind, victim = deck.pop()
        _, shortest, longest = KINDS[kind]
        fault = Fault(kind, victim, round(chance.uniform(shortest, longest), 1))
        join = chance.random() < together
        if join and groups and _may_join(groups[-1], fault):
            groups[-1].append(fault)
        else:
            groups.append([fault])
    share = records // len(groups)
    steps = []
    for number, group in enumerate(groups):
        last = number == len(groups) - 1
        count = records - share * number if last else share
        begins = int(count * chance.uniform(0.05, 0.5))
        steps.append(Step(share * number, count, begins, tuple(group)))
    return steps


def _may_join(group: Sequence[Fault], fault: Fault) -> bool:
    """Check that two faults can happen at once: one of everything leaves nothing for another."""
    (*_, other) = group
    victims = {other.victim, fault.victim}
    return len(group) == 1 and len(victims) == 2 and not victims & {EVERYTHING, DISK}
