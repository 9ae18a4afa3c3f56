"""The job beside two bare loops on one broker: latency, rate of a backlog, CPU time, and the ratios.

Absolute figures depend on the machine and on what else it does; ratios of systems that were measured
in turns, twice, the second time in reverse order, depend on it far less. Each turn starts its
system anew, with topics and an empty memory of its own, and sends it the same records.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Any, Final, Protocol

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.loops import READY
from benchmarks.own_stack import Broker, own_broker, run_module
from benchmarks.stream import LoadGenerator, Timing, rate_figures, read_timing
from benchmarks.workload import history_file, records, take
from devstack.ports import free_ports
from devstack.process import find_marked, running, tail
from devstack.service import Service
from fraud.contracts.topics import Topic

Row = dict[str, Any]
Record = tuple[bytes, bytes]
Processes = Callable[[], dict[str, list[psutil.Process]]]
"""The processes of a running system, by the name under which their CPU time is reported."""

RATES: Final = (500, 2000)
_BACKLOG: Final = "backlog"
_WARM_UP_RATE: Final = 400
_WARM_UP_S: Final = 10
_ROUNDS: Final = 2
_METRICS: Final = ("p50_ms", "p95_ms", "p99_ms", "out_per_s", "cpu_s")
_ROOT: Final = Path(__file__).parents[1]

# Parts of command lines that tell the processes of a stack apart; the rest are supervisors.
_ROLES: Final = {
    "StandaloneSessionClusterEntrypoint": "jobmanager",
    "TaskManagerRunner": "taskmanager",
    "pyflink": "python_workers",
}


class System(Protocol):
    """What turns the input topic into the output topic."""

    @property
    def what(self) -> str:
        """Kind of system: `job`, `plain` or `echo`."""
        ...

    @property
    def rev(self) -> str:
        """Commit of its code."""
        ...

    def running(self, env: Mapping[str, str], folder: Path) -> AbstractContextManager[Processes]:
        """Start it, wait until it is ready, and stop it on leaving.

        Args:
            env: Settings of our services: brokers and topics.
            folder: Empty folder for its state and logs.
        """
        ...


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop of `benchmarks.loops`, in one process."""

    what: str
    rev: str
    registry: Path

    @contextmanager
    def running(self, env: Mapping[str, str], folder: Path) -> Iterator[Processes]:
        """Run the loop, as `System.running` describes."""
        run_module("fraud.kafka.topics", env=env)
        log = folder / f"{self.what}.log"
        service = Service(
            name=self.what,
            command=(sys.executable, "-m", "benchmarks.loops", self.what),
            ready=lambda: None if READY in tail(log).splitlines() else "not reading yet",
            env={**env, "MODEL_REGISTRY": str(self.registry), "OMP_NUM_THREADS": "1"},
            cwd=_ROOT,
        )
        with running(service, folder) as process:
            yield lambda: {self.what: _family(process.pid)}


@dataclass(frozen=True, slots=True)
class Job:
    """The Flink job of a checkout, started by that checkout's own devstack.

    It is known by what stays the same between revisions: `python -m devstack up` and `down`, names of
    services and names of settings. Cluster, options and code are all of its revision.
    """

    what: str
    rev: str
    python: Path
    registry: Path

    @contextmanager
    def running(self, env: Mapping[str, str], folder: Path) -> Iterator[Processes]:
        """Run the job, as `System.running` describes."""
        web_port, ops_port = free_ports(2, "127.0.0.1")
        settings = {
            **env,
            "STATE_DIR": str(folder),
            "MODEL_REGISTRY": str(self.registry),
            "DEVSTACK_WITHOUT": "kafka",
            "FLINK_PORT": str(web_port),
            "FLINK_JOB_OPS_PORT": str(ops_port),
            "MIN_MEMORY_GB": "0",
        }
        try:
            self._devstack("up", "--only", "topics", "--only", "flink", env=settings, folder=folder)
            yield lambda: _stack_processes(folder)
        finally:
            self._devstack("down", env=settings, folder=folder)

    def _devstack(self, *arguments: str, env: Mapping[str, str], folder: Path) -> None:
        # The folder has no .env, which devstack would read.
        _run([str(self.python), "-m", "devstack", *arguments], cwd=folder, env=env)


