"""`fraudstream replay`: send a file of transactions to Kafka."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fraud.contracts.topics import Topic
from fraud.kafka.batched_producer import KafkaWriter, WriterError
from fraud.runtime.command_line import failing
from fraud.runtime.lifecycle import load_settings, stop_event
from fraud.runtime.settings import KafkaSettings
from model.datasets import ColumnMapping, Dataset, DatasetError
from producer.replay import replay_file


class Order(StrEnum):
    """Order in which a file is replayed."""

    EVENT = "event"
    FILE = "file"


def replay(
    file: Annotated[
        Path, typer.Argument(help="CSV, JSON lines or Parquet; the first two also as .gz.")
    ],
    mapping: Annotated[
        Path, typer.Option("--mapping", "-m", help="TOML file: which column is which field.")
    ],
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.001, help="Transactions a second; without, as fast as Kafka takes them."
        ),
    ] = None,
    topic: Annotated[
        str | None, typer.Option(help="Topic of the transactions, if not the usual one.")
    ] = None,
    order: Annotated[
        Order, typer.Option(help="By event time (equal times as in the file), or as in the file.")
    ] = Order.EVENT,
    labels: Annotated[bool, typer.Option(help="Send the labels too, to the topic labels.")] = True,
    limit: Annotated[int | None, typer.Option(min=1, help="Rows to read at most.")] = None,
    delimiter: Annotated[
        str | None, typer.Option(help="Of a CSV; without, the header tells.")
    ] = None,
    encoding: Annotated[str, typer.Option(help="Of a CSV.")] = "utf-8-sig",
) -> None:
    """Send a file of transactions to Kafka, as if it happened now.

    Every row is sent. Rows that the contract refuses become dead letters, so that
    rows = processed + dead letters.
    """
    settings = load_settings(KafkaSettings)
    transactions = topic or settings.topic(Topic.TRANSACTIONS)
    label_topic = settings.topic(Topic.LABELS)
    if delimiter is not None:
        delimiter = {"tab": "\t", "\\t": "\t"}.get(delimiter, delimiter)
        if len(delimiter) != 1:
            raise failing(f"--delimiter: expected one character or tab, got {delimiter!r}")
    try:
        columns = ColumnMapping.read(mapping)
        dataset = Dataset(file, delimiter, encoding)
        dataset.check(columns)
        writer = KafkaWriter(settings.librdkafka(), linger_ms=5 if rate else 20)
        writer.check(transactions, timeout_s=10)
        if labels:
            writer.check(label_topic, timeout_s=10)
    except DatasetError as error:
        raise failing(str(error)) from None
    except LookupError as error:
        raise failing(f"--encoding: {error}") from None
    except WriterError as error:
        raise failing(
            f"{error} (is the stack up? KAFKA_BOOTSTRAP_SERVERS={settings.kafka_bootstrap_servers})",
            code=1,
        ) from None

    bars = Progress(
        TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=Console(stderr=True, soft_wrap=True),
    )  # fmt: skip
    try:
        with bars:
            reading = bars.add_task("reading %", total=100)
            sending = bars.add_task("sending", total=None, start=False, visible=False)

            def sent(done: int, total: int) -> None:
                if not done:
                    bars.start_task(sending)
                bars.update(sending, completed=done, total=total, visible=True)

            summary = replay_file(
                dataset,
                columns,
                writer,
                transactions=transactions,
                labels=label_topic if labels else None,
                by_time=order is Order.EVENT,
                limit=limit,
                rate=rate,
                stop=stop_event(),
                on_read=lambda share: bars.update(reading, completed=round(100 * share)),
                on_sent=sent,
            )
    except DatasetError as error:
        raise failing(str(error)) from None
    except WriterError as error:
        raise failing(f"Kafka refuses to go on: {error}", code=1) from None

    acknowledged = writer.acknowledged[transactions]
    say = typer.echo
    say(f"rows read        {summary.rows:>10,}")
    say(f"sent             {summary.sent:>10,}  to {transactions}")
    say(f"acknowledged     {acknowledged:>10,}")
    if labels:
        say(f"labels           {writer.acknowledged[label_topic]:>10,}  to {label_topic}")
    for code, count in sorted(summary.refused.items()):
        say(f"dead letters     {count:>10,}  to be expected: {code}")
    if summary.unlabelled:
        say(f"labels not sent  {summary.unlabelled:>10,}  their rows have no event_id")
    for reason, count in sorted(writer.refused.items()):
        say(f"refused by Kafka {count:>10,}  {reason}")
    if acknowledged < summary.rows or writer.acknowledged[label_topic] < summary.labels:
        raise typer.Exit(1)
