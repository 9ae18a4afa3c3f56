"""Every Prometheus metric, declared once with type, unit and meaning."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_LATENCY_BUCKETS_S: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip

RECORDS_CONSUMED = Counter(
    "fraudstream_records_consumed_total", "Records read from Kafka.", ["service"]
)
RECORDS_REFUSED = Counter(
    "fraudstream_records_refused_total", "Records that could not be read, by reason.", ["service", "reason"]
)  # fmt: skip
BACKPRESSURE = Counter(
    "fraudstream_backpressure_total", "Requests of a sink for a pause.", ["service"]
)
SINK_WAITS = Gauge(
    "fraudstream_sink_waits", "1 while a sink's request for a pause is in effect, else 0.", ["service"]
)  # fmt: skip
CONSUMER_LAG = Gauge(
    "fraudstream_consumer_lag", "Records not yet read, over all partitions.", ["service"]
)
INPUT_VANISHED = Counter(
    "fraudstream_input_vanished_total", "Records that expired before they were read (expired), and partitions whose topic was made anew (replaced).", ["service", "reason"]
)  # fmt: skip
TRANSACTIONS_PRODUCED = Counter(
    "fraudstream_transactions_produced_total", "Transactions acknowledged by Kafka.", ["truth"]
)
JOB_SUBMISSIONS = Counter(
    "fraudstream_job_submissions_total", "Times the Flink job was submitted.", ["restored"]
)
OLDER_CHECKPOINT = Gauge(
    "fraudstream_job_older_checkpoint", "How many checkpoints before the newest the Flink job was last submitted from; above 0, decisions come out again."
)  # fmt: skip
UNREADABLE_RECORD = Gauge(
    "fraudstream_job_unreadable_record", "1 while the Flink job stops at a record that the Kafka client cannot read, else 0."
)  # fmt: skip
JOB_RUNNING = Gauge("fraudstream_job_running", "1 while the Flink job runs, else 0.")
MESSAGES_SENT = Counter(
    "fraudstream_messages_sent_total", "Messages accepted by the receiving server, by channel and kind (alert, digest, summary, quiet).", ["channel", "kind"]
)  # fmt: skip
MESSAGES_FAILED = Counter(
    "fraudstream_messages_failed_total", "Failed attempts to send a message, by kind: server (the whole channel fails), temporary, permanent (a dead letter).", ["channel", "kind"]
)  # fmt: skip
ALERTS_UNTOLD = Gauge(
    "fraudstream_alerts_untold", "Alerts recorded and not yet sent, held back or not; an alert counts once per recipient.", ["channel"]
)  # fmt: skip
ALERTS_HELD = Gauge(
    "fraudstream_alerts_held", "Alerts held back for their entity's digest, by the limit of messages, or by quiet hours.", ["channel", "hold"]
)  # fmt: skip
ALERTS_OVERDUE = Gauge(
    "fraudstream_alerts_overdue_seconds", "Time since the longest-waiting alert became due, seconds; 0 if all waiting alerts are held back.", ["channel"]
)  # fmt: skip
DEAD_ALERTS = Gauge(
    "fraudstream_alerts_dead", "Alerts in messages that were refused for good; `fraudstream alerts failed` lists them.", ["channel"]
)  # fmt: skip
FIRST_ALERT_SECONDS = Histogram(
    "fraudstream_alert_seconds", "From a decision's arrival in Kafka until its message was accepted, for alerts sent alone, seconds.", ["channel"], buckets=_LATENCY_BUCKETS_S
)  # fmt: skip
DOCUMENTS_INDEXED = Counter(
    "fraudstream_documents_indexed_total", "Documents that OpenSearch accepted."
)
DOCUMENTS_REFUSED = Counter(
    "fraudstream_documents_refused_total", "Documents that OpenSearch refused for good, by reason.", ["reason"]
)  # fmt: skip
DOCUMENTS_RETRIED = Counter(
    "fraudstream_documents_retried_total", "Documents that OpenSearch refused temporarily and that were sent again, by reason.", ["reason"]
)  # fmt: skip
ARRIVAL_TO_DECISION_SECONDS = Histogram(
    "fraudstream_arrival_to_decision_seconds", "From a transaction's arrival in Kafka (fd.source.timestamp_ms) to its decision by the stream (fd.scored_at), measured by the indexer, seconds.", buckets=_LATENCY_BUCKETS_S
)  # fmt: skip
DECISION_TO_INDEX_SECONDS = Histogram(
    "fraudstream_decision_to_index_seconds", "From the decision (fd.scored_at) until OpenSearch accepted the document, seconds; it is searchable up to a second later.", buckets=_LATENCY_BUCKETS_S
)  # fmt: skip
DECIDED_BY = Gauge(
    "fraudstream_decided_by", "1 for the model and the policy of the stream's newest decision that was indexed.", ["name", "version", "policy"]
)  # fmt: skip
LABELS_APPLIED = Counter(
    "fraudstream_labels_applied_total", "Documents whose label was set or changed."
)
RETENTION_REFUSED = Gauge(
    "fraudstream_retention_refused", "1 while the indexer deletes nothing by age because the clock may be wrong, else 0."
)  # fmt: skip
BULK_SECONDS = Histogram(
    "fraudstream_bulk_seconds", "Duration of one bulk write, seconds.", buckets=_LATENCY_BUCKETS_S
)
SCORE_SECONDS = Histogram(
    "fraudstream_score_seconds", "Duration of one scoring call over REST, seconds.", buckets=_LATENCY_BUCKETS_S
)  # fmt: skip
TRANSACTIONS_SCORED = Counter(
    "fraudstream_transactions_scored_total", "Transactions scored over REST, by outcome.", ["outcome"]
)  # fmt: skip
TRANSACTIONS_MARKED = Counter(
    "fraudstream_transactions_marked_total", "Transactions scored over REST with a mark, by mark; the stream's are among Flink's metrics.", ["mark"]
)  # fmt: skip
HISTORY_KEYS = Gauge(
    "fraudstream_history_keys", "Values of a key whose history is kept in memory.", ["key"]
)
HISTORY_READY = Gauge(
    "fraudstream_history_ready", "1 once the history has caught up with the stream, else 0."
)
MODEL_IN_USE = Gauge(
    "fraudstream_model_in_use", "1 for the model that decides.", ["service", "name", "version"]
)
POLICY_IN_USE = Gauge(
    "fraudstream_policy_in_use", "1 for the policy that decides, with the version of its rules.", ["service", "version", "rules"]
)  # fmt: skip
SHADOW_FAILED = Counter(
    "fraudstream_shadow_failed_total", "Transactions that the challenger could not decide.", ["service"]
)  # fmt: skip
CONTROL_REFUSED = Counter(
    "fraudstream_control_refused_total", "Control documents that were refused; the last good one stays in force.", ["service"]
)  # fmt: skip
CONTROL_LAG = Gauge("fraudstream_control_lag", "Control documents not yet read.", ["service"])
CONTROL_SWITCH_SECONDS = Gauge(
    "fraudstream_control_switch_seconds", "From the last control document's arrival in Kafka until it was in force, seconds.", ["service"]
)  # fmt: skip
KEYS_REFUSED = Counter(
    "fraudstream_keys_refused_total", "REST requests refused for their API key: missing_key, unknown_key, or role.", ["reason"]
)  # fmt: skip
RATE_LIMITED = Counter(
    "fraudstream_rate_limited_total", "REST requests refused by the rate limit of their API key.", ["key_id"]
)  # fmt: skip
AFD_CALLS = Counter(
    "fraudstream_afd_calls_total", "Calls by Amazon Fraud Detector's protocol, by operation, and by ok or the error's code.", ["operation", "code"]
)  # fmt: skip
