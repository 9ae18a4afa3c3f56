"""Commands on dead letters: show them, and send them back once their cause is fixed."""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final

import orjson
import typer
from confluent_kafka import KafkaException
from prometheus_client import Gauge
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flink_job.settings import JobSettings
from flink_job.unreadable import StepOverError
from flink_job.unreadable import step_over as skip_unreadable
from fraud.contracts.errors import Backpressure, ErrorCode
from fraud.contracts.times import utc_text
from fraud.contracts.topics import Topic
from fraud.contracts.transaction import event_time_to_ms
from fraud.kafka.batched_producer import WriterError
from fraud.kafka.dead_letter_replay import LetterFilter, ReplayRequest, ReplaySettings, topic_id
from fraud.kafka.dead_letter_replay import replay as send_back
from fraud.kafka.dead_letters import UNKNOWN, DeadLetter, ReplayedLetters, read_all
from fraud.kafka.topic_follower import TopicFeed, TopicReplaced
from fraud.runtime.clock import system_clock
from fraud.runtime.command_line import failing, print_json
from fraud.runtime.lifecycle import load_settings, stop_event
from fraud.runtime.logs import configure_command_logs, redact
from fraud.security.audit import AuditLog, at_the_command_line

app = typer.Typer(
    help="Dead letters: records that could not be decided, with the reason.", no_args_is_help=True
)

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_EXPORT_KEYS: Final = ("place", "failed_at", "error_code", "source", "bytes", "replayed_at", "error_message")  # fmt: skip

Code = Annotated[
    list[str] | None, typer.Option("--code", help="Only of this error code; may be repeated.")
]
Since = Annotated[
    str, typer.Option(help="Only from this time on: 2026-03-01T09:00:00Z, or 30m, 2h, 7d ago.")
]


def _filter(codes: list[str] | None, since: str, places: list[str] | None = None) -> LetterFilter:
    known = {*ErrorCode, UNKNOWN}
    for code in codes or ():
        if code not in known:
            raise failing(f"--code: expected one of {', '.join(sorted(known))}, got {code!r}")
    return LetterFilter(
        frozenset(codes or ()), _since_ms(since), frozenset(map(_place, places or ()))
    )


def _since_ms(text: str) -> int:
    """Parse a timestamp, or an age such as `2h`, into UTC epoch milliseconds; 0 if it is empty."""
    if not text:
        return 0
    number, unit = text[:-1], text[-1:]
    if number.isdecimal() and unit in _UNITS_S:
        return system_clock() - int(number) * _UNITS_S[unit] * 1000
    try:
        return event_time_to_ms(text)
    except (ValueError, OverflowError):
        raise failing(
            f"--since: expected a time such as 2026-03-01T09:00:00Z, or 30m, 2h, 7d, got {text!r}"
        ) from None


def _place(text: str) -> tuple[int, int]:
    partition, dash, offset = text.partition("-")
    if not (dash and partition.isdecimal() and offset.isdecimal()):
        raise failing(
            f"expected PARTITION-OFFSET as `dlq list` shows it, such as 0-17, got {text!r}"
        )
    return int(partition), int(offset)


@contextmanager
def _topic() -> Iterator[tuple[ReplaySettings, TopicFeed]]:
    """Open the dead-letter topic, and report errors in one line (exit code 1)."""
    configure_command_logs()
    settings = load_settings(ReplaySettings)
    lag = Gauge("fraudstream_dlq_lag", "Records not yet read.", registry=None)
    try:
        with TopicFeed(settings, Topic.DEAD_LETTERS, service="fraudstream-dlq", lag=lag) as feed:
            yield settings, feed
    except (TimeoutError, TopicReplaced) as error:
        raise failing(
            f"{error} (is the stack up? KAFKA_BOOTSTRAP_SERVERS={settings.kafka_bootstrap_servers})",
            code=1,
        ) from None
    except KafkaException as error:
        raise failing(f"Kafka: {error.args[0].str()}", code=1) from None


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in text)


def _row(letter: DeadLetter, replayed_at_ms: int | None) -> dict[str, Any]:
    place = letter.place
    value = letter.message.value
    return {
        "place": f"{place.partition}-{place.offset}",
        "failed_at": letter.failed_at or utc_text(max(0, letter.message.timestamp_ms)),
        "error_code": letter.error_code,
        "source": str(letter.source) if letter.source else None,
        "bytes": None if value is None else len(value),
        "replayed_at": None if replayed_at_ms is None else utc_text(replayed_at_ms),
        "error_message": letter.error_message,
    }


