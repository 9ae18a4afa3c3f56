"""Cost of rules and lists: stream and REST with and without them, in turns, on one stack.

With them means the twenty rules of `benchmarks.rules` and three lists of 100,000 entries each, of which
two decide by themselves and one is used by a rule. Only the rule on a high score asks for reviews;
rules that match half of all traffic approve, so that rules are measured and not the reasons (TreeSHAP)
of other outcomes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from benchmarks import rest
from benchmarks.own_stack import OwnStack
from benchmarks.policy import SETTLED_S, editor_of
from benchmarks.rules import RULES
from benchmarks.stream import Stream, backlog_figures
from benchmarks.workload import take
from fraud.contracts.lists import ListEntry, ListType, ListUse
from fraud.contracts.rules import RuleSet
from fraud.runtime.settings import KafkaSettings

_ENTRIES: Final = 100_000


def _rule_set(expressions: list[str]) -> RuleSet:
    return RuleSet.model_validate(
        {
            "rules": [
                {
                    "id": f"R{at:03}",
                    "when": when,
                    "outcome": "review" if when.startswith("$score >= 9") else "approve",
                }
                for at, when in enumerate(expressions)
            ]
        }
    )


def _lists() -> Iterator[tuple[str, ListType, ListUse, list[ListEntry]]]:
    numbers = range(_ENTRIES)
    yield (
        "blocked_ips",
        ListType.IP,
        ListUse.BLOCK,
        [ListEntry(value=f"198.{18 + (n >> 16)}.{n >> 8 & 255}.{n & 255}") for n in numbers],
    )
    yield (
        "watched",
        ListType.ENTITY,
        ListUse.WATCH,
        [ListEntry(value=f"watched-{n:06}") for n in numbers],
    )
    yield (
        "blocked_emails",
        ListType.EMAIL,
        ListUse.REFERENCE,
        [ListEntry(value=f"user{n}@example.com") for n in numbers],
    )


def measure(
    own: OwnStack,
    source: Iterator[tuple[bytes, bytes]],
    *,
    rounds: int,
    backlog: int,
    seconds: float,
    console: Console,
) -> list[dict[str, Any]]:
    """Measure in turns: without rules and lists, and with them.

    Args:
        own: A running stack.
        source: Records that the stack has not seen.
        rounds: Measurements of each.
        backlog: Records of a backlog.
        seconds: Length of each measurement of REST.
        console: Output of progress.

    Returns:
        A row for each turn.
    """
    settings = KafkaSettings(
        kafka_bootstrap_servers=own.bootstrap_servers, state_dir=Path(own.env["STATE_DIR"])
    )
    stream, rows = Stream(own.bootstrap_servers), []
    asked = [value for _, value in take(source, 5_000)]
    with (
        rest.own_api(own.env) as (address, key),
        editor_of(settings) as (editor, policy_state),
    ):
        without = editor.draft(_rule_set([])).version
        kept: str | None = None
        for turn in islice(cycle(("without", "with")), 2 * rounds):
            if turn == "without":
                for name in list(policy_state.current().lists()):
                    editor.activate(without)
                    editor.drop_list(name)
                editor.activate(without)
            else:
                for name, kind, use, entries in _lists():
                    editor.make_list(name, kind, use)
                    editor.change_list(name, add=entries)
                kept = kept or editor.draft(_rule_set([when for _, when in RULES])).version
                editor.activate(kept)
            time.sleep(SETTLED_S)
            with console.status(f"stream {turn} rules and lists"):
                stream.at_rate(take(source, 1000), 500)
                arrivals = stream.backlog(take(source, backlog))
            policies = {one.policy_version for one in arrivals}
            if len(policies) != 1:
                raise RuntimeError(f"expected one policy in a turn, saw {len(policies)}")
            body = rest.bodies(asked, run=f"{time.time():.0f}")
            with console.status(f"REST {turn} rules and lists"):
                rest.load(f"{address}/v1/score", key, body, rate=200, seconds=seconds / 5)
                answered = rest.load(f"{address}/v1/score", key, body, rate=200, seconds=seconds)
            rows.append(
                {
                    "scenario": f"{turn} 20 rules and 3 lists",
                    "stream_per_s": backlog_figures(arrivals)["out_per_s"],
                    "rest_p50_ms": answered["p50_ms"],
                    "rest_p99_ms": answered["p99_ms"],
                    "rest_failed": answered["failed"],
                }
            )
    return rows
