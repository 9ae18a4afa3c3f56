"""The policy editor, which checks, records and publishes changes of rules, lists and models.

The command line and the API make all their changes through it. It publishes control documents and
holds no state of its own.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
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
from fraud.contracts.versions import same_version, shown
from fraud.decision.rule_sets import CompiledRules
from fraud.policy.audit_content import (
    list_on_record,
    model_on_record,
    rules_on_record,
    text_on_record,
    values_on_record,
)
from fraud.policy.state import PolicyState, RuleVersion
from fraud.runtime.clock import Clock, system_clock, to_datetime
from fraud.security.audit import AuditLog, Author, RecordedChange
from fraud.security.pseudonyms import Pseudonyms


class NoSuch(LookupError):
    """A version or list does not exist; the message names it."""


class Conflict(Exception):
    """The current policy does not allow the change; the message says why."""


class Publisher(Protocol):
    """Writes control documents to the topic, as `fraud.kafka.control.ControlPublisher` does."""

    def publish(self, document: ControlDocument) -> None:
        """Write a document; it is on the topic when this returns."""


class PolicyEditor:
    """Change rules, lists and models; the audit record of a change is written before it is made.

    Unknown versions and lists are refused without a record, since a mistyped name may be personal
    data. All changes raise `OSError`, and are not made, if the audit record cannot be written.

    Args:
        publisher: Publishes the control documents.
        policy_state: Returns the current policy state.
        audit: The audit log, or a recorded change that the edits are part of.
        author: Author of the changes.
        pseudonyms: Returns the hasher of personal values; called when a change is made.
        clock: Time now, UTC epoch milliseconds.
        ids: Returns a unique id for each change, of letters and digits.
    """

    def __init__(
        self,
        publisher: Publisher,
        policy_state: Callable[[], PolicyState],
        audit: AuditLog | RecordedChange,
        author: Author,
        pseudonyms: Callable[[], Pseudonyms],
        *,
        clock: Clock = system_clock,
        ids: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._publisher = publisher
        self._policy_state = policy_state
        self._audit = audit
        self.author = author
        self._pseudonyms = pseudonyms
        self._clock = clock
        self._ids = ids

    # --- Rules ---

    def draft(self, rules: RuleSet) -> RuleSet:
        """Store a rule set as a draft, which decides nothing yet.

        Returns:
            The stored rule set, with a version for each rule.

        Raises:
            InvalidRules: The rule set could not be activated.
        """
        policy_state = self._policy_state()
        rules, active = policy_state.checked(rules), policy_state.active_rules
        with self._recorded(
            "rules.drafted",
            f"rules/{rules.version}",
            before={"active": active.version},
            after=rules_on_record(self._pseudonyms(), rules, active),
        ):
            if policy_state.rule_version(rules.version) is None:
                self._publish(RULES, DRAFT, rules.version, rules.model_dump(mode="json"))
        return rules

    def activate(self, version: str, *, expected: str | None = None) -> RuleSet:
        """Activate a stored version of the rule set in place of the active one.

        Args:
            version: Version of a draft, or of a set that was active before.
            expected: Version that must be active now; None skips this check.

        Raises:
            NoSuch: The version does not exist.
            Conflict: Not the expected version is active, or another was activated concurrently.
            InvalidRules: The set is no longer valid: a list was dropped, or the version of a rule
                now stands for another rule.
        """
        kept = self.rule_version(version)
        active = self._policy_state().active_rules.version
        with self._recorded(
            "rules.activated",
            f"rules/{version}",
            before={"version": active},
            after={"version": version},
        ):
            if expected is not None and not same_version(active, expected):
                raise Conflict(f"expected {expected} to be active, it is {shown(active)}")
            if kept.status is not RuleStatus.ACTIVE:
                self._activate(kept.rules, expected)
        return kept.rules

    def _activate(self, rules: RuleSet, expected: str | None) -> None:
        # Drafts with other rules under the same versions may have been activated meanwhile.
        self._policy_state().checked(rules, drafts=False)
        if expected is not None:
            # Readers detect concurrent changes by the last activation, even one that they refuse.
            expected = self._policy_state().activations.now or expected
        document = self._publish(
            RULES,
            ACTIVE,
            rules.version,
            rules.model_dump(mode="json"),
            change=self._ids(),
            expected=expected,
        )
        if self._policy_state().activations.void(document):
            raise Conflict(
                f"expected {expected} to be active, another version came to be meanwhile"
            )

    def challenge_rules(self, version: str | None) -> None:
        """Set the version of the rule set that decides in shadow; None ends the shadow decisions.

        Raises:
            NoSuch: The version does not exist.
            InvalidRules: The rule set could not be activated.
        """
        rules = None if version is None else self.rule_version(version).rules
        before = self._policy_state().challenger_rules
        with self._recorded(
            "rules.challenged",
            "rules/challenger",
            before={"version": before and before.version},
            after={"version": version},
        ):
            named, content = NONE, dict[str, Any]()
            if rules is not None:
                checked = self._policy_state().checked(rules, drafts=False)
                named, content = checked.version, checked.model_dump(mode="json")
            self._publish(RULES, CHALLENGER, named, content, change=self._ids())

    def rule_version(self, version: str) -> RuleVersion:
        """Return a stored version of the rule set.

        Raises:
            NoSuch: The version does not exist.
        """
        found = self._policy_state().rule_version(version)
        if found is None:
            raise NoSuch(f"unknown version of the rules: {version}")
        return found

    # --- Models ---

    @contextmanager
    def promoting(self, before: ModelRef | None, ref: ModelRef) -> Iterator[Callable[[], None]]:
        """Record the promotion of a model; the `with` block makes it the registry's champion.

        Whether the model may be promoted is checked before, by `model.promotion`.

        Yields:
            A function that then publishes the new champion to running services.
        """
        with self._recorded(
            "model.promoted",
            "model/champion",
            before=model_on_record(before),
            after=model_on_record(ref),
        ):
            yield lambda: self._publish_model(CHAMPION, ref)

    def challenge_model(self, ref: ModelRef | None) -> None:
        """Set the model that scores in shadow; None ends the shadow scores."""
        with self._recorded(
            "model.challenged",
            "model/challenger",
            before=model_on_record(self._policy_state().challenger),
            after=model_on_record(ref),
        ):
            self._publish_model(CHALLENGER, ref)

    def _publish_model(self, name: str, ref: ModelRef | None) -> None:
        version, content = (NONE, {}) if ref is None else (ref.version, ref.model_dump())
        self._publish(MODEL, name, version, content, change=self._ids())

    # --- Lists ---

    def make_list(
        self,
        name: str,
        kind: ListType,
        use: ListUse,
        *,
        description: str = "",
        entries: Sequence[ListEntry] = (),
    ) -> None:
        """Create a list with its first entries.

        Raises:
            Conflict: A list of this name exists.
            InvalidMessage: The name or a value is not valid, or a list of texts has another use
                than `reference`.
        """
        check_list_name(name)
        pseudonyms = self._pseudonyms()
        after: dict[str, Any] = {
            "type": kind.value,
            "use": use.value,
            "description": text_on_record(pseudonyms, description),
        }
        if entries:
            values = [entry.value for entry in entries]
            after["add"] = values_on_record(pseudonyms, kind.field, values)
        with self._recorded("list.made", f"list/{name}", after=after):
            if name in self._policy_state().list_versions():
                raise Conflict(f"there is a list {name} already")
            added = _added(kind, entries)
            self._change(name, ListChange(type=kind, use=use, description=description, add=added))

    def change_list(
        self,
        name: str,
        *,
        add: Sequence[ListEntry] = (),
        remove: Sequence[str] = (),
        replace: bool = False,
        kind: ListType | None = None,
        use: ListUse | None = None,
        description: str | None = None,
    ) -> int:
        """Change a list's entries, type, use or description, as one atomic change.

        Args:
            name: Name of the list.
            add: Entries to add, or to overwrite.
            remove: Values to remove before others are added; values not on the list are ignored.
            replace: Whether to remove all current entries first.
            kind: New type of the list; None keeps it.
            use: New meaning of being on the list; None keeps it.
            description: New description; None keeps it.

        Returns:
            Number of entries added or overwritten.

        Raises:
            NoSuch: The list does not exist.
            Conflict: The type would change while active or challenger rules use the list.
            InvalidMessage: A value is not of the list's type; the message names its place.
        """
        before = self.list_state(name)
        pseudonyms = self._pseudonyms()
        after: dict[str, Any] = {}
        if kind is not None:
            after["type"] = kind.value
        if use is not None:
            after["use"] = use.value
        if description is not None:
            after["description"] = text_on_record(pseudonyms, description)
        entries = bool(add or remove or replace)
        if entries:
            field = before.type.field
            after |= {
                "add": values_on_record(pseudonyms, field, [entry.value for entry in add]),
                "remove": values_on_record(pseudonyms, field, remove),
                "replace": replace,
            }
        with self._recorded(
            "list.entries_changed" if entries else "list.changed",
            f"list/{name}",
            before=list_on_record(pseudonyms, before),
            after=after,
        ) as change:
            of = kind or before.type
            added = _added(of, add)
            removed = tuple(_normal(of, one, f"remove.{at}") for at, one in enumerate(remove))
            if of is not before.type:
                self._check_unused(name)
                # The entries that stay are written again, normalised for the new type.
                if not replace:
                    added = _kept(before, of, without=removed) + added
                replace, removed = True, ()
            self._change(
                name,
                ListChange(
                    type=of,
                    use=use or before.use,
                    # What replaces all entries says all, so that earlier changes can be removed.
                    description=before.description
                    if description is None and replace
                    else description,
                    replace=replace,
                    remove=removed,
                    add=added,
                ),
            )
            became = list_on_record(pseudonyms, self.list_state(name))
            change.done(after | {"became": became})
        return len(add)

    def drop_list(self, name: str) -> None:
        """Delete a list and its entries.

        Raises:
            NoSuch: The list does not exist.
            Conflict: Active or challenger rules use the list.
        """
        before = self.list_state(name)
        with self._recorded(
            "list.dropped", f"list/{name}", before=list_on_record(self._pseudonyms(), before)
        ):
            self._check_unused(name)
            self._change(name, ListChange(type=before.type, use=before.use, dropped=True))

    def list_state(self, name: str) -> ListState:
        """Return the current state of a list.

        Raises:
            NoSuch: The list does not exist.
        """
        found = self._policy_state().lists().get(name)
        if found is None:
            raise NoSuch(f"unknown list: {name}")
        return found

    def _check_unused(self, name: str) -> None:
        policy_state = self._policy_state()
        for rules in (policy_state.active_rules, policy_state.challenger_rules):
            # Disabled rules count too: without the list, the set could not be activated again.
            if rules is not None and name in CompiledRules(rules).named_lists:
                raise Conflict(f"rules of version {shown(rules.version)} ask for the list {name}")

    def _change(self, name: str, change: ListChange) -> None:
        if change.type.field is None and change.use is not ListUse.REFERENCE:
            raise InvalidMessage(
                ErrorCode.OUT_OF_RANGE,
                "use: expected reference, for a list of texts is of no field by itself",
                "use",
            )
        change_id = self._ids()
        for part in change.cut():
            content = part.model_dump(mode="json", exclude_defaults=True)
            self._publish(LIST, name, list_version(change_id, part.part), content)

    def _recorded(
        self,
        action: str,
        target: str,
        *,
        before: dict[str, Any] | None = None,
        after: dict[str, Any] | None = None,
    ) -> AbstractContextManager[RecordedChange]:
        """Write the audit record of a change, then run the `with` block that makes it."""
        return self._audit.change(
            self.author.actor,
            action,
            target,
            before=before,
            after=after,
            request_id=self.author.request_id,
        )

    def _publish(
        self,
        kind: str,
        name: str,
        version: str,
        content: dict[str, Any],
        *,
        change: str | None = None,
        expected: str | None = None,
    ) -> ControlDocument:
        document = ControlDocument(
            kind=kind,
            name=name,
            version=version,
            author=self.author.name,
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


EditorOf = Callable[[Author], PolicyEditor]
"""Returns an editor for an author, where each request may have another author."""


def check_list_name(name: str) -> None:
    """Check that a list may have this name.

    Raises:
        InvalidMessage: The name is not allowed.
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
    """Return the remaining entries of a list, normalised for its new type."""
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
