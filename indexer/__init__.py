"""Indexes decisions, labels and dead letters in OpenSearch.

A decision's document id is the topic-partition-offset of its input, and its index is the day of the
input's Kafka timestamp, so that a record read or decided again overwrites its document. Labels are
written into the documents of their event. Kafka offsets are committed only after OpenSearch accepted
the documents; those that it refuses for good go to `processed_transactions_rejected` with the reason.
"""
