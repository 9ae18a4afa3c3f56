"""The servers that devstack starts, each as a declared service: Kafka, OpenSearch, Flink, mail."""
