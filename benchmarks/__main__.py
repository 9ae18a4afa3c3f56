"""`python -m benchmarks`, or `fraudstream bench`: measure the stream, REST, features, training, rules and alerts. Results are printed, not asserted."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer
from rich.console import Console

from benchmarks import rest as rest_load
from benchmarks.features import offline_figures
from benchmarks.governance import measure as measure_governance
from benchmarks.keys import key_figures, state_figures
from benchmarks.own_stack import own_broker, own_stack
from benchmarks.partitions import live_records, partition_figures
from benchmarks.report import publish
from benchmarks.rules import rule_figures
from benchmarks.stream import Stream, backlog_figures, measure
from benchmarks.training import training_figures
from benchmarks.workload import history_file, records, take

app = typer.Typer(add_completion=False, no_args_is_help=False, pretty_exceptions_enable=False)
_DATA: Final = Path(__file__).parent / "results" / "data"

Quick = Annotated[bool, typer.Option("--quick", help="A tenth of the load, to check that it runs.")]


def _console() -> Console:
    """Return standard output, wide enough for the tables even without a terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def _command() -> str:
    given = sys.argv[1:]
    if given[:1] == ["bench"]:  # asked for as `fraudstream bench`
        given = given[1:]
    return " ".join(["python -m benchmarks", *given])


@app.command()
def stream(
    quick: Quick = False,
    against: Annotated[
        str, typer.Option(help="Bootstrap servers of a running stack instead of one of our own.")
    ] = "",
) -> None:
    """Kafka to Kafka: 500/s for a minute, 2,000/s for two, a backlog of 200,000."""
    console = _console()
    _DATA.mkdir(parents=True, exist_ok=True)
    scale = 0.1 if quick else 1.0
    workload = history_file(_DATA, days=60, customers=5000, seed=7)
    source = records(workload, run=f"bench-{time.time():.0f}")
    rates = [(500.0, 60 * scale), (2000.0, 120 * scale)]
    backlog = int(200_000 * scale)
    if against:
        figures = measure(against, source, rates=rates, backlog=backlog, console=console)
        beside = "the whole stack, on the same machine"
    else:
        with own_stack(workload, console) as own:
            figures = measure(
                own.bootstrap_servers, source, rates=rates, backlog=backlog, console=console
            )
        beside = "broker, Flink and load generator on the same machine, nothing else"
    publish("stream", figures, command=_command(), beside=beside, console=console)


@app.command()
def yardstick(
    quick: Quick = False,
    seconds: Annotated[
        float, typer.Option(min=6, help="Length of each scenario at a rate.")
    ] = 30.0,
    backlog: Annotated[int, typer.Option(min=1000, help="Records of the backlog.")] = 60_000,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the rows to this file.")
    ] = None,
    against: Annotated[
        str, typer.Option(help="Commit whose job is measured beside this one's.")
    ] = "",
) -> None:
    """The job, a plain loop and an echo, in turns on one broker: latency, rate, CPU time and ratios."""
    from benchmarks import yardstick as turns

    console = _console()
    _DATA.mkdir(parents=True, exist_ok=True)
    rows, rev = turns.measure(
        _DATA,
        seconds=8.0 if quick else seconds,
        backlog=backlog // 10 if quick else backlog,
        rounds=1 if quick else 2,
        against=against,
        console=console,
    )
    beside = "broker and load generator on the same machine; see load_1m for what else ran"
    publish("yardstick", rows, command=_command(), beside=beside, console=console)
    console.print(turns.ratio_table(turns.ratios(rows, rev)))
    if json_file:
        json_file.write_bytes(orjson.dumps(rows, option=orjson.OPT_INDENT_2))


