"""Checks whether the simulated world is fit to learn from, on seeds that it was not tuned on.

Each check yields figures per seed; a world that fails one has a flaw, which docs/simulator.md
records and nobody tunes away. None of the figures predicts anybody's traffic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fraud.contracts.times import DAY_MS, HOUR_MS
from fraud.contracts.transaction import from_mapping
from fraud.features.packing import pack
from producer.events import CAMPAIGNS, Campaign, Channel, Events
from producer.injections import Drift, Injection
from producer.population import (
    AGENT_KIND,
    AGENT_VARIANT,
    CURRENCY_LEVEL,
    TOWN_MERCHANTS,
    Population,
)
from producer.randomness import Floats, Purpose
from producer.records import columns, rows
from producer.simulation import Process, SimulationPlan, World, simulate

FIRST_SEED: Final = 1_000
"""First seed of the checks; the world was tuned on seeds far below."""
START_MS: Final = 20_700 * DAY_MS
"""2026-09-04, fixed so that the figures do not change from day to day."""
MAX_RAW_AUC: Final = 0.85
INDISTINGUISHABLE: Final = (0.48, 0.52)
MIN_SHARED_DAYS: Final = 0.3
FALSE_POSITIVE_RATE: Final = 0.05
"""False-positive rate at which recall is measured."""
_NUMBERS: Final = ("transaction_amt", "billing_latitude", "billing_longitude")
_CLASSIFIED: Final = 40_000
"""Most rows of each period that the classifier sees."""


@dataclass(frozen=True)
class CheckResult:
    """Figure of one check on one seed.

    Attributes:
        check: Name of the check.
        seed: Seed of the world.
        value: Figure that was measured.
        low: Lowest accepted figure.
        high: Highest accepted figure.
        detail: Explanation of the figure.
    """

    check: str
    seed: int
    value: float
    low: float
    high: float
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Whether the figure is within its bounds."""
        return self.low <= self.value <= self.high


@dataclass(frozen=True)
class WorldSize:
    """Size of the world that is checked.

    Attributes:
        customers: Number of customers.
        days: Length of the history in days.
    """

    customers: int = 4_000
    days: int = 30


