"""Decisions to OpenSearch documents: one for each input record, however often it is read.

The document's id is the input's topic-partition-offset and its index the day of the input's Kafka
timestamp, so that a record read or decided again overwrites its document. Kafka offsets are
committed only after OpenSearch took the documents; those that it refuses for good are kept in
`processed_transactions_rejected` with the reason.
"""
