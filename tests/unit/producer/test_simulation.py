"""The simulated world as one pure process."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from fraud.contracts.times import DAY_MS, HOUR_MS
from fraud.contracts.transaction import FIELDS, decode
from producer import records
from producer.events import Campaign, Channel, Events
from producer.labels import MAX_DELAY_DAYS
from producer.population import SEGMENTS, load_pools
from producer.records import columns, rows
from producer.simulation import Process, SimulationPlan, Slice, World, simulate

T0 = 20_700 * DAY_MS  # 2026-09-04


def wire(world: World, seed: int, plan: SimulationPlan, t0: int, t1: int) -> bytes:
    """Write all that happens as lines of JSON."""
    population = Process(world, seed, plan).population
    return b"\n".join(
        orjson.dumps(row)
        for part in simulate(world, seed, plan, t0, t1)
        for row in rows(columns(population, part.events))
    )


def events(world: World, seed: int, plan: SimulationPlan, t0: int, t1: int) -> Events:
    return np.concatenate([part.events for part in simulate(world, seed, plan, t0, t1)])


def test_same_seed_same_bytes(world: World) -> None:
    plan = SimulationPlan(customers=300)
    first = wire(world, 5, plan, T0, T0 + 2 * DAY_MS)
    assert first == wire(world, 5, plan, T0, T0 + 2 * DAY_MS)
    assert first != wire(world, 6, plan, T0, T0 + 2 * DAY_MS)
    assert first.count(b"\n") > 500


def test_any_hour_is_the_same_alone_and_in_its_time(world: World) -> None:
    """Batch equals stream: history and the live stream are one process."""
    plan = SimulationPlan(customers=4_000)
    batch = events(world, 5, plan, T0, T0 + 3 * DAY_MS)
    for hour in (0, 5, 40, 71):
        begin = T0 + hour * HOUR_MS
        alone = Process(world, 5, plan).hours(begin // HOUR_MS, begin // HOUR_MS + 1).events
        inside = batch[(batch["time_ms"] >= begin) & (batch["time_ms"] < begin + HOUR_MS)]
        assert alone.tobytes() == np.ascontiguousarray(inside).tobytes()
    assert (batch["campaign"] != 0).any()


def test_a_process_can_be_rewound(world: World) -> None:
    process = Process(world, 5, SimulationPlan(customers=4_000))
    hour = T0 // HOUR_MS
    before = process.hours(hour, hour + 6).events.tobytes()
    process.hours(hour + 500, hour + 501)
    assert process.hours(hour, hour + 6).events.tobytes() == before


def test_events_come_in_order_with_ids_of_their_own(world: World) -> None:
    made = events(world, 5, SimulationPlan(customers=2_000, prevalence=0.05), T0, T0 + 5 * DAY_MS)
    assert (np.diff(made["time_ms"]) >= 0).all()
    assert len(np.unique(made["id"], axis=0)) == len(made)
    assert made["time_ms"][0] >= T0
    assert made["time_ms"][-1] < T0 + 5 * DAY_MS


def test_more_fraud_shifts_nobody_elses_life(world: World) -> None:
    calm = events(world, 5, SimulationPlan(customers=2_000, prevalence=0.0), T0, T0 + 2 * DAY_MS)
    wild = events(world, 5, SimulationPlan(customers=2_000, prevalence=0.06), T0, T0 + 2 * DAY_MS)
    honest = wild[(wild["campaign"] == 0) | (wild["campaign"] == Campaign.FRIENDLY_FRAUD)]
    assert not calm["campaign"].any()
    names = [name for name in calm.dtype.names if name != "campaign"]
    for name in names:
        assert (calm[name] == honest[name]).all(), name


def test_more_customers_shift_nobody_elses_life(world: World) -> None:
    few = events(world, 5, SimulationPlan(customers=500, prevalence=0.0), T0, T0 + DAY_MS)
    many = events(world, 5, SimulationPlan(customers=3_000, prevalence=0.0), T0, T0 + DAY_MS)
    assert few.tobytes() == many[many["customer"] < 500].tobytes()


@pytest.fixture(scope="module")
def town(world: World) -> list[Slice]:
    """Four days of 20,000 customers, by the default plan."""
    return list(simulate(world, 5, SimulationPlan(customers=20_000), T0, T0 + 4 * DAY_MS))


@pytest.fixture(scope="module")
def town_events(town: list[Slice]) -> Events:
    return np.concatenate([part.events for part in town])


@pytest.mark.parametrize("prevalence", [0.001, 0.06])
def test_the_prevalence_is_held(world: World, prevalence: float) -> None:
    plan = SimulationPlan(customers=20_000, prevalence=prevalence)
    made = events(world, 5, plan, T0, T0 + 3 * DAY_MS)
    share = (made["campaign"] != 0).mean()
    assert share == pytest.approx(prevalence, rel=0.4)


def test_the_default_prevalence_is_held(town_events: Events) -> None:
    share = (town_events["campaign"] != 0).mean()
    assert share == pytest.approx(SimulationPlan().prevalence, rel=0.4)


def test_every_kind_of_fraud_happens(town_events: Events) -> None:
    assert set(np.unique(town_events["campaign"])) == set(Campaign)


def test_a_rate_is_held_over_a_week_by_as_many_customers_as_it_needs(world: World) -> None:
    """Days and nights stay in it: a live stream has the same hours as history."""
    plan = SimulationPlan(customers=None, rate=0.2)
    made = events(world, 5, plan, T0, T0 + 7 * DAY_MS)
    assert len(made) / (7 * 86_400) == pytest.approx(0.2, rel=0.1)
    by_hour = np.bincount(made["time_ms"] // HOUR_MS % 24, minlength=24) / len(made)
    assert by_hour.max() > 1.5 * by_hour.min()


def test_a_rate_can_be_forced_on_few_customers(world: World) -> None:
    made = events(world, 5, SimulationPlan(customers=100, rate=0.5), T0, T0 + DAY_MS)
    assert len(made) / 86_400 == pytest.approx(0.5, rel=0.25)
    assert len(np.unique(made["customer"])) <= 100


def test_all_that_is_written_obeys_the_contract(world: World) -> None:
    names = {field.name for field in FIELDS}
    for line in wire(
        world, 9, SimulationPlan(customers=400, prevalence=0.2), T0, T0 + DAY_MS
    ).split(b"\n"):
        transaction = decode(line)
        assert transaction.transaction_amt > 0
        assert orjson.loads(line).keys() <= names


def test_fraud_hides_among_its_victims_own_payments(town_events: Events) -> None:
    """At least three in ten of the victims' fraud days also hold a legitimate payment."""
    made = town_events
    day = made["time_ms"] // DAY_MS
    pairs = {(int(c), int(d)) for c, d in zip(made["customer"], day, strict=True)}
    fraud = {
        (int(c), int(d))
        for c, d in zip(
            made["customer"][made["campaign"] != 0], day[made["campaign"] != 0], strict=True
        )
    }
    honest = {
        (int(c), int(d))
        for c, d in zip(
            made["customer"][made["campaign"] == 0], day[made["campaign"] == 0], strict=True
        )
    }
    assert fraud < pairs
    assert len(fraud & honest) / len(fraud) >= 0.3


