"""Contracts between processes: message types, schemas, examples, topics, codec, errors."""
