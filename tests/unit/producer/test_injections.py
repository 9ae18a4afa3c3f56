"""Campaigns and drift that people inject while the world runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fraud.contracts.times import HOUR_MS
from producer.adaptation import read_log
from producer.events import CAMPAIGNS, Events
from producer.injections import CAMPAIGN_KINDS, Drift, Injection, log_line
from producer.population import CATEGORIES, NEW_AGENT_KINDS, NEW_CATEGORIES
from producer.simulation import SimulationPlan, World, simulate

T0 = 20_700 * 24 * HOUR_MS
T1 = T0 + 6 * HOUR_MS
AT = T0 + HOUR_MS


def told(world: World, *injections: Injection) -> Events:
    plan = SimulationPlan(customers=8_000, injections=injections)
    return np.concatenate([part.events for part in simulate(world, 5, plan, T0, T1)])


def ids(events: Events) -> set[bytes]:
    return {row.tobytes() for row in events["id"]}


@pytest.mark.parametrize("kind", [kind for kind in CAMPAIGN_KINDS if kind != "friendly_fraud"])
def test_an_injected_campaign_adds_its_kind_in_its_time_and_shifts_nobody(
    world: World, kind: str
) -> None:
    calm = told(world)
    wild = told(world, Injection("campaign", kind, "one", 5.0, AT, 60))
    added = wild[wild["campaign_id"] >= 1 << 62]
    others = wild[wild["campaign_id"] < 1 << 62]
    assert others.tobytes() == calm.tobytes()
    assert len(added) > 0
    assert {CAMPAIGNS[i] for i in added["campaign"]} == {kind}
    assert AT <= added["time_ms"].min() <= added["time_ms"].max() < AT + HOUR_MS
    assert len(ids(wild)) == len(wild)


def test_campaigns_do_not_shift_each_other(world: World) -> None:
    one = Injection("campaign", "card_testing", "one", 2.0, AT, 30)
    two = Injection("campaign", "card_testing", "two", 2.0, AT, 30)
    alone, both = told(world, one), told(world, one, two)
    assert ids(alone) < ids(both)


def test_more_intensity_is_more_fraud(world: World) -> None:
    sizes = [
        (told(world, Injection("campaign", "mule_ring", "m", k, AT, 120))["campaign_id"] >= 1 << 62).sum()
        for k in (1.0, 10.0)
    ]  # fmt: skip
    assert sizes[1] > 3 * sizes[0] > 0


def test_a_stopped_or_late_campaign_keeps_what_else_it_did(world: World) -> None:
    """So that what was told before a stop, or after it was heard, is told again exactly."""
    whole = told(world, Injection("campaign", "card_testing", "c", 10.0, AT, 60))
    middle = AT + HOUR_MS // 2
    stopped = told(
        world, Injection("campaign", "card_testing", "c", 10.0, AT, 60, stopped_ms=middle)
    )
    late = told(
        world, Injection("campaign", "card_testing", "c", 10.0, AT, 60, effective_ms=middle)
    )
    first = whole["time_ms"] < middle
    assert stopped[stopped["time_ms"] < middle].tobytes() == whole[first].tobytes()
    assert late[late["time_ms"] >= middle].tobytes() == whole[~first].tobytes()
    assert len(stopped) < len(whole)
    assert len(late) < len(whole)


def test_friendly_fraud_is_marked_not_added(world: World) -> None:
    calm = told(world)
    wild = told(world, Injection("campaign", "friendly_fraud", "f", 10.0, AT, 120))
    assert ids(calm) == ids(wild)
    assert (wild["campaign"] > 0).sum() > 2 * (calm["campaign"] > 0).sum()


@pytest.mark.parametrize("drift", list(Drift))
def test_a_drift_changes_what_it_says_and_nobodys_times(world: World, drift: Drift) -> None:
    calm = told(world)
    moved = told(world, Injection("drift", drift, "d", 1.0, AT, 30))
    for name in ("time_ms", "customer", "id", "merchant", "campaign"):
        assert (moved[name] == calm[name]).all()
    before = calm["time_ms"] < AT
    assert moved[before].tobytes() == calm[before].tobytes()
    whole = calm["time_ms"] >= AT + HOUR_MS // 2
    now, then = moved[whole], calm[whole]
    fraud = then["campaign"] > 0
    if drift is Drift.INFLATION:
        assert now["amount"].sum() / then["amount"].sum() == pytest.approx(1.2, abs=0.01)
    elif drift is Drift.NEW_CATEGORIES:
        assert 0.01 < np.isin(now["category"], NEW_CATEGORIES).mean() < 0.2
        assert not np.isin(then["category"], NEW_CATEGORIES).any()
    elif drift is Drift.NEW_DEVICES:
        held = then["device"] >= 0
        changed = now["device"][held] != then["device"][held]
        assert 0.2 < changed.mean() < 0.4
        assert np.isin(now["agent"][held][changed] // 100_000, NEW_AGENT_KINDS).all()
    else:
        assert now[~fraud].tobytes() == then[~fraud].tobytes()
        assert now["amount"][fraud].sum() < then["amount"][fraud].sum()


def test_a_log_is_read_as_it_was_written(tmp_path: Path) -> None:
    """The last line of a name counts: it is stopped by writing it again."""
    campaign = Injection("campaign", "bust_out", "b", 2.0, AT, 10, effective_ms=AT + 7)
    drift = Injection("drift", "inflation", "b", 0.5, AT, 60.5)
    stopped = Injection("drift", "inflation", "b", 0.5, AT, 60.5, stopped_ms=AT + 9)
    path = tmp_path / "injections.jsonl"
    path.write_bytes(log_line(campaign) + log_line(drift) + log_line(stopped))
    assert read_log(path).injections == (campaign, stopped)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ('{"what":"campaign","name":"x","kind":"nonsense","intensity":1,"start":"2026-01-01T00:00:00Z","minutes":1}', "kind"),
        ('{"what":"drift","name":"x","kind":"inflation","intensity":0,"start":"2026-01-01T00:00:00Z","minutes":1}', "intensity"),
        ('{"what":"drift","name":"x","kind":"inflation","intensity":1,"start":"soon","minutes":1}', "start"),
        ('{"what":"drift","name":"x","kind":"inflation","intensity":1,"start":"2026-01-01T00:00:00Z","minutes":"1"}', "minutes"),
        ("[]", "object"),
    ],
)  # fmt: skip
def test_a_bad_line_names_file_line_and_field(tmp_path: Path, line: str, field: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(line)
    with pytest.raises(ValueError, match=rf"log.jsonl, line 1: .*{field}"):
        read_log(path)


def test_new_categories_are_sold_by_nobody_without_drift() -> None:
    assert all(CATEGORIES[i].share == 0 for i in NEW_CATEGORIES)
    assert len(NEW_CATEGORIES) == 3
