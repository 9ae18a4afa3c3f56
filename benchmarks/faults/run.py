"""A run: the load, the faults one step after another, the account, the table."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.error import URLError

from rich.console import Console

from benchmarks.faults import account as accounts
from benchmarks.faults.account import Account
from benchmarks.faults.inject import begin
from benchmarks.faults.load import Load
from benchmarks.faults.outputs import DEAD, INPUT, PROCESSED, Outputs, ends
from benchmarks.faults.plan import CUTS, KINDS, Fault, Step
from benchmarks.faults.stack import FaultStack
from devstack.errors import DevstackError

_LOOK_S: Final = 0.1
_AFTERWARDS: Final = 0.05
"""Share of a step's records that are kept for after its faults, to see the return of decisions."""


class NotRecoveredError(Exception):
    """The stack did not come back by itself in time; the message says what was waited for."""


@dataclass(slots=True)
class Result:
    """What a run found.

    Attributes:
        account: Figures of all records.
        faults: Faults by kind and victim.
        recoveries: Seconds from the end of a fault until the first record sent after it was
            decided, by kind; of faults that may stop decisions.
        repeated: Outputs that came again, by the faults of their step.
        cold_start_s: See `FaultStack.job_cold_start_s`.
        unacknowledged: Records that the broker refused or never took.
        problem: Why the run ended before its end; empty if it did not.
        seconds: How long the run took, without the start of the stack.
    """

    account: Account
    faults: Counter[str] = field(default_factory=Counter)
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    repeated: Counter[str] = field(default_factory=Counter)
    cold_start_s: float | None = None
    unacknowledged: int = 0
    problem: str = ""
    seconds: float = 0.0

    def broken(self, *, exactly_once: bool) -> list[str]:
        """Return what was promised and not kept, one line each; empty when all was."""
        found = self.account.faults(exactly_once=exactly_once)
        lines = [f"{name.replace('_', ' ')}: {figure}" for name, figure in found.items()]
        if self.unacknowledged:
            lines.append(f"records that the broker did not acknowledge: {self.unacknowledged}")
        return [self.problem, *lines] if self.problem else lines


def choices(
    stack: FaultStack,
    missing: Collection[str],
    only: Collection[str] = (),
    victims: Collection[str] = (),
) -> list[tuple[str, str]]:
    """Return the kinds and victims that a stack can have.

    Args:
        stack: The stack.
        missing: Kinds that this machine cannot have.
        only: Kinds to choose from; empty means all.
        victims: Victims to choose from; empty means all.

    Raises:
        DevstackError: Nothing is left to choose from.
    """
    found = []
    for kind, (known, _, _) in KINDS.items():
        everybody = list(known)
        if "taskmanager" in known:
            numbers = range(2, stack.taskmanagers + 1)
            everybody += [f"taskmanager-{number}" for number in numbers]
        if kind in missing or (only and kind not in only):
            continue
        found += [
            (kind, victim)
            for victim in everybody
            if (stack.proxies or victim not in CUTS) and (not victims or victim in victims)
        ]
    if not found:
        raise DevstackError("no such fault can happen to any such victim")
    return found


def print_plan(steps: Sequence[Step], rate: float, console: Console) -> None:
    """Print when which fault begins, if every earlier one took no time."""
    for step in steps:
        number = step.first + step.begins
        console.print(
            f"  after {number:>9,} records, {number / rate:>6.0f} s: "
            + " and ".join(map(str, step.faults)),
            highlight=False,
        )


def run(
    stack: FaultStack,
    steps: Sequence[Step],
    *,
    seed: int,
    rate: float,
    deadline_s: float,
    console: Console,
) -> Result:
    """Send the records of all steps, with their faults, and account for each.

    Nothing is helped: what does not come back within the deadline ends the run.

    Args:
        stack: A stack that works.
        steps: See `plan.draw`.
        seed: Of the load.
        rate: Records a second.
        deadline_s: Longest wait for decisions after a fault, and for everything at the end.
        console: Progress, one line per step.
    """
    # Hexadecimal time: runs on the same stack have different events.
    name = f"f{seed}-{int(time.time()):x}"
    count = sum(step.records for step in steps)
    began = time.monotonic()
    recoveries: dict[str, list[float]] = defaultdict(list)
    happened: Counter[str] = Counter()
    problem = ""
    with (
        Outputs(stack.kafka) as outputs,
        Load(stack.kafka, seed=seed, run=name, count=count, rate=rate) as load,
    ):
        try:
            for step in steps:
                _run_step(stack, step, load, outputs, deadline_s, recoveries, happened)
                _report(step, load, outputs, recoveries, began, console)
        except (NotRecoveredError, TimeoutError, RuntimeError) as error:
            problem = str(error)
            console.print(f"[bold]not recovered[/]: {problem}")
        found, late = _account(stack, name, load, outputs, deadline_s, console)
        return Result(
            account=found,
            faults=happened,
            recoveries=dict(recoveries),
            repeated=outputs.repeated,
            cold_start_s=stack.job_cold_start_s(),
            unacknowledged=load.queued - load.acknowledged,
            problem=problem or late,
            seconds=time.monotonic() - began,
        )


