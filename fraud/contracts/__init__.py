"""What crosses a process boundary: types, schemas, examples, topics, codec, errors."""
