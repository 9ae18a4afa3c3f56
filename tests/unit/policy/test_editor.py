"""The desk and the book: what is changed is what is read, and nothing broken gets in."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from pydantic import ValidationError

from fraud.contracts.control import ControlDocument, decode_control
from fraud.contracts.decision import ModelRef
from fraud.contracts.errors import InvalidMessage
from fraud.contracts.lists import ListEntry, ListType, ListUse
from fraud.contracts.rules import MAX_VERSION, RuleSet, RuleStatus
from fraud.decision.rule_sets import InvalidRules, default_rules
from fraud.policy.editor import Conflict, Desk, NoSuch
from fraud.policy.state import ControlBook
from fraud.runtime.clock import to_datetime

NOW_MS = 1_772_323_200_000


class Office:
    """A desk whose documents a book reads, by way of their bytes."""

    def __init__(self) -> None:
        self.book = ControlBook()
        self.published: list[ControlDocument] = []
        numbers = count()
        self.desk = Desk(
            self, lambda: self.book, clock=lambda: NOW_MS, ids=lambda: f"c{next(numbers)}"
        )

    def publish(self, document: ControlDocument) -> None:
        self.published.append(document)
        self.book.take(decode_control(document.key, document.value))

    def entries(self, name: str) -> set[str]:
        return set(self.book.lists()[name].entries)

    def statuses(self) -> dict[str, RuleStatus]:
        return {one.rules.version: one.status for one in self.book.rule_versions()}


@pytest.fixture
def office() -> Office:
    return Office()


def rules(*rules: dict[str, Any], **more: Any) -> RuleSet:
    base = {"id": "R1", "when": "$score > 900", "outcome": "review"}
    return RuleSet.model_validate({"rules": [base | rule for rule in rules]} | more)


def test_the_shipped_rules_are_active_until_others_are(office: Office) -> None:
    shipped = default_rules().version
    drafted = office.desk.draft(rules({}), "ada")
    assert office.statuses() == {shipped: RuleStatus.ACTIVE, drafted.version: RuleStatus.DRAFT}
    office.desk.activate(drafted.version, "bo")
    assert office.statuses() == {shipped: RuleStatus.INACTIVE, drafted.version: RuleStatus.ACTIVE}
    assert office.book.active_rules == drafted
    office.desk.activate(shipped, "ada")
    assert office.statuses() == {shipped: RuleStatus.ACTIVE, drafted.version: RuleStatus.INACTIVE}


def test_history_says_who_changed_what(office: Office) -> None:
    drafted = office.desk.draft(rules({}), "ada")
    office.desk.activate(drafted.version, "bo")
    changes = [(one.name, one.version, one.author) for one in office.book.changes("rules")]
    assert changes == [("active", drafted.version, "bo"), ("draft", drafted.version, "ada")]
    (kept,) = (one for one in office.book.rule_versions() if one.author == "ada")
    assert (kept.created_ms, kept.activated_ms) == (NOW_MS, NOW_MS)


def test_a_changed_rule_gets_the_next_version(office: Office) -> None:
    """And one that is as it was keeps its own, whatever is around it."""
    first = office.desk.draft(rules({}), "ada")
    second = office.desk.draft(rules({"when": "$score > 910"}, {"id": "R2"}), "ada")
    third = office.desk.draft(rules({"id": "R2"}, {}), "ada")
    versions = [[(one.id, one.version) for one in each.rules] for each in (first, second, third)]
    assert versions == [[("R1", 1)], [("R1", 2), ("R2", 1)], [("R2", 1), ("R1", 1)]]
    with pytest.raises(InvalidRules, match="rule R1, version: expected 3, or no version"):
        office.desk.draft(rules({"when": "$score > 920", "version": 2}), "ada")


@pytest.mark.parametrize(
    ("when", "told"),
    [
        ("$scor > 1", "rule R1, when, line 1, column 1: unknown variable"),
        ("$score >", "rule R1, when, line 1"),
        ("$ip_address in @nowhere", "nowhere"),
        ("$score > 'a'", "rule R1, when, line 1"),
    ],
)
def test_rules_that_could_not_decide_are_refused_at_the_door(
    office: Office, when: str, told: str
) -> None:
    with pytest.raises(InvalidRules, match=told):
        office.desk.draft(rules({"when": when}), "ada")
    assert office.published == []


def test_who_activates_may_say_what_is_active_now(office: Office) -> None:
    """Two people do not undo each other's change unseen."""
    shipped = default_rules().version
    one, other = (
        office.desk.draft(rules({"when": when}), "ada") for when in ("$score > 1", "$score > 2")
    )
    office.desk.activate(one.version, "ada", expected=shipped)
    with pytest.raises(Conflict, match=f"expected {shipped} to be active"):
        office.desk.activate(other.version, "bo", expected=shipped)
    with pytest.raises(NoSuch, match="no version abc"):
        office.desk.activate("abc", "bo")


