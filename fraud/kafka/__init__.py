"""Kafka for every service: clients, consumers, followers, readers, producers, topics, dead letters."""
