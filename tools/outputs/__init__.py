"""Snapshots of all that must stay the same while the code behind it changes."""
