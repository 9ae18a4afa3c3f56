"""From probability to outcome: score scale, rules, reasons, engine."""
