"""The editor and the policy state: what is changed is what is read, and nothing broken gets in."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fraud.contracts.control import ControlDocument, decode_control
from fraud.contracts.decision import ModelRef
from fraud.contracts.errors import InvalidMessage
from fraud.contracts.lists import ListEntry, ListType, ListUse
from fraud.contracts.rules import MAX_VERSION, RuleSet, RuleStatus
from fraud.decision.rule_sets import InvalidRules, default_rules
from fraud.policy.editor import Conflict, NoSuch, PolicyEditor
from fraud.policy.history import PolicyHistory
from fraud.policy.state import PolicyState
from fraud.runtime.clock import to_datetime
from fraud.security.audit import AuditLog, RecordedChange
from tests.support.control_topic import ControlTopic
from tests.support.editing import PSEUDONYMS, an_author, an_editor, promote

NOW_MS = 1_772_323_200_000


class PolicySession:
    """An editor whose documents a policy state reads, by way of their bytes."""

    def __init__(self) -> None:
        self.policy_state = PolicyState()
        self.history = PolicyHistory()
        self.published: list[ControlDocument] = []
        self._numbers = count()
        self.editor = self.by("ada")

    def by(self, author: str) -> PolicyEditor:
        return an_editor(
            self,
            lambda: self.policy_state,
            author,
            clock=lambda: NOW_MS,
            ids=lambda: f"c{next(self._numbers)}",
        )

    def publish(self, document: ControlDocument) -> None:
        self.published.append(document)
        read = decode_control(document.key, document.value)
        if self.policy_state.apply(read):
            self.history.apply(read)

    def entries(self, name: str) -> set[str]:
        return set(self.policy_state.lists()[name].entries)

    def statuses(self) -> dict[str, RuleStatus]:
        return {one.rules.version: one.status for one in self.policy_state.rule_versions()}


@pytest.fixture
def policy_session() -> PolicySession:
    return PolicySession()


def rules(*rules: dict[str, Any], **more: Any) -> RuleSet:
    base = {"id": "R1", "when": "$score > 900", "outcome": "review"}
    return RuleSet.model_validate({"rules": [base | rule for rule in rules]} | more)


def test_an_editor_needs_a_log_and_an_author(policy_session: PolicySession) -> None:
    """A change that is not on record is a type error."""
    with pytest.raises(TypeError, match="'audit', 'author', and 'pseudonyms'"):
        PolicyEditor(policy_session, lambda: policy_session.policy_state)  # type: ignore[call-arg]


def test_a_change_is_on_record_before_it_is_made(
    policy_session: PolicySession, tmp_path: Path
) -> None:
    log = AuditLog(tmp_path)
    editor = PolicyEditor(
        policy_session,
        lambda: policy_session.policy_state,
        log,
        an_author("bo"),
        lambda: PSEUDONYMS,
    )
    editor.make_list("seen", ListType.IP, ListUse.BLOCK, entries=[ListEntry(value="192.0.2.1")])
    with pytest.raises(Conflict):
        editor.make_list("seen", ListType.IP, ListUse.BLOCK)
    records = [(one.action, one.who.name, one.result.value) for one in log.page(10)[0]]
    assert records == [
        ("list.made", "bo", "failed"),
        ("list.made", "bo", "recorded"),
        ("list.made", "bo", "recorded"),
    ]
    made = log.page(10)[0][-1].after
    assert made
    assert made["add"] == {"values": 1, "hashes": [PSEUDONYMS.hash("ip_address", "192.0.2.1")]}


def test_the_shipped_rules_are_active_until_others_are(policy_session: PolicySession) -> None:
    shipped = default_rules().version
    drafted = policy_session.editor.draft(rules({}))
    assert policy_session.statuses() == {
        shipped: RuleStatus.ACTIVE,
        drafted.version: RuleStatus.DRAFT,
    }
    policy_session.by("bo").activate(drafted.version)
    assert policy_session.statuses() == {
        shipped: RuleStatus.INACTIVE,
        drafted.version: RuleStatus.ACTIVE,
    }
    assert policy_session.policy_state.active_rules == drafted
    policy_session.editor.activate(shipped)
    assert policy_session.statuses() == {
        shipped: RuleStatus.ACTIVE,
        drafted.version: RuleStatus.INACTIVE,
    }


def test_history_says_who_changed_what(policy_session: PolicySession) -> None:
    drafted = policy_session.editor.draft(rules({}))
    policy_session.by("bo").activate(drafted.version)
    changes = [
        (one.name, one.version, one.author) for one in policy_session.history.changes("rules")
    ]
    assert changes == [("active", drafted.version, "bo"), ("draft", drafted.version, "ada")]
    (kept,) = (one for one in policy_session.policy_state.rule_versions() if one.author == "ada")
    assert (kept.created_ms, kept.activated_ms) == (NOW_MS, NOW_MS)


def test_a_changed_rule_gets_the_next_version(policy_session: PolicySession) -> None:
    """And one that is as it was keeps its own, whatever is around it."""
    first = policy_session.editor.draft(rules({}))
    second = policy_session.editor.draft(rules({"when": "$score > 910"}, {"id": "R2"}))
    third = policy_session.editor.draft(rules({"id": "R2"}, {}))
    versions = [[(one.id, one.version) for one in each.rules] for each in (first, second, third)]
    assert versions == [[("R1", 1)], [("R1", 2), ("R2", 1)], [("R2", 1), ("R1", 1)]]
    with pytest.raises(InvalidRules, match="rule R1, version: expected 3, or no version"):
        policy_session.editor.draft(rules({"when": "$score > 920", "version": 2}))


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
    policy_session: PolicySession, when: str, told: str
) -> None:
    with pytest.raises(InvalidRules, match=told):
        policy_session.editor.draft(rules({"when": when}))
    assert policy_session.published == []


def test_who_activates_may_say_what_is_active_now(policy_session: PolicySession) -> None:
    """Two people do not undo each other's change unseen."""
    shipped = default_rules().version
    one, other = (
        policy_session.editor.draft(rules({"when": when})) for when in ("$score > 1", "$score > 2")
    )
    policy_session.editor.activate(one.version, expected=shipped)
    with pytest.raises(Conflict, match=f"expected {shipped} to be active"):
        policy_session.by("bo").activate(other.version, expected=shipped)
    with pytest.raises(NoSuch, match="unknown version of the rules: abc"):
        policy_session.by("bo").activate("abc")


