"""Outputs of the running stack for the fixed records, read from outside.

The stack is started by `python -m devstack up` in a folder of its own, with one partition and one
model, and is asked over Kafka, HTTP and OpenSearch alone: nothing here depends on where its code is.
"""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import boto3
import httpx
import orjson
from botocore.exceptions import ClientError
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from devstack.ports import free_ports
from tools.outputs.records import Record

OF_THE_MOMENT: Final = frozenset(
    {"scored_at", "frauddetector_time", "proc_time", "ttdf", "timestamp_ms", "decision_ms"}
)
"""Fields of a decision that no two runs have in common: those of tests/parity. Of `source` only the
timestamp is: one partition has the same offsets in every run."""

_DEADLINE_S: Final = 900.0
_PORTS: Final = (
    *("KAFKA_PORT", "OPENSEARCH_PORT", "API_PORT", "FLINK_PORT", "SMTP_PORT", "MAIL_UI_PORT"),
    *("PRODUCER_OPS_PORT", "FLINK_JOB_OPS_PORT", "NOTIFIER_OPS_PORT", "INDEXER_OPS_PORT"),
)
_LIST: Final = 500
"""Records in one request; the contract allows 1,000."""

_PAGE: Final = 1000
_EVERY_NTH_DOCUMENT: Final = 5

_AFD_LISTS: Final[Mapping[str, dict[str, str]]] = MappingProxyType(
    {
        "get_detectors": {},
        "get_detector_version": {"detectorId": "payments", "detectorVersionId": "1"},
        "get_entity_types": {},
        "get_event_types": {},
        "get_labels": {},
        "get_list_elements": {"name": "nobody"},
        "get_lists_metadata": {},
        "get_models": {},
        "get_outcomes": {},
        "get_rules": {"detectorId": "payments"},
        "get_variables": {},
        "get_batch_import_jobs": {},
    }
)
_AFD_VARIABLES: Final = (
    *("transaction_amt", "transaction_currency", "email_address", "phone", "user_agent"),
    *("product_category", "card_bin", "billing_country", "channel"),
)

# These folders are of Kafka, OpenSearch and Flink, and name files as they like.
_OF_SERVERS: Final = frozenset({"kafka", "opensearch", "flink", "logs", "mail"})
_VARIES: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{12,}|\d+")


@contextmanager
def started(models: Path) -> Iterator[Stack]:
    """Start the whole stack without the producer, and remove all of it afterwards.

    Args:
        models: Registry whose champion decides; it is copied.

    Raises:
        RuntimeError: It did not start; the message has its output.
    """
    ports = {name: str(port) for name, port in zip(_PORTS, free_ports(len(_PORTS)), strict=True)}
    # As root, OpenSearch runs as somebody else, who must get into the folder.
    with tempfile.TemporaryDirectory(prefix="fraudstream-outputs-") as folder:
        Path(folder).chmod(0o755)
        state = Path(folder) / "state"
        shutil.copytree(models, state / "models")
        environment = {
            **os.environ,
            **ports,
            "STATE_DIR": str(state),
            "DEVSTACK_WITHOUT": "producer",
            "TRANSACTIONS_PARTITIONS": "1",
            "PERSONAL_DATA_KEY": "the same in every snapshot, so that hashes are",
        }
        devstack = [sys.executable, "-m", "devstack"]
        try:
            up = subprocess.run(
                [*devstack, "up"], env=environment, capture_output=True, text=True, check=False
            )
            if up.returncode:
                raise RuntimeError(up.stdout + up.stderr)
            yield Stack(state, environment)
        finally:
            subprocess.run([*devstack, "clean"], env=environment, capture_output=True, check=False)


