"""Parts that every process shares: settings, logs, metrics, lifecycle, clock, files."""