def _run(command: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Run a command to its end and return its standard output.

    Raises:
        RuntimeError: It failed; the message holds its output.
    """
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def _family(pid: int) -> list[psutil.Process]:
    """Return a process with its descendants; none when it is gone."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def _stack_processes(folder: Path) -> dict[str, list[psutil.Process]]:
    """Find the processes of a devstack by the mark they carry, with descendants, by role."""
    marked = {process for one in find_marked(str(folder)) for process in _family(one.pid)}
    found: dict[str, list[psutil.Process]] = defaultdict(list)
    for process in marked:
        with suppress(psutil.Error):
            line = " ".join(process.cmdline())
            role = next((name for part, name in _ROLES.items() if part in line), "supervisors")
            found[role].append(process)
    return found


def _cpu_s(
    processes: Mapping[str, Sequence[psutil.Process]],
) -> dict[psutil.Process, tuple[str, float]]:
    """Read each process's name and CPU time so far, seconds, user and system."""
    found = {}
    for name, members in processes.items():
        for process in members:
            with suppress(psutil.Error):
                times = process.cpu_times()
                found[process] = (name, times.user + times.system)
    return found


@contextmanager
def _cpu_time(processes: Processes) -> Iterator[dict[str, float]]:
    """Fill a dictionary, on leaving, with the CPU seconds of each name meanwhile and their total."""
    taken: dict[str, float] = {}
    before = _cpu_s(processes())
    yield taken
    after = _cpu_s(processes())
    for process, (name, seconds) in sorted(after.items(), key=lambda item: item[1][0]):
        earlier = before[process][1] if process in before else 0.0
        taken[name] = taken.get(name, 0.0) + seconds - earlier
    taken["total"] = sum(taken.values())
    for name in taken:
        taken[name] = round(taken[name], 2)


class _Suspended:
    """Suspends a system's processes, so that a backlog is whole before the first of it is read.

    Attributes:
        resumed_ms: When they went on, UTC epoch milliseconds; set on leaving.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = [process for members in processes().values() for process in members]
        self.resumed_ms = 0.0

    def __enter__(self) -> None:
        for process in self._processes:
            with suppress(psutil.Error):
                process.suspend()

    def __exit__(self, *_: object) -> None:
        self.resumed_ms = time.time() * 1000
        for process in self._processes:
            with suppress(psutil.Error):
                process.resume()


@dataclass(frozen=True, slots=True)
class Load:
    """The records of one turn, the same in each.

    Attributes:
        warm_up: Sent first, at `_WARM_UP_RATE` and then as a small backlog; not measured.
        at_rate: Records by rate per second.
        backlog: Records that are all there before the first is read.
    """

    warm_up: Sequence[Record]
    at_rate: Mapping[int, Sequence[Record]]
    backlog: Sequence[Record]

    @classmethod
    def of(cls, source: Iterator[Record], *, seconds: float, backlog: int) -> Load:
        """Read the records of a turn from a workload."""
        warm_up = take(source, _WARM_UP_RATE * _WARM_UP_S + backlog // 10)
        at_rate = {rate: take(source, int(rate * seconds)) for rate in RATES}
        return cls(warm_up, at_rate, take(source, backlog))


def _turn(
    system: System, load: Load, broker: Broker, *, name: str, round_: int, console: Console
) -> Iterator[Row]:
    """Start one system, measure all scenarios and stop it.

    Args:
        system: The measured system.
        load: Records to send.
        broker: Broker of its topics.
        name: Prefix of its topics, and name of its folder.
        round_: Number of the round, for the rows.
        console: Output of progress.
    """
    label = f"round {round_}, {system.what} {system.rev}"
    folder = broker.folder / name
    folder.mkdir()
    topics = {topic: f"{name}.{topic.value}" for topic in Topic}
    env = {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        **{f"TOPIC_{topic.replace('.', '_').upper()}": given for topic, given in topics.items()},
    }
    console.print(f"{label}: starting", highlight=False)
    with system.running(env, folder) as processes:

        def everyone() -> dict[str, list[psutil.Process]]:
            return {**processes(), "broker": _family(broker.pid)}

        generator: LoadGenerator[Timing] = LoadGenerator(
            broker.bootstrap_servers,
            topics[Topic.TRANSACTIONS],
            topics[Topic.PROCESSED],
            read_timing,
        )
        console.print(f"{label}: warming up", highlight=False)
        at = _WARM_UP_RATE * _WARM_UP_S
        generator.at_rate(load.warm_up[:at], _WARM_UP_RATE)
        generator.backlog(load.warm_up[at:])
        for scenario in (*load.at_rate, _BACKLOG):
            with _cpu_time(everyone) as cpu_s:
                if isinstance(scenario, int):
                    sent = load.at_rate[scenario]
                    figures = rate_figures(generator.at_rate(sent, scenario), scenario)
                else:
                    suspended = _Suspended(processes)
                    arrivals = generator.backlog(load.backlog, suspended)
                    taken_ms = max(one.decided_ms for one in arrivals) - suspended.resumed_ms
                    figures = {"out_per_s": len(arrivals) * 1000 / taken_ms}
            row = {
                "what": system.what,
                "rev": system.rev,
                "scenario": str(scenario),
                "round": round_,
                **{name: figures.get(name) for name in _METRICS if name != "cpu_s"},
                "cpu_s": cpu_s,
                "load_1m": round(os.getloadavg()[0], 2),
            }
            console.print(f"{label}: {_in_words(row)}", highlight=False)
            yield row


def _in_words(row: Row) -> str:
    if row["scenario"] == _BACKLOG:
        told = f"backlog {row['out_per_s']:,.0f}/s"
    else:
        told = f"{row['scenario']}/s p50 {row['p50_ms']} p95 {row['p95_ms']} p99 {row['p99_ms']} ms"
    return f"{told}, CPU {row['cpu_s']['total']:.1f} s, load average {row['load_1m']:.1f}"


def ratios(rows: Sequence[Row], rev: str) -> list[Row]:
    """Compare the job with every other measured system.

    Args:
        rows: Rows of `measure`; of several rounds the geometric mean counts.
        rev: The compared revision; other revisions of the job are baselines.

    Returns:
        Per pair and scenario the ratios of latencies, rate and CPU seconds; None where a figure is missing.

    Example:
        >>> at = {"scenario": "500", "p95_ms": 9, "out_per_s": 500.0}
        >>> job = {"what": "job", "rev": "a", "p50_ms": 50, "p99_ms": 90, "cpu_s": {"total": 6.0}}
        >>> echo = {"what": "echo", "rev": "a", "p50_ms": 5, "p99_ms": 30, "cpu_s": {"total": 2.0}}
        >>> round(ratios([at | job, at | echo], "a")[0]["p50_ms"], 3)
        10.0
    """
    means: dict[tuple[str, str, str], dict[str, float | None]] = {}
    scenarios = list(dict.fromkeys(row["scenario"] for row in rows))
    systems = list(dict.fromkeys((row["what"], row["rev"]) for row in rows))
    for what, of_rev in systems:
        for scenario in scenarios:
            same = [
                row
                for row in rows
                if (row["what"], row["rev"], row["scenario"]) == (what, of_rev, scenario)
            ]
            if same:
                means[what, of_rev, scenario] = {name: _mean(same, name) for name in _METRICS}
    others = sorted({other for what, other in systems if what == "job" and other != rev})
    pairs = [(("job", rev), ("plain", rev)), (("job", rev), ("echo", rev))]
    pairs += [(("job", rev), ("job", other)) for other in others]
    compared = []
    for above, below in pairs:
        for scenario in scenarios:
            if (*above, scenario) not in means or (*below, scenario) not in means:
                continue
            upper, lower = means[*above, scenario], means[*below, scenario]
            name = f"job/{below[0]}" if below[1] == rev else f"job {rev}/job {below[1]}"
            found: Row = {"ratio": name, "scenario": scenario}
            for metric in _METRICS:
                a, b = upper[metric], lower[metric]
                found[metric] = None if a is None or b is None else a / b
            compared.append(found)
    return compared


def _mean(rows: Sequence[Row], metric: str) -> float | None:
    values = [row[metric]["total"] if metric == "cpu_s" else row[metric] for row in rows]
    return geometric_mean(values) if all(values) else None  # no figure, or nothing to divide by


def ratio_table(compared: Sequence[Row]) -> Table:
    """Format ratios; below 1, the job is quicker, slower at a backlog, or uses less CPU."""
    table = Table(title="ratios (geometric means of all rounds)", title_justify="left")
    for column in ("ratio", "scenario", *_METRICS):
        table.add_column(column, justify="left" if column == "ratio" else "right")
    for row in compared:
        figures = ("-" if row[name] is None else f"{row[name]:.2f}" for name in _METRICS)
        table.add_row(row["ratio"], row["scenario"], *figures)
    return table


def own_rev() -> str:
    """Return the short commit of this checkout, with `+` when files differ from it."""
    commit = _run(["git", "rev-parse", "--short", "HEAD"], cwd=_ROOT).strip()
    changed = _run(["git", "status", "--porcelain", "--untracked-files=no"], cwd=_ROOT)
    return commit + ("+" if changed else "")


@contextmanager
def _checkout(rev: str, console: Console) -> Iterator[tuple[str, Path]]:
    """Check a commit out into a temporary folder with an environment of its own.

    Yields:
        Its short commit and its Python.
    """
    commit = _run(["git", "rev-parse", "--short", f"{rev}^{{commit}}"], cwd=_ROOT).strip()
    with tempfile.TemporaryDirectory(prefix="fraudstream-bench-") as folder:
        tree = Path(folder) / commit
        console.print(f"setting up {commit} in {tree}", highlight=False)
        _run(["git", "worktree", "add", "--detach", str(tree), commit], cwd=_ROOT)
        try:
            _run(["make", "setup"], cwd=tree)
            yield commit, tree / ".venv" / "bin" / "python"
        finally:
            _run(["git", "worktree", "remove", "--force", str(tree)], cwd=_ROOT)


def _train(python: Path, data: Path, folder: Path, console: Console, rev: str) -> Path:
    """Train a checkout's model from a history; return the registry."""
    console.print(f"training the model of {rev}", highlight=False)
    folder.mkdir()
    registry = folder / "models"
    env = {**os.environ, "STATE_DIR": str(folder), "MODEL_REGISTRY": str(registry)}
    command = [str(python), "-m", "model", "train", "--if-missing", "--data", str(data)]
    _run(command, cwd=folder, env=env)
    return registry


def measure(
    data: Path,
    *,
    seconds: float,
    backlog: int,
    rounds: int = _ROUNDS,
    against: str = "",
    console: Console,
) -> tuple[list[Row], str]:
    """Measure job, plain loop and echo in turns, and another revision's job beside them.

    Args:
        data: Folder of the workloads.
        seconds: Length of each scenario at a rate; latencies of its first 5 s are left out.
        backlog: Records of the backlog.
        rounds: Measurements of each; every second time in reverse order.
        against: Commit whose job is measured too; empty for none.
        console: Output of progress.

    Returns:
        One row per system, scenario and round; and the revision of this checkout.
    """
    rev = own_rev()
    workload = history_file(data, days=60, customers=5000, seed=7)
    training = history_file(data, days=45, customers=2000, seed=11).resolve()
    load = Load.of(records(workload, run="bench"), seconds=seconds, backlog=backlog)
    with ExitStack() as stack:
        checkouts = [(rev, Path(sys.executable))]
        if against:
            other, python = stack.enter_context(_checkout(against, console))
            # The same commit twice shows how much two turns differ by themselves.
            checkouts.append((f"{other}-again" if other == rev else other, python))
        broker = stack.enter_context(own_broker(console))
        registries = {
            name: _train(python, training, broker.folder / f"model-{name}", console, name)
            for name, python in checkouts
        }
        echo = Loop("echo", rev, registries[rev])
        systems: list[System] = [Job("job", name, at, registries[name]) for name, at in checkouts]
        systems += [Loop("plain", rev, registries[rev]), echo]
        # The broker's JVM compiles while it is young, which the first turn would pay for.
        console.print("warming up the broker", highlight=False)
        young = Load(load.warm_up, {2000: load.at_rate[2000][:20_000]}, load.backlog)
        list(_turn(echo, young, broker, name="broker", round_=0, console=Console(quiet=True)))
        rows: list[Row] = []
        for round_ in range(1, rounds + 1):
            for system in systems if round_ % 2 else reversed(systems):
                name = f"{system.what}-{system.rev}-{round_}".replace("+", "-changed")
                rows += _turn(system, load, broker, name=name, round_=round_, console=console)
    return rows, rev