def test_a_terminal_has_no_device_and_a_browser_has_one(world: World) -> None:
    made = events(world, 5, SimulationPlan(customers=2_000), T0, T0 + DAY_MS)
    pos = made["channel"] == Channel.POS
    web = made["channel"] == Channel.WEB
    assert (made["device"][pos] == -1).all()
    assert (made["ip"][pos] == -1).all()
    assert (made["device"][web] >= 0).all()
    first_octet = made["ip"][web] >> 24
    assert not np.isin(first_octet, (0, 10, 127, 192)).any()


def test_labels_come_later_and_are_not_always_true(town: list[Slice]) -> None:
    truth = np.concatenate([part.events["campaign"] for part in town]) != 0
    said = np.concatenate([part.labels.fraud for part in town])
    delay = np.concatenate([part.labels.time_ms - part.events["time_ms"] for part in town]) / DAY_MS
    assert delay.min() > 0
    assert delay.max() <= MAX_DELAY_DAYS
    assert 0 < (truth & ~said).sum() < 0.2 * truth.sum()
    assert 0 < (~truth & said).sum() < 0.001 * (~truth).sum()
    assert 1 < np.median(delay[said]) < 20


@pytest.mark.parametrize(
    "wrong",
    [{"customers": None}, {"customers": 0}, {"rate": 0.0}, {"prevalence": 0.7}, {"prevalence": -0.1}, {"mix": {}}, {"mix": {Campaign.BUST_OUT: 0.0}}],
)  # fmt: skip
def test_a_plan_that_cannot_be_is_refused(wrong) -> None:
    with pytest.raises(ValueError, match=r"customers|rate|prevalence|mix"):
        SimulationPlan(**wrong)