def test_of_two_who_expect_the_same_one_is_refused(office: Office) -> None:
    """Though both looked before either wrote."""
    shipped = default_rules().version
    one, other = (office.desk.draft(rules({"id": name}), "ada") for name in ("R1", "R2"))

    class Overtaken(Desk):
        """Whose document comes to the topic after another's."""

        def _publish(self, *arguments: Any, **more: Any) -> ControlDocument:
            office.desk.activate(one.version, "ada", expected=shipped)
            return super()._publish(*arguments, **more)

    late = Overtaken(office, lambda: office.book, clock=lambda: NOW_MS)
    with pytest.raises(Conflict, match="another version came to be meanwhile"):
        late.activate(other.version, "bo", expected=shipped)
    assert office.book.active_rules == one
    assert [change.author for change in office.book.changes("rules", "active")] == ["ada"]
    # Whoever looks again succeeds, also without expecting anything.
    office.desk.activate(other.version, "bo", expected=one.version)
    office.desk.activate(one.version, "ada")
    office.desk.activate(other.version, "bo", expected=one.version)
    assert office.book.active_rules == other


def test_an_expectation_holds_though_what_was_activated_last_is_refused(office: Office) -> None:
    """As when another version of the program wrote it."""
    shipped = default_rules().version
    drafted = office.desk.draft(rules({}), "ada")
    content = rules({"when": "$nope > 1"})
    broken = ControlDocument(
        kind="rules",
        name="active",
        version=content.version,
        author="x",
        time=to_datetime(NOW_MS),
        content=content.model_dump(mode="json"),
    )
    with pytest.raises(InvalidMessage, match="unknown variable"):
        office.publish(broken)
    assert office.book.active_rules == default_rules()
    assert office.statuses() == {shipped: RuleStatus.ACTIVE, drafted.version: RuleStatus.DRAFT}
    office.desk.activate(drafted.version, "ada", expected=shipped)
    assert office.book.active_rules == drafted


def test_compaction_keeps_who_activated_what(office: Office) -> None:
    """A version that decides for the second time does not take the first time off the topic."""
    one, other = (office.desk.draft(rules({"id": name}), "ada") for name in ("R1", "R2"))
    for kept, author in ((one, "ada"), (other, "bo"), (one, "cy")):
        office.desk.activate(kept.version, author, expected=office.book.active_rules.version)
    for author in ("ada", "bo"):
        office.desk.champion(ModelRef(name="m", version="a1"), author)
        office.desk.challenge_model(ModelRef(name="m", version="a1"), author)
        office.desk.challenge_model(None, author)
    last = {document.key: at for at, document in enumerate(office.published)}
    compacted = ControlBook()
    for at in sorted(last.values()):
        compacted.take(office.published[at])
    assert list(compacted.changes()) == list(office.book.changes())
    assert compacted.active_rules == office.book.active_rules == one
    assert len(list(office.book.changes("model"))) == 6


