"""The editor: where rules, lists and models are changed. What is broken is refused here.

The command line and the API change things by it and by nothing else; it publishes control documents
and holds no state of its own.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from fraud.contracts.control import (
    ACTIVE,
    CHALLENGER,
    CHAMPION,
    DRAFT,
    LIST,
    MAX_DOCUMENT_BYTES,
    MODEL,
    NONE,
    RULES,
    ControlDocument,
    list_version,
)
from fraud.contracts.decision import ModelRef
from fraud.contracts.errors import ErrorCode, InvalidMessage
from fraud.contracts.lists import (
    LIST_NAME,
    ListChange,
    ListEntry,
    ListState,
    ListType,
    ListUse,
    normal,
)
from fraud.contracts.rules import RuleSet, RuleStatus
from fraud.decision.rule_sets import CompiledRules, numbered
from fraud.policy.state import PolicyState, RuleVersion
from fraud.runtime.clock import Clock, system_clock, to_datetime


class NoSuch(LookupError):
    """There is no such version or list; the text says which."""


class Conflict(Exception):
    """What is there now does not allow the change; the text says why."""


class Publisher(Protocol):
    """Puts control documents on the topic; `fraud.kafka.control.ControlPublisher` does."""

    def publish(self, document: ControlDocument) -> None:
        """Write one; it is on the topic when this returns."""


class PolicyEditor:
    """Changes what decides.

    Args:
        publisher: Writes the documents.
        policy_state: Gives the policy state as it is now.
        clock: Time now, UTC epoch milliseconds.
        ids: Gives a new id for a change, of letters and digits, never the same twice.
    """

    def __init__(
        self,
        publisher: Publisher,
        policy_state: Callable[[], PolicyState],
        *,
        clock: Clock = system_clock,
        ids: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._publisher = publisher
        self._policy_state = policy_state
        self._clock = clock
        self._ids = ids

    # --- Rules ---

    def checked(self, rules: RuleSet) -> RuleSet:
        """Check a rule set as if it were to decide, and give each rule its version.

        Raises:
            InvalidRules: It must not decide.
        """
        policy_state = self._policy_state()
        return CompiledRules(numbered(rules, policy_state.meanings()), policy_state.lists()).set

    def _checked_again(self, rules: RuleSet) -> RuleSet:
        """Check a kept rule set before it decides: by then other drafts may have come to decide."""
        policy_state = self._policy_state()
        rules = numbered(rules, policy_state.meanings(drafts=False))
        return CompiledRules(rules, policy_state.lists()).set

    def draft(self, rules: RuleSet, author: str) -> RuleSet:
        """Keep a rule set, which decides nothing yet.

        Returns:
            The set as it is kept, with the versions of its rules.

        Raises:
            InvalidRules: It could not decide.
        """
        rules = self.checked(rules)
        if self._policy_state().rule_version(rules.version) is None:
            self._publish(RULES, DRAFT, rules.version, author, rules.model_dump(mode="json"))
        return rules

    def activate(self, version: str, author: str, *, expected: str | None = None) -> RuleSet:
        """Let a version of the rule set decide, instead of the one that does.

        Args:
            version: A draft's, or that of one that was active once.
            author: Who wants it.
            expected: Version that is taken to be active; None takes any.

        Raises:
            NoSuch: There is no such version.
            Conflict: Another than the expected one is active, or came to be at the same time.
            InvalidRules: It must not decide any more: a list is gone, or a version of a rule has
                come to stand for something else.
        """
        kept = self.rule_version(version)
        active = self._policy_state().active_rules.version
        if expected is not None and active != expected:
            raise Conflict(f"expected {expected} to be active, it is {active}")
        if kept.status is RuleStatus.ACTIVE:
            return kept.rules
        self._checked_again(kept.rules)
        content = kept.rules.model_dump(mode="json")
        if expected is not None:
            # What was activated last, though it may be refused by who reads it.
            expected = self._policy_state().activations.now or expected
        document = self._publish(
            RULES, ACTIVE, version, author, content, change=self._ids(), expected=expected
        )
        if self._policy_state().activations.void(document):
            raise Conflict(
                f"expected {expected} to be active, another version came to be meanwhile"
            )
        return kept.rules

    def challenge_rules(self, version: str | None, author: str) -> None:
        """Let a version of the rule set decide in shadow, or none.

        Raises:
            NoSuch: There is no such version.
            InvalidRules: It could not decide.
        """
        if version is None:
            self._publish(RULES, CHALLENGER, NONE, author, {}, change=self._ids())
            return
        rules = self._checked_again(self.rule_version(version).rules)
        content = rules.model_dump(mode="json")
        self._publish(RULES, CHALLENGER, version, author, content, change=self._ids())

    def rule_version(self, version: str) -> RuleVersion:
        """Return a version of the rule set that is kept.

        Raises:
            NoSuch: There is none.
        """
        found = self._policy_state().rule_version(version)
        if found is None:
            raise NoSuch(f"there is no version {version} of the rules")
        return found

    # --- Models ---

    def champion(self, ref: ModelRef, author: str) -> None:
        """Let a model decide. Whether it may is `model.promotion`'s to say."""
        self._publish(MODEL, CHAMPION, ref.version, author, ref.model_dump(), change=self._ids())

    def challenge_model(self, ref: ModelRef | None, author: str) -> None:
        """Let a model score in shadow, or none."""
        if ref is None:
            self._publish(MODEL, CHALLENGER, NONE, author, {}, change=self._ids())
        else:
            self._publish(
                MODEL, CHALLENGER, ref.version, author, ref.model_dump(), change=self._ids()
            )

    # --- Lists ---

    def make_list(
        self,
        name: str,
        kind: ListType,
        use: ListUse,
        author: str,
        *,
        description: str = "",
        entries: Iterable[ListEntry] = (),
    ) -> None:
        """Make a list, with what is on it from the start.

        Raises:
            Conflict: There is one of this name.
            InvalidMessage: The name is none, a value is none of the type, or a list of texts is to
                mean something by itself.
        """
        check_list_name(name)
        if name in self._policy_state().lists():
            raise Conflict(f"there is a list {name} already")
        change = ListChange(type=kind, use=use, description=description, add=_added(kind, entries))
        self._change(name, change, author)

    def change_list(
        self,
        name: str,
        author: str,
        *,
        add: Iterable[ListEntry] = (),
        remove: Iterable[str] = (),
        replace: bool = False,
        kind: ListType | None = None,
        use: ListUse | None = None,
        description: str | None = None,
    ) -> int:
        """Change a list's entries, or what being on it means; all at once, or not at all.

        Args:
            name: Of the list.
            author: Who changes it.
            add: Entries put on, or put anew.
            remove: Values taken off before; those that are not on it are passed over.
            replace: Whether all that is on it goes first.
            kind: What it is of from now on; None leaves it.
            use: What being on it means from now on; None leaves it.
            description: What it is for; None leaves it.

        Returns:
            How many entries were put on.

        Raises:
            NoSuch: There is no such list.
            Conflict: It becomes one of another type, and rules that decide ask for it.
            InvalidMessage: A value is none of the list's type; names its place.
        """
        before = self.list_state(name)
        of = before.type if kind is None else kind
        entries = _added(of, add)
        removed = tuple(_normal(of, one, f"remove.{at}") for at, one in enumerate(remove))
        put = entries
        if of is not before.type:
            self._check_unused(name)
            if not replace:
                put = _kept(before, of, without=removed) + entries
            replace, removed = True, ()
        change = ListChange(
            type=of,
            use=use or before.use,
            description=description,
            replace=replace,
            remove=removed,
            add=put,
        )
        self._change(name, change, author)
        return len(entries)

    def drop_list(self, name: str, author: str) -> None:
        """Take a list away.

        Raises:
            NoSuch: There is no such list.
            Conflict: Rules that decide ask for it.
        """
        before = self.list_state(name)
        self._check_unused(name)
        self._change(name, ListChange(type=before.type, use=before.use, dropped=True), author)

    def list_state(self, name: str) -> ListState:
        """Return a list as it is now.

        Raises:
            NoSuch: There is none.
        """
        found = self._policy_state().lists().get(name)
        if found is None:
            raise NoSuch(f"there is no list {name}")
        return found

    def _check_unused(self, name: str) -> None:
        policy_state = self._policy_state()
        for rules in (policy_state.active_rules, policy_state.challenger_rules):
            # Those of snoozed rules as well: without it the set could not be activated again.
            if rules is not None and name in CompiledRules(rules).named_lists:
                raise Conflict(f"rules of version {rules.version} ask for the list {name}")

    def _change(self, name: str, change: ListChange, author: str) -> None:
        if change.type.field is None and change.use is not ListUse.REFERENCE:
            raise InvalidMessage(
                ErrorCode.OUT_OF_RANGE,
                "use: expected reference, for a list of texts is of no field by itself",
                "use",
            )
        change_id = self._ids()
        for part in change.cut():
            content = part.model_dump(mode="json", exclude_defaults=True)
            self._publish(LIST, name, list_version(change_id, part.part), author, content)

    def _publish(
        self,
        kind: str,
        name: str,
        version: str,
        author: str,
        content: dict[str, Any],
        *,
        change: str | None = None,
        expected: str | None = None,
    ) -> ControlDocument:
        document = ControlDocument(
            kind=kind,
            name=name,
            version=version,
            author=author,
            time=to_datetime(self._clock()),
            content=content,
            change=change,
            expected=expected,
        )
        size = len(document.key) + len(document.value)
        if size > MAX_DOCUMENT_BYTES:
            raise InvalidMessage(
                ErrorCode.OUT_OF_RANGE,
                f"{kind}: expected at most {MAX_DOCUMENT_BYTES} bytes as JSON, found {size}",
                kind,
            )
        self._publisher.publish(document)
        return document