def test_of_two_who_expect_the_same_one_is_refused(policy_session: PolicySession) -> None:
    """Though both looked before either wrote."""
    shipped = default_rules().version
    one, other = (policy_session.editor.draft(rules({"id": name})) for name in ("R1", "R2"))

    class Overtaken(PolicyEditor):
        """Whose document comes to the topic after another's."""

        def _publish(self, *arguments: Any, **more: Any) -> ControlDocument:
            policy_session.editor.activate(one.version, expected=shipped)
            return super()._publish(*arguments, **more)

    late = Overtaken(
        policy_session,
        lambda: policy_session.policy_state,
        RecordedChange(),
        an_author("bo"),
        lambda: PSEUDONYMS,
        clock=lambda: NOW_MS,
    )
    with pytest.raises(Conflict, match="another version came to be meanwhile"):
        late.activate(other.version, expected=shipped)
    assert policy_session.policy_state.active_rules == one
    assert [change.author for change in policy_session.history.changes("rules", "active")] == [
        "ada"
    ]
    # Whoever looks again succeeds, also without expecting anything.
    policy_session.by("bo").activate(other.version, expected=one.version)
    policy_session.editor.activate(one.version)
    policy_session.by("bo").activate(other.version, expected=one.version)
    assert policy_session.policy_state.active_rules == other


def test_an_expectation_holds_though_what_was_activated_last_is_refused(
    policy_session: PolicySession,
) -> None:
    """As when another version of the program wrote it."""
    shipped = default_rules().version
    drafted = policy_session.editor.draft(rules({}))
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
        policy_session.publish(broken)
    assert policy_session.policy_state.active_rules == default_rules()
    assert policy_session.statuses() == {
        shipped: RuleStatus.ACTIVE,
        drafted.version: RuleStatus.DRAFT,
    }
    policy_session.editor.activate(drafted.version, expected=shipped)
    assert policy_session.policy_state.active_rules == drafted


def test_compaction_keeps_who_activated_what(policy_session: PolicySession) -> None:
    """A version that decides for the second time does not take the first time off the topic."""
    one, other = (policy_session.editor.draft(rules({"id": name})) for name in ("R1", "R2"))
    for kept, author in ((one, "ada"), (other, "bo"), (one, "cy")):
        policy_session.by(author).activate(
            kept.version, expected=policy_session.policy_state.active_rules.version
        )
    for author in ("ada", "bo"):
        promote(policy_session.by(author), ModelRef(name="m", version="a1"))
        policy_session.by(author).challenge_model(ModelRef(name="m", version="a1"))
        policy_session.by(author).challenge_model(None)
    last = {document.key: at for at, document in enumerate(policy_session.published)}
    history = PolicyHistory()
    compacted = ControlTopic(history)
    compacted.publish(*(policy_session.published[at] for at in sorted(last.values())))
    assert list(history.changes()) == list(policy_session.history.changes())
    assert compacted.policy_state.active_rules == policy_session.policy_state.active_rules == one
    assert len(list(policy_session.history.changes("model"))) == 6


