"""Declares Prometheus' targets and alarm rules, and Grafana's dashboard.

`make docs` writes the files under `monitoring/`, which the compose profile `monitoring` mounts, and the
sections of docs/alarms.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import yaml

FOLDER: Final = Path("monitoring")

TARGETS: Final = {
    "producer": 9101,
    "flink_job": 9102,
    "notifier": 9103,
    "indexer": 9104,
    "scoring_api": 8000,
    "jobmanager": 9249,
    "taskmanager": 9249,
}
"""Services and the ports of their metrics between containers."""

AS_MANY_AS_THERE_ARE: Final = frozenset({"producer", "taskmanager"})
"""Services with any number of containers, found by name. A stopped container has no name and is no
target; a stopped container of the other services is a target that is down."""

ALERTMANAGER: Final = "alertmanager"
"""Name under which Prometheus looks for an Alertmanager, which is optional."""

_RUNBOOK: Final = "docs/alarms.md"


@dataclass(frozen=True, slots=True)
class AlarmRule:
    """An alarm of the system itself; an alert is about a decision.

    Attributes:
        name: In CamelCase, as Prometheus has it.
        expr: PromQL; the alarm fires while the result is not empty.
        for_s: Seconds for which the expression must hold.
        severity: `page` for now, `ticket` for office hours.
        meaning: One sentence.
        what_to_do: One or two sentences.
    """

    name: str
    expr: str
    for_s: int
    severity: str
    meaning: str
    what_to_do: str


ALARMS: Final = (
    AlarmRule("ServiceDown", 'up == 0 or absent(up{job="taskmanager"})', 60, "page", "A service does not answer.", "Check its log and `make status` or `docker compose ps`. It is restarted automatically, so find out why it ends."),
    AlarmRule("JobNotRunning", "fraudstream_job_running == 0 or absent(fraudstream_job_running)", 60, "page", "The Flink job does not run: nothing is decided.", "Check the log of flink_job, which resubmits it from the newest checkpoint, then those of JobManager and TaskManager. The job needs free task slots."),
    AlarmRule("JobRestarts", "sum(increase(fraudstream_job_submissions_total[15m])) > 2 or sum(increase(flink_jobmanager_job_numRestarts[15m])) > 2", 0, "page", "The job restarts repeatedly.", "`make status`, `/health/ready` of flink_job and the TaskManager's log have the exception. The usual cause is the memory of the Python workers, which FLINK_TASKMANAGER_MEMORY does not include."),
    AlarmRule("UnreadableRecord", "fraudstream_job_unreadable_record == 1", 0, "page", "The job stops at a record that the Kafka client cannot read: nothing is decided.", "`make status` and `/health/ready` of flink_job name its partition and offset. `fraudstream dlq step-over PARTITION OFFSET` makes it a dead letter and goes on behind it; see docs/operations.md#unreadable-records."),
    AlarmRule("OlderCheckpoint", "fraudstream_job_older_checkpoint > 0", 0, "page", "The job was started from an older checkpoint: decisions come out again.", "The log of flink_job (flink_job.older_checkpoint_chosen) names the offsets that are decided again and published twice, and why the newest checkpoint could not be restored. Consumers that key by fd.source are not affected."),
    AlarmRule("JobLags", "sum(flink_taskmanager_job_task_operator_pendingRecords) > 10000", 300, "page", "The job is behind its input: decisions come late.", "Check that it runs and what else uses the processor. It catches up by itself; docs/operations.md#scaling describes how to give it more capacity."),
    AlarmRule("HistoryFillsMemory", "max(min_over_time(flink_taskmanager_Status_JVM_Memory_Heap_Used[10m]) / flink_taskmanager_Status_JVM_Memory_Heap_Max) > 0.8", 300, "page", "The history fills the memory of a TaskManager.", "At the limit the job ends and starts again, and again. Raise FLINK_TASKMANAGER_MEMORY, or keep the history on disk with FLINK_STATE_BACKEND=rocksdb; docs/operations.md#scaling has the figures."),
    AlarmRule("ManyNewKeys", "sum(rate(flink_taskmanager_job_task_operator_new_keys[10m])) > 500", 600, "ticket", "Customers, addresses or merchants that were never seen arrive at an unusual rate.", "Each takes memory for FLINK_STATE_TTL_DAYS. Find out who sends them: a load test, a changed id, or somebody who tries cards."),
    AlarmRule("DecidesLate", "histogram_quantile(0.99, sum by (le) (rate(fraudstream_arrival_to_decision_seconds_bucket[5m]))) > 5", 300, "ticket", "Decisions come late: p99 from a transaction's arrival to its decision is above 5 s.", "After an outage this is the backlog and ends by itself. Otherwise see JobLags and CheckpointsFail."),
    AlarmRule("ConsumersLag", "fraudstream_consumer_lag > 10000", 300, "ticket", "A consumer of decisions is behind.", "The label service names it. Check whether OpenSearch or the mail server is slow or down. The consumer catches up by itself."),
    AlarmRule("ScoringFails", "increase(flink_taskmanager_job_task_operator_scoring_failed[10m]) > 0", 0, "page", "Transactions could not be scored and were sent to review.", "The TaskManager's log names the error (flink_job.scoring_failed). Roll back the model if the failures began with a promotion."),
    AlarmRule("DeadLetters", "increase(flink_taskmanager_job_task_operator_dead_letters[10m]) > 10", 0, "ticket", "Records are refused.", "`fraudstream dlq list` shows the reasons. Inform whoever sends the records, correct them where possible, and send them back with `fraudstream dlq replay`."),
    AlarmRule("InputVanished", "increase(fraudstream_input_vanished_total[10m]) > 0 or (fraudstream_input_vanished_total > 0 unless fraudstream_input_vanished_total offset 10m)", 0, "page", "Records were gone before a service read them, or a topic was made anew.", "The log of the service names topic, partition and offsets (kafka.input_vanished); docs/operations.md#retention describes what each service does then. Expired: the service was off or behind for longer than the topic keeps records, or the broker's clock jumped. Replaced: somebody deleted and made the topic, or restored the broker."),
    AlarmRule("EventIdsReused", "increase(flink_taskmanager_job_task_operator_event_id_reused[10m]) > 0", 0, "ticket", "An event_id came again with another amount, currency, card or merchant.", "`GET /v1/decisions?reason=EVENT_ID_REUSED` lists the decisions; each event is decided and counted by itself. Ask whoever sends the records: labels by event_id alone cannot tell such events apart."),
    AlarmRule("ControlRefused", "increase(fraudstream_control_refused_total[10m]) > 0 or increase(flink_taskmanager_job_task_operator_control_refused[10m]) > 0", 0, "page", "A control document was refused; the last good one stays in force.", "The log names the document (control.document_refused). Publish it again with `fraudstream rules`, `lists` or `promote`."),
    AlarmRule("PoliciesDiffer", "count(count by (version) (fraudstream_policy_in_use == 1)) > 1", 120, "ticket", "Processes of the API decide by different policies.", "One of them does not follow fraud_control. Check its log and fraudstream_control_lag, and restart it."),
    AlarmRule("ChallengerFails", "increase(fraudstream_shadow_failed_total[10m]) > 0 or increase(flink_taskmanager_job_task_operator_shadow_failed[10m]) > 0", 0, "ticket", "The challenger fails; decisions are not affected.", "End it with `fraudstream challenge model none` or `fraudstream challenge rules none`."),
    AlarmRule("AlertsUntold", "fraudstream_alerts_overdue_seconds > 600", 0, "page", "An alert that is due has not been delivered for ten minutes.", "The mail server or webhook is down or refuses messages; see `fraudstream alerts status` and the notifier's log. Alerts are delivered once it is back."),
    AlarmRule("AlertsDead", "fraudstream_alerts_dead > 0", 0, "ticket", "Messages were refused for good.", "`fraudstream alerts failed` lists them with the reason. Correct the address, then run `fraudstream alerts retry`."),
    AlarmRule("DocumentsRefused", "increase(fraudstream_documents_refused_total[10m]) > 0", 0, "ticket", "OpenSearch refused documents for good.", "The index processed_transactions_rejected has them with the reason."),
    AlarmRule("IndexerWaits", "fraudstream_sink_waits == 1", 180, "ticket", "OpenSearch has accepted no documents for three minutes.", "The indexer's `/health/ready` has the reason. Check health and disk of OpenSearch; the indexer waits and loses nothing."),
    AlarmRule("RetentionRefused", "fraudstream_retention_refused == 1", 0, "ticket", "Nothing is deleted by age, because so much is overdue that the clock may be wrong.", "The indexer's log has the details (indexer.retention_refused). If the clock is right (after weeks without traffic or with a smaller INDEXER_RETENTION_DAYS), run `fraudstream index retention --dry-run`, then without `--dry-run`."),
    AlarmRule("SlowScoring", "histogram_quantile(0.99, sum by (le) (rate(fraudstream_score_seconds_bucket[5m]))) > 0.1", 300, "ticket", "REST scoring is slow: p99 of a batch above 100 ms.", "Check what else uses the processor: imports of large lists, dry runs, other services. Start another API process on another machine."),
    AlarmRule("HistoryNotReady", "fraudstream_history_ready == 0", 300, "page", "The API has not caught up with the stream and answers 503.", "Either Kafka is down, or the API reads the whole topic because its snapshot was lost; then its lag falls."),
    AlarmRule("CheckpointsFail", "increase(flink_jobmanager_job_numberOfFailedCheckpoints[15m]) > 3", 0, "page", "Checkpoints fail: a restart decides everything since the last one again.", "The usual cause is a full or slow disk under FLINK_CHECKPOINT_DIR."),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph of the dashboard.

    Attributes:
        title: Title of the graph.
        unit: Grafana's unit of the values.
        series: PromQL by legend.
    """

    title: str
    unit: str
    series: dict[str, str]