@app.command("list")
def list_letters(
    code: Code = None,
    since: Since = "",
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List dead letters, the newest first, and count them by error code."""
    wanted = _filter(code, since)
    newest: deque[dict[str, Any]] = deque(maxlen=limit)
    counts: Counter[str] = Counter()
    with _topic() as (settings, feed), ReplayedLetters(settings.state_dir) as replayed:
        for letter in read_all(feed):
            if wanted.matches(letter):
                counts[letter.error_code] += 1
                newest.append(_row(letter, replayed.replayed_at_ms(topic_id(feed), letter)))
    rows = list(reversed(newest))
    if json:
        print_json(rows)
        return
    if not rows:
        typer.echo("There are none.")
        return

    table = Table(box=None, pad_edge=False)
    for title in _EXPORT_KEYS:
        table.add_column(title.replace("_", " "), justify="right" if title == "bytes" else "left")
    for row in rows:
        shown = (
            "" if key == "replayed_at" and row[key] is None else str(row[key])
            for key in _EXPORT_KEYS
        )
        table.add_row(*(Text(_printable(text)) for text in shown))
    Console(width=None if Console().is_terminal else 200).print(table)
    for name, count in counts.most_common():
        typer.echo(f"{count:>10,} {name}")


@app.command()
def show(
    place: Annotated[str, typer.Argument(help="PARTITION-OFFSET, as `list` shows it.")],
    clear: Annotated[
        bool,
        typer.Option(
            "--clear", help="Only the value, byte for byte as it came, personal data included."
        ),
    ] = False,
) -> None:
    """Show one dead letter; values that may be personal are redacted."""
    wanted = LetterFilter(positions=frozenset({_place(place)}))
    with _topic() as (settings, feed), ReplayedLetters(settings.state_dir) as replayed:
        letter = next(filter(wanted.matches, read_all(feed)), None)
        if letter is None:
            raise failing(f"no dead letter is at {place}", code=1)
        row = _row(letter, replayed.replayed_at_ms(topic_id(feed), letter))
    if clear:
        sys.stdout.buffer.write(letter.message.value or b"")
        sys.stdout.flush()
        return
    for name, value in row.items():
        typer.echo(f"{name:<14} {_printable('' if value is None else str(value))}")
    typer.echo(_redacted(letter.message.value))


def _redacted(value: bytes | None) -> str:
    """Return a value as JSON, with personal data redacted."""
    if value is None:
        return "the value is null"
    try:
        record = orjson.loads(value)
    except orjson.JSONDecodeError:
        record = None
    if not isinstance(record, dict):
        return "the value is no JSON object, and nobody knows what is in it: --clear shows it"
    return orjson.dumps(redact(None, "", record), option=orjson.OPT_INDENT_2).decode()


@app.command()
def replay(
    places: Annotated[
        list[str] | None,
        typer.Argument(help="PARTITION-OFFSET of each, as `list` shows it; without, all."),
    ] = None,
    code: Code = None,
    since: Since = "",
    limit: Annotated[int | None, typer.Option(min=1, help="Send back at most so many.")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="FIELD=VALUE (JSON, or else text) to set first; may be repeated."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also those that would be dead letters again.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Also those that were sent back before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:  # fmt: skip
    """Send dead letters back to their original topic, once their cause is fixed.

    Dead letters that would be refused again are not sent. Each dead letter is sent back only
    once, however often this is run. Null values are never sent back.
    """
    request = ReplayRequest(
        _filter(code, since, places),
        dict(map(_edit, changes or ())),
        limit,
        force=force,
        again=again,
        dry_run=dry_run,
    )
    try:
        with _topic() as (settings, feed):
            result = send_back(settings, feed, request, stop_event())
    except WriterError as error:
        raise failing(f"Kafka refuses to go on: {error}", code=1) from None
    verb = "would be sent back" if dry_run else "sent back"
    for topic, count in result.sent.items():
        typer.echo(f"{count:>10,} {verb} to {topic}")
    for reason, count in result.kept.items():
        typer.echo(f"{count:>10,} {reason}")
    for reason, count in sorted(result.refused.items()):
        typer.echo(f"{count:>10,} refused by Kafka: {reason}")
    if result.unacknowledged:
        raise failing(
            f"{result.unacknowledged:,} of them were not acknowledged; run this again", code=1
        )


@app.command("step-over")
def step_over(
    partition: Annotated[int, typer.Argument(min=0, help="Partition, as `make status` shows it.")],
    offset: Annotated[int, typer.Argument(min=0, help="Offset, as `make status` shows it.")],
    whole_batch: Annotated[
        bool,
        typer.Option(
            "--whole-batch",
            help="Also if records behind it in its batch cannot be read here: they keep no values.",
        ),
    ] = False,
) -> None:
    """Get past a record of `transactions` that the job cannot read, such as one of a gigabyte.

    All before it is decided. It becomes a dead letter `unreadable` without its value, and the job
    goes on behind it. Records behind it in the same batch become dead letters with their values,
    which `replay` sends back.
    """
    configure_command_logs()
    settings = load_settings(JobSettings)
    change = AuditLog(settings.state_dir).change(
        at_the_command_line(),
        "dlq.stepped_over",
        settings.topic(Topic.TRANSACTIONS),
        after={"partition": partition, "offset": offset, "whole_batch": whole_batch},
    )
    try:
        with change:
            letters = skip_unreadable(
                settings, partition, offset, system_clock, whole_batch=whole_batch
            )
    except StepOverError as error:
        raise failing(str(error), code=1) from None
    except Backpressure as error:
        raise failing(f"Kafka: {error}", code=1) from None
    except KafkaException as error:
        raise failing(f"Kafka: {error.args[0].str()}", code=1) from None
    for letter in letters:
        kept = "without its value" if letter.value is None else "with its value"
        typer.echo(f"partition {letter.partition}, offset {letter.offset}: a dead letter {kept}")
    typer.echo("The job goes on behind it within seconds.")


def _edit(text: str) -> tuple[str, Any]:
    field, equals, value = text.partition("=")
    if not (field and equals):
        raise failing("--set: expected FIELD=VALUE, such as transaction_currency=USD")
    try:
        return field, orjson.loads(value)
    except orjson.JSONDecodeError:
        return field, value
