"""Edges that all services share: settings, logs, metrics, clock, Kafka loop, lifecycle."""
