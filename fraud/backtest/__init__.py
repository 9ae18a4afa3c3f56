"""Past decisions: dry runs of rules on them, and decisions computed again."""