def test_the_population_is_made_once(tmp_path, monkeypatch) -> None:
    made = load_pools(3, tmp_path)
    (cached,) = tmp_path.iterdir()
    assert cached.name.startswith("population-3-")
    cached.write_bytes(cached.read_bytes().replace(made.first_names[0].encode(), b"Zebulon"))
    assert "Zebulon" in load_pools(3, tmp_path).first_names
    assert load_pools(4, tmp_path) != made
    with monkeypatch.context() as other:
        other.setattr("producer.population.version", lambda _: "another Faker")
        assert load_pools(3, tmp_path) == made, "another version makes words of its own"


@pytest.fixture(scope="module")
def week(world: World) -> Events:
    return events(world, 5, SimulationPlan(customers=4_000, prevalence=0.02), T0, T0 + 7 * DAY_MS)


def test_money_follows_the_merchant_and_the_address_its_customer(world: World, week) -> None:
    population = Process(world, 5, SimulationPlan()).population
    wire = columns(population, week)
    currencies: dict[str, set[str]] = {}
    for merchant, currency in zip(wire["merchant_id"], wire["transaction_currency"], strict=True):
        if merchant is not None:
            currencies.setdefault(merchant, set()).add(currency)
    assert {len(found) for found in currencies.values()} == {1}
    homes: dict[str, set[str]] = {}
    for entity, country in zip(wire["entity_id"], wire["billing_country"], strict=True):
        if country is not None:
            homes.setdefault(entity, set()).add(country)
    # Whoever moves house within the week has two.
    assert np.mean([len(countries) for countries in homes.values()]) < 1.02


def test_a_field_that_the_world_does_not_have_is_absent(
    world: World, week: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that declaring a field of one's own takes no change of the simulator."""
    monkeypatch.setattr(records, "COLUMNS", (*records.COLUMNS, "auth_result"))
    wire = columns(Process(world, 5, SimulationPlan()).population, week[:10])
    assert wire["auth_result"] == [None] * 10
    assert "auth_result" not in next(rows(wire))


def test_people_mostly_buy_at_home_and_thieves_less_so(world: World, week) -> None:
    population = Process(world, 5, SimulationPlan()).population
    home = population.place_country[population.home(week["customer"], week["time_ms"] // HOUR_MS)]
    abroad = population.merchant_country(week["merchant"]) != home
    honest = week["campaign"] == 0
    online = np.isin(week["channel"], (Channel.WEB, Channel.APP))
    travelling = honest & (week["place"] >= 0)
    assert 0.02 < abroad[honest & online].mean() < 0.12
    assert not abroad[
        honest & ~online & (week["place"] < 0) & (week["channel"] != Channel.RECURRING)
    ].any()
    here = population.place_country[week["place"][travelling]]
    assert (population.merchant_country(week["merchant"][travelling]) == here).all()
    assert abroad[week["campaign"] == Campaign.CARD_TESTING].mean() > 0.3


def test_a_card_is_of_a_bank_of_its_owners_country(world: World, week) -> None:
    population = Process(world, 5, SimulationPlan()).population
    hour = week["time_ms"] // HOUR_MS
    home = population.home(week["customer"], hour)
    bins = population.card_bin(week["customer"], week["card"], hour, home)
    own = week["card"] < 2
    country = population.place_country[home]
    countries_of_bin = {
        (b, c) for b, c in zip(bins[own].tolist(), country[own].tolist(), strict=True)
    }
    assert len(countries_of_bin) == len({b for b, _ in countries_of_bin})
    assert 200 < len(population.card_bins) < 400
    assert (week["card"] == 1).any()
    assert set(week["campaign"][~own]) == {Campaign.ACCOUNT_TAKEOVER}


def test_customers_differ_by_segment(world: World) -> None:
    population = Process(world, 5, SimulationPlan()).population
    who = np.arange(20_000)
    segment = population.segment(who)
    spending, online, *_ = population.habits(who)
    student, professional, retiree = (
        [s.name for s in SEGMENTS].index(name) for name in ("student", "professional", "retiree")
    )
    assert spending[segment == student].mean() < 0.7 * spending[segment == professional].mean()
    assert online[segment == retiree].mean() < 0.6 * online[segment == student].mean()
    assert np.bincount(segment).min() > 1_000
