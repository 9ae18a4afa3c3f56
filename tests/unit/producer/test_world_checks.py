"""The stable part of what makes the world fit to learn from; `fraudstream simulate check` has the rest."""

from __future__ import annotations

import numpy as np
import pytest

from fraud.contracts.times import DAY_MS
from producer.events import Campaign, Channel
from producer.injections import Injection
from producer.records import columns
from producer.simulation import Process, SimulationPlan, World, simulate
from producer.world_checks import MAX_RAW_AUC, auc, periods_auc, raw_field_aucs, shared_fraud_days

T0 = 20_700 * DAY_MS


def told(world: World, plan: SimulationPlan, first_day: int, last_day: int):
    parts = simulate(world, 7, plan, T0 + first_day * DAY_MS, T0 + last_day * DAY_MS)
    return np.concatenate([part.events for part in parts])


@pytest.fixture(scope="module")
def history(world: World):
    return told(world, SimulationPlan(customers=4_000, prevalence=0.01), 0, 14)


def test_the_area_under_the_curve_counts_ties_half() -> None:
    fraud = np.array([False, False, True, True])
    assert auc([1, 2, 3, 4], fraud) == 1.0
    assert auc([1, 1, 1, 1], fraud) == 0.5


@pytest.mark.slow
def test_no_raw_field_alone_tells_fraud(world: World, history) -> None:
    population = Process(world, 7, SimulationPlan()).population
    aucs = raw_field_aucs(columns(population, history), history["campaign"] != 0)
    assert max(aucs.values()) <= MAX_RAW_AUC, aucs
    assert aucs["event_id"] == pytest.approx(0.5, abs=0.03)


@pytest.mark.slow
def test_an_entity_id_tells_nothing_once_it_is_shuffled(world: World, history) -> None:
    """What is found in ids is then chance: the measure itself must find nothing in it."""
    population = Process(world, 7, SimulationPlan()).population
    ids = columns(population, history)["entity_id"]
    shuffled = [ids[at] for at in np.random.default_rng(7).permutation(len(ids))]
    fraud = history["campaign"] != 0
    chance = 4 * 0.29 / np.sqrt(fraud[len(fraud) // 2 :].sum())
    (found,) = raw_field_aucs({"entity_id": shuffled}, fraud).values()
    assert abs(found - 0.5) <= chance


@pytest.mark.slow
def test_friendly_fraud_is_told_by_no_field(world: World, history) -> None:
    """It is the customer's own payment: beside honest ones of its channels nothing may stand out."""
    friendly = history["campaign"] == Campaign.FRIENDLY_FRAUD
    online = np.isin(history["channel"], (Channel.WEB, Channel.APP))
    chosen = history[online & (friendly | (history["campaign"] == 0))]
    disputed = chosen["campaign"] != 0
    population = Process(world, 7, SimulationPlan()).population
    aucs = raw_field_aucs(columns(population, chosen), disputed)
    count = disputed[len(disputed) // 2 :].sum()
    assert count > 30
    assert max(aucs.values()) <= 0.5 + 4 * 0.29 / np.sqrt(count), aucs


@pytest.mark.slow
def test_fraud_days_hold_honest_payments(history) -> None:
    assert shared_fraud_days(history) >= 0.3


@pytest.mark.slow
def test_live_looks_like_history_until_it_drifts(world: World, history) -> None:
    """The stream driver by rate against the batch driver by customers, a week of each."""
    rate = len(history) / (14 * 86_400)
    week = history[history["time_ms"] < T0 + 7 * DAY_MS]
    population = Process(world, 7, SimulationPlan()).population
    plan = SimulationPlan(customers=None, rate=rate, prevalence=0.01)
    live = told(world, plan, 21, 28)
    assert periods_auc(population, week, live, 7) == pytest.approx(0.5, abs=0.03)
    drift = Injection("drift", "inflation", "d", 1.0, T0, 60)
    drifted = told(
        world,
        SimulationPlan(customers=None, rate=rate, prevalence=0.01, injections=(drift,)),
        21,
        28,
    )
    assert periods_auc(population, week, drifted, 7) > 0.53