def test_of_two_drafts_with_the_same_versions_one_can_decide(policy_session: PolicySession) -> None:
    """Written at once they give a changed rule the same version; the other is written again."""
    policy_session.editor.activate(policy_session.editor.draft(rules({})).version)
    seen = policy_session.policy_state
    policy_session.policy_state = PolicyState()
    for document in policy_session.published:
        policy_session.policy_state.apply(document)
    stale = an_editor(policy_session, lambda: seen, "bo", clock=lambda: NOW_MS)
    one = policy_session.editor.draft(rules({"when": "$score > 910"}))
    other = stale.draft(rules({"when": "$score > 920"}))
    assert [one.rules[0].version, other.rules[0].version] == [2, 2]
    policy_session.editor.activate(one.version)
    for call in (policy_session.editor.activate, policy_session.editor.challenge_rules):
        with pytest.raises(InvalidRules, match="rule R1, version: expected 3, or no version"):
            call(other.version)
    again = policy_session.by("bo").draft(rules({"when": "$score > 920"}))
    assert again.rules[0].version == 3
    policy_session.by("bo").activate(again.version)
    assert policy_session.policy_state.active_rules == again


def test_versions_of_rules_end_at_what_an_index_keeps(policy_session: PolicySession) -> None:
    policy_session.editor.draft(rules({"version": MAX_VERSION}))
    with pytest.raises(InvalidRules, match="versions end at 2147483647"):
        policy_session.editor.draft(rules({"when": "$score > 910"}))
    with pytest.raises(ValidationError, match="less than or equal to 2147483647"):
        rules({"version": MAX_VERSION + 1})


def test_a_document_that_no_record_can_hold_is_refused(policy_session: PolicySession) -> None:
    many = rules(*({"id": f"R{at}", "when": "$score > 1" + " " * 3_900} for at in range(300)))
    with pytest.raises(InvalidMessage, match="rules: expected at most 983040 bytes"):
        policy_session.editor.draft(many)
    assert policy_session.published == []


def test_a_draft_again_is_no_change(policy_session: PolicySession) -> None:
    policy_session.editor.draft(rules({}))
    policy_session.by("bo").draft(rules({}))
    assert len(policy_session.published) == 1


def test_challengers_come_and_go(policy_session: PolicySession) -> None:
    drafted = policy_session.editor.draft(rules({}))
    policy_session.editor.challenge_rules(drafted.version)
    policy_session.editor.challenge_model(ModelRef(name="m", version="a1"))
    assert policy_session.policy_state.challenger_rules == drafted
    assert policy_session.policy_state.challenger == ModelRef(name="m", version="a1")
    policy_session.editor.challenge_rules(None)
    policy_session.editor.challenge_model(None)
    assert policy_session.policy_state.challenger_rules is None
    assert policy_session.policy_state.challenger is None
    assert policy_session.policy_state.active_rules == default_rules()


def test_a_list_is_made_changed_and_dropped(policy_session: PolicySession) -> None:
    editor = policy_session.editor
    editor.make_list("bad_ips", ListType.IP, ListUse.BLOCK, description="Attackers.")
    with pytest.raises(Conflict, match="a list bad_ips already"):
        editor.make_list("bad_ips", ListType.IP, ListUse.BLOCK)
    added = [ListEntry(value="10.1.2.3/8", reason="test"), ListEntry(value="192.0.2.1")]
    assert policy_session.by("bo").change_list("bad_ips", add=added) == 2
    assert policy_session.entries("bad_ips") == {"10.0.0.0/8", "192.0.2.1"}
    kept = policy_session.policy_state.lists()["bad_ips"].entries["10.0.0.0/8"]
    assert (kept.author, kept.added_ms, kept.reason) == ("bo", NOW_MS, "test")
    policy_session.by("bo").change_list("bad_ips", remove=["10.0.0.0/8"], use=ListUse.WATCH)
    state = policy_session.policy_state.lists()["bad_ips"]
    assert (set(state.entries), state.use, state.description) == (
        {"192.0.2.1"},
        ListUse.WATCH,
        "Attackers.",
    )
    editor.drop_list("bad_ips")
    assert policy_session.policy_state.lists() == {}
    for call in (editor.drop_list, editor.change_list):
        with pytest.raises(NoSuch, match="unknown list: bad_ips"):
            call("bad_ips")


@pytest.mark.parametrize("enabled", [True, False])
def test_a_list_that_rules_ask_for_is_not_dropped(
    policy_session: PolicySession, enabled: bool
) -> None:
    """Snoozed rules too: the set could not be activated again."""
    policy_session.editor.make_list("seen", ListType.IP, ListUse.REFERENCE)
    asking = policy_session.editor.draft(
        rules({"when": "$ip_address in @seen", "enabled": enabled})
    )
    policy_session.editor.activate(asking.version)
    with pytest.raises(Conflict, match="ask for the list seen"):
        policy_session.editor.drop_list("seen")


