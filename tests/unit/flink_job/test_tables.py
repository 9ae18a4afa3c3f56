"""The tables: what of the settings reaches Kafka's clients."""

from __future__ import annotations

from pydantic import SecretStr

from flink_job.settings import JobSettings
from flink_job.tables import sink_ddl, source_ddl


def test_credentials_reach_both_ends() -> None:
    """Quoted for JAAS and for SQL."""
    settings = JobSettings(
        kafka_security_protocol="SASL_SSL",
        kafka_sasl_username="ada",
        kafka_sasl_password=SecretStr('it\'s "so"'),
        kafka_ssl_ca_location="/etc/ca.pem",
    )
    for ddl in (source_ddl(settings), sink_ddl(settings)):
        assert "'properties.security.protocol' = 'SASL_SSL'" in ddl
        assert 'username="ada" password="it\'\'s \\"so\\""' in ddl
        assert "'properties.ssl.truststore.location' = '/etc/ca.pem'" in ddl


def test_exactly_once_is_a_setting() -> None:
    """It needs a prefix for its transactions, which outlive a restart."""
    assert "'sink.delivery-guarantee' = 'at-least-once'" in sink_ddl(JobSettings())
    ddl = sink_ddl(JobSettings(flink_delivery="exactly-once"))
    assert "'sink.delivery-guarantee' = 'exactly-once'" in ddl
    assert "'sink.transactional-id-prefix' = 'fraudstream'" in ddl


def test_topics_may_have_other_names() -> None:
    """Physical names are settings."""
    settings = JobSettings(topic_transactions="pay.in", topic_transactions_dlq="pay.bad")
    assert "'topic' = 'pay.in'" in source_ddl(settings)
    assert "'topic' = 'processed_transactions;pay.bad'" in sink_ddl(settings)


def test_a_source_that_steps_over_reads_one_record_at_a_time() -> None:
    """A longer poll would run into the record that cannot be read."""
    plain = source_ddl(JobSettings())
    assert "'connector' = 'kafka'" in plain
    stepping = source_ddl(JobSettings(), step_over=["0:17-18", "2:5-9"])
    assert "'connector' = 'fraudstream-kafka'" in stepping
    assert "'step-over' = '0:17-18;2:5-9'" in stepping
    assert "'properties.max.poll.records' = '1'" in stepping
    careful = source_ddl(JobSettings(), one_at_a_time=True)
    assert "'connector' = 'kafka'" in careful
    assert "'properties.max.poll.records' = '1'" in careful