class Stack:
    """The stack that `started` started.

    Args:
        state: Its state folder.
        environment: Its environment.
    """

    def __init__(self, state: Path, environment: dict[str, str]) -> None:
        self._state = state
        self._kafka: dict[str, str | int | float | bool] = {
            "bootstrap.servers": f"127.0.0.1:{environment['KAFKA_PORT']}"
        }
        self._urls = {
            name.removesuffix("_PORT"): f"http://127.0.0.1:{port}"
            for name, port in environment.items()
            if name in _PORTS
        }
        self._http = httpx.Client(timeout=60)

    def send(self, records: Sequence[Record]) -> None:
        """Write records to `transactions`, in their order, each batch in its codec."""
        start = 0
        while start < len(records):
            end = start
            while end < len(records) and records[end].codec == records[start].codec:
                end += 1
            self._send(records[start:end], records[start].codec)
            start = end

    def _send(self, records: Sequence[Record], codec: str) -> None:
        producer = Producer(
            self._kafka
            | {
                "compression.type": codec,
                "enable.idempotence": True,
                "linger.ms": 50,
                # Counted before compression; the broker counts after it.
                "message.max.bytes": 8_000_000,
            }
        )
        for record in records:
            producer.produce(
                "transactions", record.value, record.key, partition=0, headers=list(record.headers)
            )
            if record.value and len(record.value) > 1_000_000:
                producer.flush(_DEADLINE_S)
        if producer.flush(_DEADLINE_S):
            raise RuntimeError(f"records compressed by {codec} were not acknowledged")

    def outputs(self, records: Sequence[Record]) -> dict[int, dict[str, Any]]:
        """Wait for the output of every record; return them by input offset, in order."""
        found = dict(self._outputs(records))
        return dict(sorted(found.items()))

    def _outputs(self, records: Sequence[Record]) -> Iterator[tuple[int, dict[str, Any]]]:
        consumer = Consumer(
            self._kafka
            | {
                "group.id": f"snapshot-{uuid.uuid4()}",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.message.max.bytes": 4_194_304,
            }
        )
        topics = ("processed_transactions", "transactions.dlq")
        consumer.assign([TopicPartition(topic, 0, 0) for topic in topics])
        seen: set[int] = set()
        deadline_s = time.monotonic() + _DEADLINE_S
        try:
            while len(seen) < len(records):
                if time.monotonic() > deadline_s:
                    raise TimeoutError(f"{len(seen)} of {len(records)} records came out")
                for message in consumer.consume(1000, timeout=0.5):
                    if (error := message.error()) is not None:
                        raise RuntimeError(error.str())
                    offset, output = _output(message, records)
                    if offset in seen:
                        raise RuntimeError(f"the record at offset {offset} came out twice")
                    seen.add(offset)
                    yield offset, output
        finally:
            consumer.close()

    def rest(self, records: Sequence[Record], processed: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Score all records over REST, once the API has read the stream's decisions.

        Args:
            records: Input of the stream.
            processed: Offsets of the decided ones, ascending.
        """
        valid = [records[offset].value or b"" for offset in processed]
        self._wait("the history of REST", lambda: self._knows(valid[-1]))
        # New ids: else all of them are duplicates, as the last of these lists are.
        new = [
            _renamed(value, f"rest-{offset}")
            for offset, value in zip(processed, valid, strict=True)
        ]
        for values in (new, valid[-_LIST:]):
            for start in range(0, len(values), _LIST):
                yield from self._asked(values[start : start + _LIST])
        decided = set(processed)
        refused = [
            record.value
            for offset, record in enumerate(records)
            if offset not in decided and record.value is not None
        ]
        for value in refused:
            yield self._answer(value)
        for number, value in enumerate(refused[:50]):
            yield self._answer(
                b"[" + b",".join([*valid[number : number + 3], value, valid[0]]) + b"]"
            )
        for body in (
            b"[]",
            b"[1, null, {}]",
            b"[" + b",".join(valid[:1001]) + b"]",
            b"[{}" + b",{}" * 2000 + b"]",
        ):
            yield self._answer(body)

    def _knows(self, value: bytes) -> bool:
        answer = self._post(value)
        return answer.status_code == 200 and answer.json()["fd"]["duplicate"]

    def _asked(self, values: Sequence[bytes]) -> Iterator[dict[str, Any]]:
        answer = self._post(b"[" + b",".join(values) + b"]")
        if answer.status_code != 200:
            yield {"asked": _digest(b"".join(values)), **_told(answer)}
            return
        for value, decided in zip(values, orjson.loads(answer.content), strict=True):
            yield {"asked": _digest(value), "answer": lasting(decided)}

    def _answer(self, body: bytes) -> dict[str, Any]:
        return {"asked": _digest(body), **_told(self._post(body))}

    def _post(self, body: bytes) -> httpx.Response:
        return self._http.post(
            f"{self._urls['API']}/v1/score", content=body, headers=self._authorization()
        )

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {(self._state / 'api-key').read_text('utf-8').strip()}"}

    def documents(self, processed: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Wait until all decisions are indexed; return every fifth document."""
        search = f"{self._urls['OPENSEARCH']}/processed_transactions"

        def all_there() -> bool:
            count = self._http.get(f"{search}/_count")
            return count.status_code == 200 and count.json()["count"] == len(processed)

        self._wait("the index", all_there)
        chosen = set(processed[::_EVERY_NTH_DOCUMENT])
        after = -1
        while True:
            hits = self._http.post(
                f"{search}/_search",
                json={
                    "size": _PAGE,
                    "sort": [{"fd.source.offset": "asc"}],
                    "search_after": [after],
                },
            ).json()["hits"]["hits"]
            if not hits:
                return
            after = hits[-1]["sort"][0]
            for hit in hits:
                if hit["sort"][0] in chosen:
                    yield {"id": hit["_id"], "document": lasting(hit["_source"])}

    def afd(self, processed: Sequence[bytes]) -> Iterator[dict[str, Any]]:
        """Call Amazon Fraud Detector's own client: lists, predictions and errors.

        Predictions are of customers of their own, without an address or a merchant: an event that
        is predicted goes down the stream, and the next one would race it.

        Args:
            processed: Values of records, of whose fields events are made.
        """
        client = self._afd_client()
        for operation, arguments in _AFD_LISTS.items():
            yield {"asked": operation, "answer": self._called(client, operation, **arguments)}
        for number, value in enumerate(processed):
            record = json.loads(value)
            event: dict[str, Any] = {
                "detectorId": "payments",
                "eventId": f"afd-{number}",
                "eventTypeName": "purchase",
                "eventTimestamp": "2026-03-01T09:30:00Z",
                "entities": [{"entityType": "customer", "entityId": f"afd-{number}"}],
                "eventVariables": {
                    name: str(record[name]) for name in _AFD_VARIABLES if record.get(name)
                },
            }
            if number % 10 == 0:
                event["eventVariables"]["transaction_amt"] = "much"
            yield {
                "asked": f"get_event_prediction {number}",
                "answer": self._called(client, "get_event_prediction", **event),
            }

    def _afd_client(self) -> Any:
        credentials = configparser.ConfigParser()
        credentials.read(self._state / "aws-credentials", "utf-8")
        return boto3.client(
            "frauddetector",
            region_name="us-east-1",
            endpoint_url=self._urls["API"],
            aws_access_key_id=credentials["default"]["aws_access_key_id"],
            aws_secret_access_key=credentials["default"]["aws_secret_access_key"],
        )

    @staticmethod
    def _called(client: Any, operation: str, **arguments: Any) -> Any:
        try:
            answer = getattr(client, operation)(**arguments)
        except ClientError as error:
            return {"error": error.response["Error"]}
        return {name: part for name, part in answer.items() if name != "ResponseMetadata"}

    def names(self) -> dict[str, Any]:
        """Return the public names of the running stack."""
        admin = AdminClient(self._kafka)
        # It asks the brokers that it knows, and a new client knows none.
        admin.list_topics(timeout=30)
        groups = admin.list_consumer_groups(request_timeout=30).result()
        flink = self._urls["FLINK"]
        (job,) = self._get(f"{flink}/jobs/overview")["jobs"]
        templates = self._get(f"{self._urls['OPENSEARCH']}/_index_template")["index_templates"]
        aliases = self._get(f"{self._urls['OPENSEARCH']}/_alias")
        return {
            "openapi": self._get(f"{self._urls['API']}/openapi.json"),
            "exported_metrics": {
                name: sorted(re.findall(r"^# TYPE (\w+ \w+)$", self._metrics(name), re.MULTILINE))
                for name in ("API", "INDEXER_OPS", "NOTIFIER_OPS", "FLINK_JOB_OPS")
            },
            "consumer_groups": sorted(
                {
                    _VARIES.sub("*", group.group_id)
                    for group in groups.valid
                    if not group.group_id.startswith("snapshot-")
                }
            ),
            "running_job": {
                "name": job["name"],
                "vertices": [
                    [vertex["id"], vertex["name"]]
                    for vertex in self._get(f"{flink}/jobs/{job['jid']}")["vertices"]
                ],
            },
            "index_templates_of_the_cluster": {
                template["name"]: template["index_template"] for template in templates
            },
            "indexes": sorted(
                {
                    f"{_VARIES.sub('*', name)} {sorted(body['aliases'])}"
                    for name, body in aliases.items()
                }
            ),
            "state_files": sorted(self._state_files()),
        }

    def _metrics(self, name: str) -> str:
        return self._http.get(self._urls[name] + "/metrics").text

    def _get(self, url: str) -> Any:
        answer = self._http.get(url, headers=self._authorization())
        answer.raise_for_status()
        return orjson.loads(answer.content)

    def _state_files(self) -> set[str]:
        names = set()
        for path in self._state.rglob("*"):
            relative = path.relative_to(self._state)
            # SQLite's own files come and go.
            if relative.parts[0] not in _OF_SERVERS and not path.name.endswith(("-wal", "-shm")):
                names.add(_VARIES.sub("*", str(relative)))
        return names

    def _wait(self, what: str, done: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + _DEADLINE_S
        while not done():
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"waited {_DEADLINE_S:.0f} s for {what}")
            time.sleep(0.5)


def lasting(value: Any) -> Any:
    """Remove, at any depth, the fields that depend on the time."""
    if isinstance(value, dict):
        return {name: lasting(part) for name, part in value.items() if name not in OF_THE_MOMENT}
    return [lasting(part) for part in value] if isinstance(value, list) else value


def _output(message: Any, records: Sequence[Record]) -> tuple[int, dict[str, Any]]:
    value: bytes | None = message.value()
    headers = dict(message.headers() or ())
    shown: dict[str, Any] = {"topic": message.topic(), "key": _shown(message.key())}
    if message.topic() == "processed_transactions":
        decision = orjson.loads(value or b"")["fd"]
        offset = decision["source"]["offset"]
        kept = (value or b"").rpartition(b',"fd":{')[0]
        original = (records[offset].value or b"").rstrip()[:-1]
        shown |= {"is_input_kept": kept == original, "fd": lasting(decision)}
    else:
        offset = int(headers["source_offset"])
        headers["failed_at"] = b"of the moment"
        shown["value"] = None if value is None else [len(value), _digest(value)]
    shown["headers"] = {name: _shown(text) for name, text in sorted(headers.items())}
    return offset, shown


def _told(answer: httpx.Response) -> dict[str, Any]:
    return {"status": answer.status_code, "answer": lasting(orjson.loads(answer.content))}


def _renamed(value: bytes, event_id: str) -> bytes:
    # Not orjson: integers may be of any size.
    return json.dumps(json.loads(value) | {"event_id": event_id}).encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _shown(data: bytes | None) -> str | None:
    return None if data is None else data.decode("utf-8", "backslashreplace")


def lines(entries: Iterable[dict[str, Any]]) -> bytes:
    """Write entries as JSON lines, their keys in the order in which they came."""
    return b"".join(orjson.dumps(entry) + b"\n" for entry in entries)
