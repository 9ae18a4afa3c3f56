"""Service declarations of the servers that devstack starts: Kafka, OpenSearch, Flink, mail."""