def test_bad_entries_are_refused_by_place_and_nothing_changes(
    policy_session: PolicySession,
) -> None:
    policy_session.editor.make_list("bad_ips", ListType.IP, ListUse.BLOCK)
    before = len(policy_session.published)
    entries = [ListEntry(value="192.0.2.1"), ListEntry(value="ada@example.com")]
    with pytest.raises(InvalidMessage, match=r"add\.1\.value: expected an IP") as told:
        policy_session.editor.change_list("bad_ips", add=entries)
    assert "ada@" not in str(told.value)
    with pytest.raises(InvalidMessage, match="name: expected small letters"):
        policy_session.editor.make_list("Bad IPs", ListType.IP, ListUse.BLOCK)
    with pytest.raises(InvalidMessage, match="use: expected reference"):
        policy_session.editor.make_list("words", ListType.TEXT, ListUse.BLOCK)
    assert len(policy_session.published) == before


def test_a_bad_value_to_be_taken_off_is_named_as_such(policy_session: PolicySession) -> None:
    policy_session.editor.make_list("bad_ips", ListType.IP, ListUse.BLOCK)
    with pytest.raises(InvalidMessage, match=r"remove\.1: expected an IP"):
        policy_session.editor.change_list("bad_ips", remove=["192.0.2.1", "x"])


def test_a_list_is_made_with_its_entries_or_not_at_all(policy_session: PolicySession) -> None:
    entries = [ListEntry(value="192.0.2.1"), ListEntry(value="x")]
    with pytest.raises(InvalidMessage, match=r"add\.1\.value"):
        policy_session.editor.make_list("seen", ListType.IP, ListUse.BLOCK, entries=entries)
    assert policy_session.policy_state.lists() == {}
    policy_session.editor.make_list("seen", ListType.IP, ListUse.BLOCK, entries=entries[:1])
    assert policy_session.entries("seen") == {"192.0.2.1"}
    assert len(policy_session.published) == 1


def test_a_list_becomes_one_of_another_type_with_all_that_is_on_it(
    policy_session: PolicySession,
) -> None:
    """Or stays as it is: what does not fit is found before anything is written."""
    entries = [ListEntry(value="192.0.2.1"), ListEntry(value="x", reason="by hand")]
    policy_session.editor.make_list(
        "seen", ListType.TEXT, ListUse.REFERENCE, description="Ours.", entries=entries
    )
    with pytest.raises(InvalidMessage, match="type: expected one that fits all"):
        policy_session.by("bo").change_list("seen", kind=ListType.IP)
    assert policy_session.entries("seen") == {"192.0.2.1", "x"}
    policy_session.editor.change_list("seen", remove=["x"])
    more = [ListEntry(value="192.0.2.2")]
    assert policy_session.by("bo").change_list("seen", kind=ListType.IP, add=more) == 1
    after = policy_session.policy_state.lists()["seen"]
    assert (after.type, after.description) == (ListType.IP, "Ours.")
    assert policy_session.entries("seen") == {"192.0.2.1", "192.0.2.2"}
    assert len(policy_session.published) == 3
    asking = rules({"when": "$ip_address in @seen"})
    policy_session.editor.activate(policy_session.editor.draft(asking).version)
    with pytest.raises(Conflict, match="ask for the list seen"):
        policy_session.by("bo").change_list("seen", kind=ListType.TEXT)


def test_a_description_is_left_changed_and_cleared(policy_session: PolicySession) -> None:
    policy_session.editor.make_list("seen", ListType.IP, ListUse.BLOCK, description="Ours.")
    told = []
    for description in (None, "Theirs.", ""):
        policy_session.by("bo").change_list("seen", description=description)
        told.append(policy_session.policy_state.lists()["seen"].description)
    assert told == ["Ours.", "Theirs.", ""]


@pytest.mark.slow
def test_a_hundred_thousand_entries_fit_and_count_as_one_change(
    policy_session: PolicySession,
) -> None:
    """In as many records as the topic's limit asks for."""
    policy_session.editor.make_list("many", ListType.ENTITY, ListUse.BLOCK)
    values = [f"customer-{number:06}" for number in range(100_000)]
    policy_session.editor.change_list("many", add=[ListEntry(value=value) for value in values])
    parts = policy_session.published[1:]
    assert len(parts) > 1
    assert max(len(part.value) for part in parts) < 1_000_000
    assert len(policy_session.policy_state.lists()["many"]) == 100_000