PANELS: Final = (
    Panel("Records read, per second", "short", {"{{service}}": "sum by (service) (rate(fraudstream_records_consumed_total[1m]))"}),
    Panel("Records not yet read", "short", {"job": "sum(flink_taskmanager_job_task_operator_pendingRecords)", "{{service}}": "fraudstream_consumer_lag"}),
    Panel("The job", "short", {"runs": "fraudstream_job_running", "restarts": "flink_jobmanager_job_numRestarts"}),
    Panel("New keys of the history, per second", "short", {"keys": "sum(rate(flink_taskmanager_job_task_operator_new_keys[5m]))"}),
    Panel("Records through the job, per second", "short", {"{{task_name}}": "sum by (task_name) (flink_taskmanager_job_task_numRecordsInPerSecond)"}),
    Panel("Dead letters and failures of the job, per minute", "short", {
        "dead letters": "sum(rate(flink_taskmanager_job_task_operator_dead_letters[5m])) * 60",
        "scoring failed": "sum(rate(flink_taskmanager_job_task_operator_scoring_failed[5m])) * 60",
        "challenger failed": "sum(rate(flink_taskmanager_job_task_operator_shadow_failed[5m])) * 60",
    }),
    Panel("Marked transactions, per minute", "short", {
        "event_id reused": "sum(rate(flink_taskmanager_job_task_operator_event_id_reused[5m])) * 60",
        "event_time ahead": "sum(rate(flink_taskmanager_job_task_operator_event_time_ahead[5m])) * 60",
        "event_time behind": "sum(rate(flink_taskmanager_job_task_operator_event_time_behind[5m])) * 60",
    }),
    Panel("From arrival to decision", "s", {
        "p50": "histogram_quantile(0.5, sum by (le) (rate(fraudstream_arrival_to_decision_seconds_bucket[5m])))",
        "p99": "histogram_quantile(0.99, sum by (le) (rate(fraudstream_arrival_to_decision_seconds_bucket[5m])))",
    }),
    Panel("From decision to index", "s", {
        "p50": "histogram_quantile(0.5, sum by (le) (rate(fraudstream_decision_to_index_seconds_bucket[5m])))",
        "p99": "histogram_quantile(0.99, sum by (le) (rate(fraudstream_decision_to_index_seconds_bucket[5m])))",
    }),
    Panel("Duration of the last checkpoint", "ms", {"last": "flink_jobmanager_job_lastCheckpointDuration"}),
    Panel("Scored over REST, per second", "short", {"{{outcome}}": "sum by (outcome) (rate(fraudstream_transactions_scored_total[1m]))"}),
    Panel("Duration of a scoring call over REST", "s", {
        "p50": "histogram_quantile(0.5, sum by (le) (rate(fraudstream_score_seconds_bucket[5m])))",
        "p99": "histogram_quantile(0.99, sum by (le) (rate(fraudstream_score_seconds_bucket[5m])))",
    }),
    Panel("From decision to message", "s", {
        "p50": "histogram_quantile(0.5, sum by (le) (rate(fraudstream_alert_seconds_bucket[15m])))",
        "p99": "histogram_quantile(0.99, sum by (le) (rate(fraudstream_alert_seconds_bucket[15m])))",
    }),
    Panel("Alerts not yet told", "short", {"{{channel}}": "sum by (channel) (fraudstream_alerts_untold)", "held back": "sum(fraudstream_alerts_held)", "dead": "sum(fraudstream_alerts_dead)"}),
    Panel("The alert that waits longest", "s", {"{{channel}}": "fraudstream_alerts_overdue_seconds"}),
    Panel("Documents, per second", "short", {
        "indexed": "rate(fraudstream_documents_indexed_total[1m])",
        "sent again": "sum(rate(fraudstream_documents_retried_total[1m]))",
        "refused": "sum(rate(fraudstream_documents_refused_total[1m]))",
    }),
    Panel("Duration of a bulk write", "s", {"p99": "histogram_quantile(0.99, sum by (le) (rate(fraudstream_bulk_seconds_bucket[5m])))"}),
    Panel("Model and policy in use", "short", {"{{service}} {{name}}@{{version}}": "fraudstream_model_in_use", "{{service}} policy {{version}}": "fraudstream_policy_in_use", "stream {{name}}@{{version}} policy {{policy}}": "fraudstream_decided_by"}),
    Panel("Control documents refused", "short", {"{{service}}": "increase(fraudstream_control_refused_total[1h])"}),
)  # fmt: skip