def check_list_name(name: str) -> None:
    """Check what a list is to be called.

    Raises:
        InvalidMessage: It is no such name.
    """
    if not re.fullmatch(LIST_NAME, name):
        raise InvalidMessage(
            ErrorCode.WRONG_TYPE, "name: expected small letters, digits and _, at most 64", "name"
        )


def _added(kind: ListType, entries: Iterable[ListEntry]) -> tuple[ListEntry, ...]:
    return tuple(
        one.model_copy(update={"value": _normal(kind, one.value, f"add.{at}.value")})
        for at, one in enumerate(entries)
    )


def _kept(before: ListState, kind: ListType, *, without: tuple[str, ...]) -> tuple[ListEntry, ...]:
    """Return what stays on a list that becomes one of another type."""
    gone = set(without)
    kept: list[ListEntry] = []
    for one in before.entries.values():
        try:
            value = normal(kind, one.value)
        except ValueError:
            raise InvalidMessage(
                ErrorCode.WRONG_TYPE,
                f"type: expected one that fits all that is on the list {before.name}, {kind} does not",
                "type",
            ) from None
        if value not in gone:
            kept.append(
                ListEntry(
                    value=value, source=one.source, reason=one.reason, expires_at=one.expires_at
                )
            )
    return tuple(kept)


def _normal(kind: ListType, value: str, place: str) -> str:
    try:
        return normal(kind, value)
    except ValueError as problem:
        raise InvalidMessage(ErrorCode.WRONG_TYPE, f"{place}: {problem}", place) from None
