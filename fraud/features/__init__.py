"""Features of a transaction: one definition for stream, REST and training."""