def _yaml(content: dict[str, Any]) -> str:
    return _HEADER + str(yaml.safe_dump(content, sort_keys=False, width=1000))


_HEADER: Final = "# Generated by `make docs` from tools/monitoring.py; do not edit.\n"


def prometheus_config() -> str:
    """Return Prometheus' configuration: targets and alarm rules."""
    jobs = [
        {
            "job_name": name,
            **(
                {"dns_sd_configs": [{"names": [name], "type": "A", "port": port}]}
                if name in AS_MANY_AS_THERE_ARE
                else {"static_configs": [{"targets": [f"{name}:{port}"]}]}
            ),
        }
        for name, port in TARGETS.items()
    ]
    config = {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "rule_files": ["alerts.yml"],
        "alerting": {
            "alertmanagers": [
                {"dns_sd_configs": [{"names": [ALERTMANAGER], "type": "A", "port": 9093}]}
            ]
        },
        "scrape_configs": jobs,
    }
    return _yaml(config)


def alert_rules() -> str:
    """Return the alarm rules in Prometheus' format."""
    rules = [
        {
            "alert": one.name,
            "expr": one.expr,
            **({"for": f"{one.for_s}s"} if one.for_s else {}),
            "labels": {"severity": one.severity},
            "annotations": {
                "summary": one.meaning,
                "description": one.what_to_do,
                "runbook": f"{_RUNBOOK}#{one.name.lower()}",
            },
        }
        for one in ALARMS
    ]
    groups = {"groups": [{"name": "fraudstream", "rules": rules}]}
    return _yaml(groups)