def test_of_two_drafts_with_the_same_versions_one_can_decide(office: Office) -> None:
    """Written at once they give a changed rule the same version; the other is written again."""
    office.desk.activate(office.desk.draft(rules({}), "ada").version, "ada")
    seen = office.book
    office.book = ControlBook()
    for document in office.published:
        office.book.take(document)
    stale = Desk(office, lambda: seen, clock=lambda: NOW_MS)
    one = office.desk.draft(rules({"when": "$score > 910"}), "ada")
    other = stale.draft(rules({"when": "$score > 920"}), "bo")
    assert [one.rules[0].version, other.rules[0].version] == [2, 2]
    office.desk.activate(one.version, "ada")
    for call in (office.desk.activate, office.desk.challenge_rules):
        with pytest.raises(InvalidRules, match="rule R1, version: expected 3, or no version"):
            call(other.version, "bo")
    again = office.desk.draft(rules({"when": "$score > 920"}), "bo")
    assert again.rules[0].version == 3
    office.desk.activate(again.version, "bo")
    assert office.book.active_rules == again


def test_versions_of_rules_end_at_what_an_index_keeps(office: Office) -> None:
    office.desk.draft(rules({"version": MAX_VERSION}), "ada")
    with pytest.raises(InvalidRules, match="no version after 2147483647"):
        office.desk.draft(rules({"when": "$score > 910"}), "ada")
    with pytest.raises(ValidationError, match="less than or equal to 2147483647"):
        rules({"version": MAX_VERSION + 1})


def test_a_document_that_no_record_can_hold_is_refused(office: Office) -> None:
    many = rules(*({"id": f"R{at}", "when": "$score > 1" + " " * 3_900} for at in range(300)))
    with pytest.raises(InvalidMessage, match="rules: expected at most 983040 bytes"):
        office.desk.draft(many, "ada")
    assert office.published == []


def test_a_draft_again_is_no_change(office: Office) -> None:
    office.desk.draft(rules({}), "ada")
    office.desk.draft(rules({}), "bo")
    assert len(office.published) == 1


def test_challengers_come_and_go(office: Office) -> None:
    drafted = office.desk.draft(rules({}), "ada")
    office.desk.challenge_rules(drafted.version, "ada")
    office.desk.challenge_model(ModelRef(name="m", version="a1"), "ada")
    assert office.book.challenger_rules == drafted
    assert office.book.challenger == ModelRef(name="m", version="a1")
    office.desk.challenge_rules(None, "ada")
    office.desk.challenge_model(None, "ada")
    assert office.book.challenger_rules is None
    assert office.book.challenger is None
    assert office.book.active_rules == default_rules()


def test_a_list_is_made_changed_and_dropped(office: Office) -> None:
    desk = office.desk
    desk.make_list("bad_ips", ListType.IP, ListUse.BLOCK, "ada", description="Attackers.")
    with pytest.raises(Conflict, match="a list bad_ips already"):
        desk.make_list("bad_ips", ListType.IP, ListUse.BLOCK, "ada")
    added = [ListEntry(value="10.1.2.3/8", reason="test"), ListEntry(value="192.0.2.1")]
    assert desk.change_list("bad_ips", "bo", add=added) == 2
    assert office.entries("bad_ips") == {"10.0.0.0/8", "192.0.2.1"}
    kept = office.book.lists()["bad_ips"].entries["10.0.0.0/8"]
    assert (kept.author, kept.added_ms, kept.entry.reason) == ("bo", NOW_MS, "test")
    desk.change_list("bad_ips", "bo", remove=["10.0.0.0/8"], use=ListUse.WATCH)
    state = office.book.lists()["bad_ips"]
    assert (set(state.entries), state.use, state.description) == (
        {"192.0.2.1"},
        ListUse.WATCH,
        "Attackers.",
    )
    desk.drop_list("bad_ips", "ada")
    assert office.book.lists() == {}
    for call in (desk.drop_list, desk.change_list):
        with pytest.raises(NoSuch, match="no list bad_ips"):
            call("bad_ips", "ada")


@pytest.mark.parametrize("enabled", [True, False])
def test_a_list_that_rules_ask_for_is_not_dropped(office: Office, enabled: bool) -> None:
    """Snoozed rules too: the set could not be activated again."""
    office.desk.make_list("seen", ListType.IP, ListUse.REFERENCE, "ada")
    asking = office.desk.draft(rules({"when": "$ip_address in @seen", "enabled": enabled}), "ada")
    office.desk.activate(asking.version, "ada")
    with pytest.raises(Conflict, match="ask for the list seen"):
        office.desk.drop_list("seen", "ada")


