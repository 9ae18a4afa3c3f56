"""Snapshots of all outputs, which must stay the same while the code changes."""