def grafana_dashboard() -> str:
    """Return the dashboard in Grafana's format."""
    panels: list[dict[str, Any]] = [
        {
            "id": at + 1,
            "type": "timeseries",
            "title": panel.title,
            "gridPos": {"x": at % 2 * 12, "y": at // 2 * 8, "w": 12, "h": 8},
            "datasource": {"type": "prometheus", "uid": "prometheus"},
            "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
            "targets": [
                {"refId": chr(ord("A") + number), "expr": expr, "legendFormat": legend}
                for number, (legend, expr) in enumerate(panel.series.items())
            ],
        }
        for at, panel in enumerate(PANELS)
    ]
    dashboard = {
        "uid": "fraudstream",
        "title": "Fraudstream",
        "schemaVersion": 41,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "editable": True,
        "panels": panels,
    }
    return orjson.dumps(dashboard, option=orjson.OPT_INDENT_2).decode() + "\n"


def _provisioning() -> dict[str, str]:
    source = {
        "apiVersion": 1,
        "datasources": [
            {
                "name": "Prometheus",
                "uid": "prometheus",
                "type": "prometheus",
                "url": "http://prometheus:9090",
                "isDefault": True,
            }
        ],
    }
    provider = {
        "apiVersion": 1,
        "providers": [
            {
                "name": "fraudstream",
                "type": "file",
                "options": {"path": "/etc/grafana/provisioning/dashboards"},
            }
        ],
    }
    return {
        "grafana/datasources/prometheus.yml": _yaml(source),
        "grafana/dashboards/fraudstream.yml": _yaml(provider),
        "grafana/dashboards/fraudstream.json": grafana_dashboard(),
    }


def runbook() -> str:
    """Return docs/alarms.md: meaning of each alarm and response to it."""
    lines = [
        "# Alarms",
        "",
        "Alarms report that the system itself needs attention. Alerts on transactions are a page of their own:",
        "[Alerts](alerts.md).",
        "",
        "Generated by `make docs` from `tools/monitoring.py`; do not edit. The compose profile `monitoring` loads the",
        "alarms into Prometheus, which shows them at http://127.0.0.1:9090/alerts and notifies nobody;",
        "[Operations](operations.md#monitoring) describes how to connect an Alertmanager.",
    ]
    for one in ALARMS:
        after = f", for {one.for_s} s" if one.for_s else ""
        lines += [
            "",
            f"## {one.name}",
            "",
            f"**{one.meaning}** {one.what_to_do}",
            "",
            f"`{one.expr}`{after}; {one.severity}.",
        ]
    return "\n".join(lines) + "\n"


def files() -> dict[Path, str]:
    """Return every generated file, relative to the project's folder."""
    return {
        FOLDER / "prometheus.yml": prometheus_config(),
        FOLDER / "alerts.yml": alert_rules(),
        **{FOLDER / name: text for name, text in _provisioning().items()},
        Path("docs/alarms.md"): runbook(),
    }