@app.command()
def rest(
    quick: Quick = False,
    url: Annotated[
        str, typer.Option(help="Address of a running API instead of one of our own.")
    ] = "",
    rate: Annotated[list[float] | None, typer.Option(help="Requests a second; repeatable.")] = None,
    seconds: Annotated[float, typer.Option(help="Length of each scenario.")] = 30.0,
    key: Annotated[
        str, typer.Option(envvar="FRAUDSTREAM_API_KEY", help="API key of the running API.")
    ] = "",
) -> None:
    """One transaction at 200/s and 500/s, then the capacity, one by one and in lists."""
    console = _console()
    _DATA.mkdir(parents=True, exist_ok=True)
    workload = history_file(_DATA, days=60, customers=5000, seed=7)
    run = f"bench-{time.time():.0f}"
    source = records(workload, run=run)
    known = take(source, 20_000)
    asked = [value for _, value in take(source, 10_000)]

    def scenarios(address: str, key: str) -> list[dict[str, Any]]:
        return rest_load.measure(
            f"{address.rstrip('/')}/v1/score",
            key,
            asked,
            rates=rate or [200.0, 500.0],
            seconds=seconds * (0.1 if quick else 1.0),
            run=run,
            console=console,
        )

    if url:
        figures, beside = scenarios(url, key), "the whole stack, on the same machine"
    else:
        with own_stack(workload, console) as own:
            # So that those who are asked about have a history.
            Stream(own.bootstrap_servers).backlog(known)
            with rest_load.own_api(own.env) as (address, own_key):
                figures = scenarios(address, own_key)
        beside = "broker, Flink (idle) and load generator on the same machine, nothing else"
    publish("rest", figures, command=_command(), beside=beside, console=console)


@app.command()
def entities(
    quick: Quick = False,
    backend: Annotated[str, typer.Option(help="hashmap or rocksdb.")] = "hashmap",
) -> None:
    """The history's state and rate with 100,000 entities, by Flink's own figures."""
    console = _console()
    _DATA.mkdir(parents=True, exist_ok=True)
    customers = 10_000 if quick else 100_000
    workload = history_file(_DATA, days=3, customers=customers, seed=7)
    everyone = list(records(workload, run=f"bench-{time.time():.0f}"))
    with own_stack(workload, console, {"FLINK_STATE_BACKEND": backend}) as own:
        with console.status(f"{len(everyone):,} transactions of {customers:,} entities"):
            backlog = backlog_figures(Stream(own.bootstrap_servers).backlog(everyone))
            checkpoint = own.cluster.completed_checkpoint(own.job, after_ms=time.time() * 1000)
        figures = {
            "scenario": f"{customers:,} customers",
            "entities": len({key for key, _ in everyone}),
            "records": len(everyone),
            "out_per_s": backlog["out_per_s"],
            "state_mb": checkpoint["state_size"] / 1e6,
            "bytes_per_record": checkpoint["state_size"] / len(everyone),
            "checkpoint_ms": checkpoint["end_to_end_duration"],
        }
        by_key = state_figures(own, everyone)
    beside = f"{backend}; broker, Flink and load generator on the same machine, nothing else"
    publish("entities", [figures], command=_command(), beside=beside, console=console)
    publish("state", by_key, command=_command(), beside=beside, console=console)


@app.command()
def keys(
    quick: Quick = False,
    backend: Annotated[str, typer.Option(help="hashmap or rocksdb.")] = "hashmap",
) -> None:
    """The cost of each key: a backlog with one, two and three keys, and the size of its state."""
    console = _console()
    _DATA.mkdir(parents=True, exist_ok=True)
    count = 4_000 if quick else 40_000
    workload = history_file(_DATA, days=60, customers=5000, seed=7)
    source = records(workload, run=f"bench-{time.time():.0f}")
    with (
        own_stack(workload, console, {"FLINK_STATE_BACKEND": backend}) as own,
        console.status("backlogs with one, two and three keys"),
    ):
        figures = key_figures(own, source, count)
    beside = f"{backend}; broker, Flink and load generator on the same machine, see load_before"
    publish("keys", figures, command=_command(), beside=beside, console=console)