def test_bad_entries_are_refused_by_place_and_nothing_changes(office: Office) -> None:
    office.desk.make_list("bad_ips", ListType.IP, ListUse.BLOCK, "ada")
    before = len(office.published)
    entries = [ListEntry(value="192.0.2.1"), ListEntry(value="ada@example.com")]
    with pytest.raises(InvalidMessage, match=r"add\.1\.value: expected an IP") as told:
        office.desk.change_list("bad_ips", "ada", add=entries)
    assert "ada@" not in str(told.value)
    with pytest.raises(InvalidMessage, match="name: expected small letters"):
        office.desk.make_list("Bad IPs", ListType.IP, ListUse.BLOCK, "ada")
    with pytest.raises(InvalidMessage, match="use: expected reference"):
        office.desk.make_list("words", ListType.TEXT, ListUse.BLOCK, "ada")
    assert len(office.published) == before


def test_a_bad_value_to_be_taken_off_is_named_as_such(office: Office) -> None:
    office.desk.make_list("bad_ips", ListType.IP, ListUse.BLOCK, "ada")
    with pytest.raises(InvalidMessage, match=r"remove\.1: expected an IP"):
        office.desk.change_list("bad_ips", "ada", remove=["192.0.2.1", "x"])


def test_a_list_is_made_with_its_entries_or_not_at_all(office: Office) -> None:
    entries = [ListEntry(value="192.0.2.1"), ListEntry(value="x")]
    with pytest.raises(InvalidMessage, match=r"add\.1\.value"):
        office.desk.make_list("seen", ListType.IP, ListUse.BLOCK, "ada", entries=entries)
    assert office.book.lists() == {}
    office.desk.make_list("seen", ListType.IP, ListUse.BLOCK, "ada", entries=entries[:1])
    assert office.entries("seen") == {"192.0.2.1"}
    assert len(office.published) == 1


def test_a_list_becomes_one_of_another_type_with_all_that_is_on_it(office: Office) -> None:
    """Or stays as it is: what does not fit is found before anything is written."""
    entries = [ListEntry(value="192.0.2.1"), ListEntry(value="x", reason="by hand")]
    office.desk.make_list(
        "seen", ListType.TEXT, ListUse.REFERENCE, "ada", description="Ours.", entries=entries
    )
    with pytest.raises(InvalidMessage, match="type: expected one that fits all"):
        office.desk.change_list("seen", "bo", kind=ListType.IP)
    assert office.entries("seen") == {"192.0.2.1", "x"}
    office.desk.change_list("seen", "ada", remove=["x"])
    more = [ListEntry(value="192.0.2.2")]
    assert office.desk.change_list("seen", "bo", kind=ListType.IP, add=more) == 1
    after = office.book.lists()["seen"]
    assert (after.type, after.description) == (ListType.IP, "Ours.")
    assert office.entries("seen") == {"192.0.2.1", "192.0.2.2"}
    assert len(office.published) == 3
    asking = rules({"when": "$ip_address in @seen"})
    office.desk.activate(office.desk.draft(asking, "ada").version, "ada")
    with pytest.raises(Conflict, match="ask for the list seen"):
        office.desk.change_list("seen", "bo", kind=ListType.TEXT)


def test_a_description_is_left_changed_and_cleared(office: Office) -> None:
    office.desk.make_list("seen", ListType.IP, ListUse.BLOCK, "ada", description="Ours.")
    told = []
    for description in (None, "Theirs.", ""):
        office.desk.change_list("seen", "bo", description=description)
        told.append(office.book.lists()["seen"].description)
    assert told == ["Ours.", "Theirs.", ""]


def test_a_hundred_thousand_entries_fit_and_count_as_one_change(office: Office) -> None:
    """In as many records as the topic's limit asks for."""
    office.desk.make_list("many", ListType.ENTITY, ListUse.BLOCK, "ada")
    values = [f"customer-{number:06}" for number in range(100_000)]
    office.desk.change_list("many", "ada", add=[ListEntry(value=value) for value in values])
    parts = office.published[1:]
    assert len(parts) > 1
    assert max(len(part.value) for part in parts) < 1_000_000
    assert len(office.book.lists()["many"]) == 100_000