def auc(score: Any, fraud: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve; ties count half.

    Example:
        >>> auc([1.0, 2.0, 2.0, 3.0], np.array([False, False, True, True]))
        0.875
    """
    _, place, count = np.unique(np.asarray(score), return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    hits, others = int(fraud.sum()), int((~fraud).sum())
    if not hits or not others:
        return 0.5
    return float((rank[fraud].sum() - hits * (hits + 1) / 2) / (hits * others))


def _rate_of(code: Any, fraud: NDArray[np.bool_], train: NDArray[np.bool_]) -> Floats:
    """Return the fraud rate of each row's code on the training rows, shrunk towards the base rate."""
    n = int(code.max()) + 1
    seen = np.bincount(code[train], minlength=n)
    hits = np.bincount(code[train], fraud[train].astype(float), minlength=n)
    base = fraud[train].mean()
    # Rare codes are treated as if 20 more rows had the base rate.
    return np.asarray(((hits + 20 * base) / (seen + 20))[code])


def _seen_before(code: Any) -> Any:
    """Count, in coarse steps, how often each row's code occurred before."""
    order = np.argsort(code, kind="stable")
    ordered = code[order]
    first = np.r_[True, ordered[1:] != ordered[:-1]]
    starts = np.maximum.accumulate(np.where(first, np.arange(len(code)), 0))
    before = np.empty(len(code), np.int64)
    before[order] = np.arange(len(code)) - starts
    return np.digitize(before, (1, 2, 4, 8, 16, 32, 64, 128, 256, 512))


def raw_field_aucs(table: dict[str, list[Any]], fraud: NDArray[np.bool_]) -> dict[str, float]:
    """Return the AUC of each raw field alone, on the later half of a history.

    The best of several scores per field counts: its number, the fraud rate of its value in the
    earlier half, and how often the value occurred before.

    Args:
        table: Columns of records in order of time.
        fraud: Whether each record is truly fraud.
    """
    train = np.arange(len(fraud)) < len(fraud) // 2
    later = ~train
    found = {}
    for name, values in table.items():
        if name in _NUMBERS:
            number = np.asarray(values, np.float64)
            raw = auc(number[later], fraud[later])
            edges = np.quantile(number[train], np.linspace(0, 1, 21)[1:-1])
            ways = [
                raw,
                1 - raw,
                auc(_rate_of(np.digitize(number, edges), fraud, train)[later], fraud[later]),
            ]
        else:
            texts = np.array(["" if value is None else str(value) for value in values])
            _, code = np.unique(texts, return_inverse=True)
            step = np.where(texts == "", 0, 1 + _seen_before(code))
            ways = [
                auc(_rate_of(codes, fraud, train)[later], fraud[later]) for codes in (code, step)
            ]
        found[name] = max(ways)
    return found


def _with_time(table: dict[str, list[Any]], events: Events) -> dict[str, list[Any]]:
    hour = events["time_ms"] // HOUR_MS
    return table | {"hour": (hour % 24).tolist(), "weekday": (hour // 24 % 7).tolist()}


def _traits(population: Population, events: Events) -> NDArray[np.float64]:
    """Return features that may tell periods apart: all of a transaction but its date and identity."""
    hour = events["time_ms"] // HOUR_MS
    home = population.home(events["customer"], hour)
    place = np.where(events["place"] >= 0, events["place"], home)
    usd = events["amount"] / CURRENCY_LEVEL[events["currency"]]
    merchant = events["merchant"] % TOWN_MERCHANTS
    return np.column_stack(
        [
            np.log1p(usd), events["currency"], events["category"], events["channel"], hour % 24, merchant,
            population.merchant_country(events["merchant"]), events["card"], place, events["place"] >= 0, events["agent"] // AGENT_KIND, events["agent"] // AGENT_VARIANT % 10,
            events["ip"] >> 24, events["contact"] != 0,
        ]
    ).astype(np.float64)  # fmt: skip


def periods_auc(population: Population, first: Events, second: Events, seed: int) -> float:
    """Return the AUC of a classifier that tells two periods apart, on customers unseen in training."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    rng = np.random.default_rng(seed)
    n = min(len(first), len(second), _CLASSIFIED)
    both = np.concatenate(
        [period[rng.choice(len(period), n, replace=False)] for period in (first, second)]
    )
    is_second = np.repeat([False, True], n)
    x = _traits(population, both)
    group = (
        population.draws.words(Purpose.HABITS, both["customer"], block=77)[0] % np.uint64(2) == 0
    )
    score = np.empty(2 * n)
    for test in (group, ~group):
        model = HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=15, random_state=seed)
        model.fit(x[~test], is_second[~test])
        score[test] = model.predict_proba(x[test])[:, 1]
    return float(np.mean([auc(score[test], is_second[test]) for test in (group, ~group)]))


def shared_fraud_days(events: Events) -> float:
    """Return the share of the victims' fraud days that also hold a legitimate transaction."""
    day = events["customer"] * 100_000 + events["time_ms"] // DAY_MS
    fraud = events["campaign"] != Campaign.LEGITIMATE
    return float(np.isin(np.unique(day[fraud]), np.unique(day[~fraud])).mean())


def recalls(world: World, seed: int, events: Events) -> dict[str, tuple[int, int]]:
    """Train on the earlier two thirds; count the fraud caught of each kind in the later third.

    Features are the model's own, computed as on the stream. The learner is given the truth instead
    of labels, so that it finds any leak.

    Returns:
        Caught and all, by kind of fraud. `legitimate online`, the honest payments of the same
        channels, is the baseline for friendly fraud.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    from fraud.features.replay import replay

    population = Process(world, seed, SimulationPlan(customers=1)).population
    wire = rows(columns(population, events))
    x = np.concatenate(list(replay(pack([from_mapping(row) for row in wire]))))
    campaign = events["campaign"].astype(np.int64)
    fraud = campaign != Campaign.LEGITIMATE
    later = np.arange(len(events)) >= len(events) * 2 // 3
    model = HistGradientBoostingClassifier(
        max_iter=120, learning_rate=0.06, min_samples_leaf=40, l2_regularization=5.0, random_state=0
    )
    model.fit(x[~later], fraud[~later])
    score = model.predict_proba(x[later])[:, 1]
    caught = score > np.quantile(score[~fraud[later]], 1 - FALSE_POSITIVE_RATE)
    channel = events["channel"][later]
    online = (channel == Channel.WEB) | (channel == Channel.APP)
    groups = {CAMPAIGNS[kind]: campaign[later] == kind for kind in Campaign if kind}
    groups["legitimate online"] = online & ~fraud[later]
    return {name: (int(caught[rows_].sum()), int(rows_.sum())) for name, rows_ in groups.items()}


def check_seed(world: World, seed: int, scale: WorldSize) -> Iterator[CheckResult]:
    """Run every check on one seed."""
    plan = SimulationPlan(customers=scale.customers)
    end_ms = START_MS + scale.days * DAY_MS
    parts = list(simulate(world, seed, plan, START_MS, end_ms))
    events = np.concatenate([part.events for part in parts])
    process = Process(world, seed, plan)
    fraud = events["campaign"] != Campaign.LEGITIMATE

    hour = START_MS // HOUR_MS + 30
    batch = events[
        (events["time_ms"] >= hour * HOUR_MS) & (events["time_ms"] < (hour + 8) * HOUR_MS)
    ]
    stream = [process.hours(h, h + 1).events for h in range(hour, hour + 8)]
    same = np.concatenate(stream).tobytes() == np.ascontiguousarray(batch).tobytes()
    yield CheckResult("batch equals stream", seed, float(same), 1, 1, f"{len(batch)} transactions")
    again = list(simulate(world, seed, plan, START_MS, START_MS + 2 * DAY_MS))
    same = (
        np.concatenate([p.events for p in again]).tobytes()
        == events[: sum(len(p.events) for p in again)].tobytes()
    )
    yield CheckResult("same seed, same bytes", seed, float(same), 1, 1)

    table = _with_time(columns(process.population, events), events)
    aucs = raw_field_aucs(table, fraud)
    worst = max(aucs, key=lambda name: aucs[name])
    yield CheckResult("best single raw field, AUC", seed, aucs[worst], 0.0, MAX_RAW_AUC, worst)
    shuffled = np.random.default_rng(seed).permutation(len(events))
    ids = {"entity_id": [table["entity_id"][i] for i in shuffled], "event_id": table["event_id"]}
    # Without signal, an AUC has a standard error of about 0.29 / sqrt(frauds): four are allowed.
    chance = 4 * 0.29 / np.sqrt(max(fraud[len(fraud) // 2 :].sum(), 1))
    for name, value in raw_field_aucs(ids, fraud).items():
        yield CheckResult(f"shuffled {name}, AUC", seed, value, 0.5 - chance, 0.5 + chance)
    yield CheckResult(
        "fraud days with a legitimate payment",
        seed,
        shared_fraud_days(events),
        MIN_SHARED_DAYS,
        1.0,
    )

    # A live stream: a later week of the same world, by rate as the producer runs it.
    week = 7 * DAY_MS
    training = events[events["time_ms"] < START_MS + week]
    rate = len(training) / week * 1000
    t0, t1 = START_MS + 3 * week, START_MS + 4 * week

    def live(*injections: Injection) -> Events:
        plan = SimulationPlan(customers=None, rate=rate, injections=injections)
        return np.concatenate([part.events for part in simulate(world, seed, plan, t0, t1)])

    found = periods_auc(process.population, training, live(), seed)
    yield CheckResult("training or live, AUC", seed, found, *INDISTINGUISHABLE)
    for drift in Drift:
        injection = Injection("drift", drift, f"check-{drift}", 1.0, t0 - DAY_MS, 60.0)
        moved = live(injection)
        # Only thieves adapt, so only fraud is compared.
        thieves = drift is Drift.ADAPTING
        before, after = (e[e["campaign"] > 0] if thieves else e for e in (training, moved))
        found = periods_auc(process.population, before, after, seed)
        sizes = " and ".join(
            f"{len(e)} of {len(np.unique(e['customer']))} customers" for e in (before, after)
        )
        yield CheckResult(
            f"training or live with {drift}, AUC", seed, found, INDISTINGUISHABLE[1], 1.0, sizes
        )

    kinds = recalls(world, seed, events)
    friendly, base = kinds["friendly_fraud"], kinds["legitimate online"]
    share, expected = friendly[0] / max(friendly[1], 1), base[0] / max(base[1], 1)
    # Three standard errors of a share.
    spread = 3 * np.sqrt(expected * (1 - expected) / max(friendly[1], 1))
    yield CheckResult(
        "friendly fraud caught", seed, share, max(0.0, expected - spread), expected + spread,
        f"{friendly[0]} of {friendly[1]}; honest online {expected:.1%}",
    )  # fmt: skip
    for name in CAMPAIGNS:
        if name and name != "friendly_fraud":
            caught, n = kinds[name]
            yield CheckResult(
                f"{name} caught", seed, caught / max(n, 1), 0.0, 1.0, f"{caught} of {n}"
            )


def check(
    seeds: Sequence[int], scale: WorldSize, done: Callable[[CheckResult], None] = lambda _: None
) -> list[CheckResult]:
    """Run every check on every seed.

    Args:
        seeds: Seeds that the world was not tuned on.
        scale: Size of each world.
        done: Called with each result.
    """
    findings = []
    for seed in seeds:
        world = World.load(seed)
        for finding in check_seed(world, seed, scale):
            findings.append(finding)
            done(finding)
    return findings
