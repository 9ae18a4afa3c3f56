"""Faults drawn from a seed, under load, and an account of every record (docs/reliability.md)."""
