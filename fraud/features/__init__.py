"""What a transaction looks like to the model: one definition for stream, REST and training."""
