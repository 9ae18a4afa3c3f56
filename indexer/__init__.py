"""Decisions, labels and dead letters to OpenSearch: one document each, however often it is read.

The document's id is the input's topic-partition-offset and its index the day of the input's Kafka
timestamp, so that a record read or decided again overwrites its document. Labels come into the
documents of their event. Kafka offsets are committed only after OpenSearch took the documents; those
that it refuses for good are kept in `processed_transactions_rejected` with the reason.
"""
