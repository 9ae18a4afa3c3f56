"""Turns fraud probabilities into decisions: score scale, rules, lists, reasons, engine."""