def _run_step(
    stack: FaultStack,
    step: Step,
    load: Load,
    outputs: Outputs,
    deadline_s: float,
    recoveries: dict[str, list[float]],
    happened: Counter[str],
) -> None:
    outputs.during = " and ".join(f"{fault.kind} {fault.victim}" for fault in step.faults)
    load.allow(step.first + step.begins)
    _wait(
        lambda: load.acknowledged >= step.first + step.begins or load.failed,
        deadline_s + step.records / 10,
        lambda: f"the load: {load.acknowledged:,} of {step.first + step.begins:,} acknowledged",
    )
    load.allow(step.first + int(step.records * (1 - _AFTERWARDS)))
    present: list[tuple[Fault, Callable[[], None], float]] = []
    for fault in step.faults:
        present.append((fault, begin(stack, fault), time.monotonic()))
        happened[f"{fault.kind} {fault.victim}"] += 1
    ended_at = time.monotonic()
    for fault, end, since in sorted(present, key=lambda one: one[2] + one[0].seconds):
        time.sleep(max(0.0, since + fault.seconds - time.monotonic()))
        ended_at = since if not fault.seconds else time.monotonic()
        end()
    marks = load.ends()
    load.allow(step.first + step.records)
    _wait(
        lambda: outputs.passed(marks),
        deadline_s,
        lambda: f"decisions after {outputs.during}: {stack.what_is_wrong()}",
    )
    for fault in step.faults:
        if fault.stops_deciding:
            recoveries[fault.kind].append(time.monotonic() - ended_at)
    _wait(
        stack.is_well,
        deadline_s,
        lambda: f"the stack after {outputs.during}: {stack.what_is_wrong()}",
    )


def _wait(done: Callable[[], object], within_s: float, what: Callable[[], str]) -> None:
    deadline = time.monotonic() + within_s
    while not done():
        if time.monotonic() > deadline:
            raise NotRecoveredError(f"waited {within_s:.0f} s for {what()}")
        time.sleep(_LOOK_S)


def _report(
    step: Step,
    load: Load,
    outputs: Outputs,
    recoveries: dict[str, list[float]],
    began: float,
    console: Console,
) -> None:
    fault = next((fault for fault in step.faults if fault.stops_deciding), None)
    took = f"decided again after {recoveries[fault.kind][-1]:.1f} s" if fault else "went on"
    console.print(
        f"{time.monotonic() - began:>6.0f} s {load.acknowledged:>9,} sent "
        f"{outputs.accounted():>9,} out, {outputs.repeated.total():,} again: "
        f"{' and '.join(map(str, step.faults))}: {took}",
        highlight=False,
    )


def _account(
    stack: FaultStack,
    name: str,
    load: Load,
    outputs: Outputs,
    deadline_s: float,
    console: Console,
) -> tuple[Account, str]:
    """Wait until everything has come out, or the deadline; return the account and what is late."""
    late = ""
    limit_s = deadline_s + load.queued / 1000
    last = ends(stack.kafka, INPUT)
    inputs = [
        (partition, offset)
        for partition, end in last.items()
        for offset in range(outputs.begins.get(partition, 0), end)
    ]
    counts = outputs.counts

    def came_out() -> bool:
        return all(place in counts[PROCESSED] or place in counts[DEAD] for place in inputs)

    def find(what: str, done: Callable[[], bool]) -> None:
        nonlocal late
        deadline = time.monotonic() + limit_s
        while not late:
            try:
                if done():
                    return
            except (URLError, OSError) as error:
                what = f"{what} ({error})"
            if time.monotonic() > deadline:
                late = f"waited {limit_s:.0f} s for {what}"
            time.sleep(1)

    with console.status("the rest of the records, documents and alerts"):
        find("the rest of the records", came_out)
        find(
            "documents",
            lambda: accounts.count_documents(stack.opensearch, name) >= len(load.event_ids),
        )
        ours = {event for event in set(outputs.blocked) if event.startswith(name)}
        find("alerts", lambda: ours <= accounts.messages(stack.mail_api, name).keys())
    found = accounts.account(
        inputs,
        load.is_dead_letter,
        dict(counts[PROCESSED]),
        dict(counts[DEAD]),
        load.event_ids,
        accounts.documents(stack.opensearch, name),
        {event for event in set(outputs.blocked) if event.startswith(name)},
        accounts.messages(stack.mail_api, name),
    )
    return found, late


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return the nearest-rank percentile; None of nothing.

    Example:
        >>> percentile([3.0, 1.0, 2.0], 50), percentile([], 50)
        (2.0, None)
    """
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def rows(result: Result) -> list[dict[str, Any]]:
    """Return the figures of a run: a row per kind of fault, and one of all.

    Times are seconds; those of all stand beside the job's cold start on the same machine.
    """
    kinds = dict.fromkeys(kind for kind in KINDS if _of_kind(result.faults, kind))
    return [
        *(
            _row(
                kind,
                _of_kind(result.faults, kind),
                _of_kind(result.repeated, kind),
                result.recoveries.get(kind, []),
            )
            for kind in kinds
        ),
        _row(
            "all",
            result.faults.total(),
            result.account.repeated,
            [seconds for times in result.recoveries.values() for seconds in times],
        ),
    ]


def _of_kind(counts: Counter[str], kind: str) -> int:
    return sum(count for what, count in counts.items() if what.startswith(kind))


def _row(kind: str, faults: int, repeated: int, recoveries: Sequence[float]) -> dict[str, Any]:
    times = {
        f"recovery_{name}_s": percentile(recoveries, percent)
        for name, percent in (("p50", 50), ("p95", 95), ("max", 100))
    }
    rounded = {name: value and round(value, 1) for name, value in times.items()}
    return {"scenario": kind, "faults": faults, "repeated": repeated, **rounded}