@app.command()
def fresh(
    quick: Quick = False,
    backend: Annotated[str, typer.Option(help="hashmap or rocksdb.")] = "hashmap",
    count: Annotated[int, typer.Option("--keys", min=1, help="Number of keys.")] = 5_000_000,
) -> None:
    """Keys that were never seen: whether the job keeps them in the memory that it has by default."""
    from benchmarks.fresh_keys import fresh_key_figures

    console = _console()
    figures = [fresh_key_figures(count // 10 if quick else count, backend, console)]
    publish("fresh", figures, command=_command(), beside="Flink alone", console=console)


@app.command()
def partitions(
    quick: Quick = False,
    parallelism: Annotated[int, typer.Option(min=1, help="Parallelism of the job.")] = 2,
    count: Annotated[int, typer.Option(min=1, help="Partitions of the topics.")] = 4,
) -> None:
    """The share of features of IP addresses and merchants that differ with several partitions."""
    console = _console()
    _DATA.mkdir(parents=True, exist_ok=True)
    workload = history_file(_DATA, days=60, customers=5000, seed=7)
    run, rate, before = (
        f"bench-{time.time():.0f}",
        20.0 if quick else 100.0,
        12_000 if quick else 200_000,
    )
    live = live_records(rate, run)
    fast = take(records(workload, run=run), 3_000 if quick else 30_000)
    scenarios: list[tuple[str, int, float | None]] = [
        ("a live world's past, as a backlog", before, None),
        (f"the same world, live at {rate:g}/s", int(60 * rate), rate),
        ("5,000 customers, a month in a minute", len(fast), 500.0),
    ]
    source = live[: before + int(60 * rate)] + fast
    settings = {"FLINK_PARALLELISM": str(parallelism), "TRANSACTIONS_PARTITIONS": str(count)}
    with (
        own_stack(workload, console, settings) as own,
        console.status(f"{len(source):,} transactions"),
    ):
        figures = partition_figures(own.bootstrap_servers, source, scenarios)
    beside = f"{count} partitions, parallelism {parallelism}; see load_before"
    publish("partitions", figures, command=_command(), beside=beside, console=console)


@app.command()
def rings(quick: Quick = False) -> None:
    """Model quality and cost with rings of other lengths for IP addresses and merchants, offline."""
    from benchmarks.rings import ring_figures

    console = _console()
    _DATA.mkdir(parents=True, exist_ok=True)
    workload = history_file(
        _DATA, days=30 if quick else 45, customers=500 if quick else 5000, seed=7
    )
    with console.status("training with rings of several lengths"):
        figures = ring_figures(workload)
    publish("rings", figures, command=_command(), beside="CPU time counts", console=console)


@app.command()
def features(quick: Quick = False) -> None:
    """Features of a million transactions with their histories, in this process: time and memory."""
    console = _console()
    _DATA.mkdir(parents=True, exist_ok=True)
    workload = history_file(
        _DATA, days=30 if quick else 85, customers=500 if quick else 5000, seed=7
    )
    with console.status("features"):
        figures = offline_figures(workload, 20_000 if quick else 1_000_000)
    beside = "nothing else on the machine"
    publish("features", figures, command=_command(), beside=beside, console=console)


@app.command()
def training(quick: Quick = False) -> None:
    """Train on a million transactions, from the file to the report: time and memory."""
    console = _console()
    _DATA.mkdir(parents=True, exist_ok=True)
    workload = history_file(
        _DATA, days=30 if quick else 85, customers=500 if quick else 5000, seed=7
    )
    with console.status("training"):
        figures = training_figures(workload)
    beside = "whatever else runs, see load_before"
    publish("training", [figures], command=_command(), beside=beside, console=console)


@app.command()
def simulator(quick: Quick = False) -> None:
    """A million simulated transactions on one core, generated, and generated and written to Parquet."""
    from benchmarks.simulator import measure as measure_simulator

    console = _console()
    with console.status("simulating"):
        figures = measure_simulator(100_000 if quick else 1_000_000)
    publish(
        "simulator",
        figures,
        command=_command(),
        beside="one core; cpu_s leaves out what else ran",
        console=console,
    )


@app.command()
def rules(
    rows: Annotated[int, typer.Option(help="Transactions per batch.")] = 1000,
    repeats: Annotated[int, typer.Option(help="Batches per rule.")] = 1000,
) -> None:
    """Twenty typical rules on a batch in memory, one by one and together."""
    console = _console()
    with console.status("rules"):
        figures = rule_figures(rows, repeats)
    beside = f"{rows:,} transactions a batch, {repeats:,} batches; one core"
    publish("rules", figures, command=_command(), beside=beside, console=console)


@app.command()
def governance(
    quick: Quick = False,
    rounds: Annotated[int, typer.Option(min=1, help="Turns with and without.")] = 3,
) -> None:
    """Twenty rules and three lists of 100,000 entries against none, on the stream and over REST, in turns."""
    console = _console()
    _DATA.mkdir(parents=True, exist_ok=True)
    workload = history_file(_DATA, days=60, customers=5000, seed=7)
    source = records(workload, run=f"bench-{time.time():.0f}")
    with own_stack(workload, console) as own:
        figures = measure_governance(
            own,
            source,
            rounds=1 if quick else rounds,
            backlog=10_000 if quick else 60_000,
            seconds=3 if quick else 20,
            console=console,
        )
    beside = "broker, Flink, API and load generator on the same machine, nothing else"
    publish("governance", figures, command=_command(), beside=beside, console=console)


@app.command()
def switching(
    quick: Quick = False,
    rate: Annotated[float, typer.Option(help="Transactions a second.")] = 1000.0,
    rest_rate: Annotated[float, typer.Option(help="Requests a second.")] = 200.0,
    seconds: Annotated[float, typer.Option(help="Length of the measurement.")] = 120.0,
    every_s: Annotated[float, typer.Option(help="Seconds between switches.")] = 3.0,
) -> None:
    """Rules, lists and models switched under load: the delay, and every decision computed again."""
    from benchmarks.switching import measure as measure_switching

    console = _console()
    _DATA.mkdir(parents=True, exist_ok=True)
    workload = history_file(_DATA, days=60, customers=5000, seed=7)
    source = records(workload, run=f"bench-{time.time():.0f}")
    with own_stack(workload, console) as own:
        figures = measure_switching(
            own,
            source,
            rate=rate,
            rest_rate=rest_rate,
            seconds=seconds * (0.2 if quick else 1.0),
            every_s=every_s,
            data=_DATA,
            console=console,
        )
    beside = "broker, Flink, API and load generators on the same machine, nothing else"
    publish("switching", figures, command=_command(), beside=beside, console=console)


@app.command()
def indexer(
    quick: Quick = False,
    rate: Annotated[float, typer.Option(help="Documents a second.")] = 500.0,
    seconds: Annotated[float, typer.Option(help="Length of the measurement of latency.")] = 60.0,
    outage: Annotated[float, typer.Option(help="Minutes without OpenSearch.")] = 10.0,
) -> None:
    """From produced to searchable at a rate, and the recovery from an outage of OpenSearch."""
    from benchmarks.index import measure as measure_index

    console = _console()
    _DATA.mkdir(parents=True, exist_ok=True)
    scale = 0.1 if quick else 1.0
    latency, outage_figures = measure_index(
        history_file(_DATA, days=60, customers=5000, seed=7),
        rate=rate,
        seconds=seconds * scale,
        outage_s=outage * 60 * scale,
        console=console,
    )
    beside = "broker, OpenSearch, its searches and the load on the same machine; see load_before"
    publish("indexer", [latency], command=_command(), beside=beside, console=console)
    publish("indexer-outage", [outage_figures], command=_command(), beside=beside, console=console)


@app.command()
def notifier(
    quick: Quick = False,
    only: Annotated[
        list[str] | None, typer.Option(help="stream, flood or outage; repeatable. Default: all.")
    ] = None,
    outage_s: Annotated[
        float, typer.Option(help="Length of the outage of the mail server, seconds.")
    ] = 600.0,
) -> None:
    """From produce to mail accepted at 500/s; 2,000 alerts in a minute; the mail server down."""
    from benchmarks import notifier as alerts

    console = _console()
    _DATA.mkdir(parents=True, exist_ok=True)
    scale = 0.1 if quick else 1.0
    parts = only or ["stream", "flood", "outage"]
    figures = []
    if "stream" in parts:
        workload = history_file(_DATA, days=60, customers=5000, seed=7)
        source = records(workload, run=f"bench-{time.time():.0f}")
        with (
            own_stack(workload, console) as own,
            tempfile.TemporaryDirectory(prefix="fraudstream-bench-") as folder,
            console.status("500 transactions a second"),
        ):
            figures.append(
                alerts.stream_figures(
                    own.bootstrap_servers,
                    source,
                    rate=500.0,
                    seconds=120 * scale,
                    folder=Path(folder),
                )
            )
    if "flood" in parts:
        with own_broker(console) as broker, console.status("a flood of alerts"):
            figures.append(
                alerts.flood_figures(
                    broker.bootstrap_servers,
                    broker.folder,
                    alerts=int(2000 * scale),
                    seconds=60 * scale,
                )
            )
    if "outage" in parts:
        with own_broker(console) as broker, console.status("an outage"):
            figures.append(
                alerts.outage_figures(
                    broker.bootstrap_servers, broker.folder, rate=500.0, outage_s=outage_s * scale
                )
            )
    beside = (
        "broker, mail server and load generator on the same machine; with the stream Flink, too"
    )
    publish("notifier", figures, command=_command(), beside=beside, console=console)


@app.command()
def dryrun(quick: Quick = False) -> None:
    """Rules tried on a million past transactions from a broker of its own: time and memory."""
    from benchmarks.dryrun import dry_run_figures

    console = _console()
    _DATA.mkdir(parents=True, exist_ok=True)
    figures = dry_run_figures(_DATA, 50_000 if quick else 1_000_000, console)
    beside = "the broker on the same machine; cpu_s leaves out what else ran"
    publish("dryrun", figures, command=_command(), beside=beside, console=console)


@app.command()
def control(quick: Quick = False) -> None:
    """The start of a worker after 200 daily replacements of a list of 100,000 entries."""
    from benchmarks import control as topic

    console = _console()
    with own_broker(console) as broker:
        figures = topic.measure(
            broker.bootstrap_servers,
            broker.folder,
            days=40 if quick else 200,
            entries=10_000 if quick else 100_000,
            console=console,
        )
    beside = "the broker on the same machine; medians of three"
    publish("control", figures, command=_command(), beside=beside, console=console)


@app.command()
def faults(
    records: Annotated[int, typer.Option(min=100, help="Records to send.")] = 20_000,
    faults: Annotated[int, typer.Option(min=1, help="Faults, spread over the records.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the load and the faults.")] = 1,
    exactly_once: Annotated[
        bool, typer.Option("--exactly-once", help="Publish in transactions.")
    ] = False,
    parallelism: Annotated[
        int, typer.Option(min=1, help="Of the job; above 1 each instance has a TaskManager.")
    ] = 1,
    rate: Annotated[float, typer.Option(min=1, help="Records a second.")] = 300.0,
    only: Annotated[
        list[str] | None, typer.Option(help="A kind of fault; repeatable. Default: all.")
    ] = None,
    victim: Annotated[
        list[str] | None, typer.Option(help="Whom they hit; repeatable. Default: everybody.")
    ] = None,
    deadline_s: Annotated[
        float, typer.Option(min=10, help="Longest wait for the stack to recover, seconds.")
    ] = 300.0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write plan and figures to this file.")
    ] = None,
) -> None:
    """Faults drawn from a seed, under load, on a stack of its own; then an account of every record."""
    from benchmarks.faults.command import break_things

    kept = break_things(
        records=records,
        faults=faults,
        seed=seed,
        exactly_once=exactly_once,
        parallelism=parallelism,
        rate=rate,
        only=only or [],
        victims=victim or [],
        deadline_s=deadline_s,
        json_file=json_file,
        command=_command(),
        console=_console(),
    )
    if not kept:
        raise typer.Exit(1)


@app.callback(invoke_without_command=True)
def everything(context: typer.Context) -> None:
    """Run all benchmarks, one after the other."""
    # As Ctrl-C does: what was started is stopped, and folders are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if context.invoked_subcommand is None:
        for one in app.registered_commands:
            if one.callback is not None:
                one.callback()


if __name__ == "__main__":
    app()
