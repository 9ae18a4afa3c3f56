"""The rule language on batches in memory: what an expression costs, apart from the rest of a decision."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fraud.decision.variables import standard_variables
from fraud.rules import Expression, compile_expression

RULES: Final = (
    ("score", "$score >= 950"),
    ("score and amount", "$fd_score > 900 and $transaction_amt > 100"),
    ("count", "$entity_tx_count_10m >= 5"),
    ("count and sum", "$entity_tx_count_1h >= 8 and $entity_amount_sum_1h > 1500"),
    ("range", "$score > 700 and $score <= 900 and $amount_base > 500"),
    ("card testing", "$ip_tx_count_10m >= 10 and $ip_small_amount_ratio_10m > 0.8 and $ip_entity_distinct_10m >= 5"),
    ("ratio", "$entity_amount_ratio_30d > 5 and $entity_tx_count_30d >= 10"),
    ("arithmetic", "$entity_amount_sum_1h / $entity_tx_count_1h > 3 * $entity_amount_mean_30d"),
    ("new things", "$entity_ip_is_new == 1 and $entity_user_agent_is_new == 1 and $amount_base > 300"),
    ("travel", "$entity_speed_last_kmh > 900 and $entity_distance_last_km > 200"),
    ("night", "hour($event_time) < 6 and $amount_base > 400"),
    ("null", "$device_id == null and $channel != null"),
    ("or", "$probability > 0.7 or $entity_bin_distinct_24h > 3 or $entity_ip_distinct_1h > 4"),
    ("not", "not ($entity_known_count > 3 and $score < 500) and $amount_base >= 99.99"),
    ("numbers in", "$event_weekday in [5, 6] and $event_hour not in [8, 9, 10, 11, 12, 13, 14, 15, 16, 17]"),
    ("text", '$transaction_currency != "USD"'),
    ("texts in", '$billing_country in ["NG", "RU", "VN", "RO"] and $score > 300'),
    ("networks", '$ip_address in ["10.0.0.0/8", "192.168.0.0/16", "203.0.113.0/24"]'),
    ("named list", "$email_address in @blocked_emails"),
    ("regex", r'regex_match(".*[0-9]{4,}@(gmail|outlook)\.com", lowercase($email_address))'),
)  # fmt: skip


class Memory:
    """Random columns, generated once and kept."""

    def __init__(self, n: int, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._n = n
        self._numbers: dict[str, NDArray[np.float64]] = {}
        self._texts: dict[str, list[str | None]] = {}
        self._blocked = frozenset(f"user{at}@example.com" for at in range(100_000))

    def number(self, name: str) -> NDArray[np.float64]:
        """Return random numbers, one for each row."""
        if name not in self._numbers:
            make = next((make for part, make in _NUMBERS if part in name), _gamma)
            made = make(self._random, self._n)
            made[self._random.random(self._n) < 0.1] = np.nan
            self._numbers[name] = made
        return self._numbers[name]

    def text(self, name: str) -> list[str | None]:
        """Return random texts, one for each row."""
        if name not in self._texts:
            make = _TEXTS.get(name, lambda number: f"value{number % 20}")
            numbers = self._random.integers(0, 200_000, self._n).tolist()
            self._texts[name] = [None if number % 10 == 0 else make(number) for number in numbers]
        return self._texts[name]

    def member(self, _name: str, values: Any, _variable: str | None) -> NDArray[np.bool_]:
        """Return which values are blocked."""
        return np.array([value in self._blocked for value in values], np.bool_)


def _gamma(random: np.random.Generator, n: int) -> NDArray[np.float64]:
    return random.gamma(0.5, 100, n).astype(np.float32).astype(np.float64)


_NUMBERS: Final[tuple[tuple[str, Callable[[np.random.Generator, int], NDArray[np.float64]]], ...]] = (
    ("score", lambda random, n: random.integers(0, 1001, n).astype(np.float64)),
    ("probability", lambda random, n: random.random(n)),
    ("small_amount_ratio", lambda random, n: random.random(n)),
    ("is_new", lambda random, n: random.integers(0, 2, n).astype(np.float64)),
    ("event_weekday", lambda random, n: random.integers(0, 7, n).astype(np.float64)),
    ("event_hour", lambda random, n: random.integers(0, 24, n).astype(np.float64)),
    ("event_time", lambda random, n: random.integers(1_770_000_000_000, 1_780_000_000_000, n).astype(np.float64)),
)  # fmt: skip
"""By a part of the name; anything else is skewed, as amounts and counts are."""

_PROVIDERS: Final = ("example", "gmail", "outlook")
_TEXTS: Final[dict[str, Callable[[int], str]]] = {
    "email_address": lambda number: f"user{number}@{_PROVIDERS[number % 3]}.com",
    "ip_address": lambda number: f"{number % 223 + 1}.{number % 7}.{number % 256}.{number % 101}",
    "transaction_currency": lambda number: ("USD", "EUR", "GBP")[number % 3],
    "billing_country": lambda number: ("US", "DE", "NG", "GB", "VN")[number % 5],
}


def rule_figures(rows: int, repeats: int) -> list[dict[str, Any]]:
    """Measure each of the typical rules on a batch: compiling, and evaluating (median and worst)."""
    columns = Memory(rows, seed=7)
    variables = standard_variables()
    figures: list[dict[str, Any]] = []
    compile_expression("$score > 1", variables)  # the grammar is read once
    expressions: list[Expression] = []
    for scenario, text in RULES:
        started = time.perf_counter()
        expression = compile_expression(text, variables)
        compiled = time.perf_counter()
        hits = expression.evaluate(columns, rows)
        expressions.append(expression)
        figures.append(
            {
                "scenario": scenario,
                "hits": int(hits.sum()),
                "compile_ms": (compiled - started) * 1000,
                **_times(lambda expression=expression: expression.evaluate(columns, rows), repeats),
            }
        )

    def all_of_them() -> None:
        for expression in expressions:
            expression.evaluate(columns, rows)

    total = {"scenario": f"all {len(RULES)}", "hits": sum(figure["hits"] for figure in figures)}
    compiling = {"compile_ms": sum(figure["compile_ms"] for figure in figures)}
    return [*figures, {**total, **compiling, **_times(all_of_them, repeats)}]


def _times(evaluate: Callable[[], object], repeats: int) -> dict[str, float]:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        evaluate()
        times.append((time.perf_counter() - started) * 1e6)
    return {"median_us": median(times), "slowest_us": max(times)}
