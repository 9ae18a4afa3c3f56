"""Migrates indexes of past days to the current template and settings.

An index made with an earlier template, or while personal values were indexed in clear text, is
copied document by document into a new index, which then replaces it in one step. The old name
becomes an alias of the new index, so readers and writers notice nothing, and searches see each
document once at any time. The old index is write-blocked during the copy: the indexer waits and
catches up. An interrupted migration leaves the old index as it was.

The `_meta` of the copy holds a deadline, which the migration keeps extending. If it passes, the
migration was killed: the indexer marks the copy as abandoned and unblocks the old index
(`give_up_abandoned`). A migration that was only suspended notices before it replaces anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import structlog
from opensearchpy import OpenSearch
from opensearchpy.helpers import scan

from fraud.contracts.errors import Backpressure
from fraud.contracts.personal import mask
from fraud.contracts.transaction import DECISION_FIELD, PERSONAL_FIELDS
from fraud.runtime.clock import Clock
from fraud.security.pseudonyms import Pseudonyms, is_pseudonym
from indexer.bulk import Bulk, Write
from indexer.documents import (
    ALIAS,
    EMAIL_DOMAIN,
    MIGRATED,
    Document,
    day_of,
    email_domain,
    index_name_of,
    place,
)
from indexer.template import VERSION

_BATCH: Final = 1000
_HELD_MS: Final = 300_000
"""How long a killed migration keeps an index write-blocked; longer than any batch takes."""
_RENEWED_MS: Final = 30_000
_UNTIL: Final = "copying_until_ms"
_log = structlog.get_logger("indexer")


@dataclass(frozen=True, slots=True)
class Due:
    """An index to migrate.

    Attributes:
        name: Name of the index.
        version: Version of its mapping.
        documents: Number of documents.
        why: Reason for the migration, for people.
    """

    name: str
    version: int
    documents: int
    why: str


class MigrationFailed(Exception):
    """An index could not be migrated; it is unchanged."""


class _TakenOver(MigrationFailed):
    """Another process declared this migration abandoned, or migrates the same index.

    The write block of the old index may be that process's, so it must stay.
    """


class _Hold:
    """The deadline of a migration, kept in the `_meta` of the copy."""

    def __init__(self, client: OpenSearch, copy: str, meta: dict[str, Any], clock: Clock) -> None:
        self._client = client
        self._copy = copy
        self._meta = meta
        self._clock = clock
        self._until_ms = clock() + _HELD_MS

    @property
    def meta(self) -> dict[str, Any]:
        """The `_meta` of the copy while the migration runs."""
        return self._meta | {_UNTIL: self._until_ms}

    def renew_if_due(self) -> None:
        """Extend the deadline if the last extension was over 30 s ago; see `renew`."""
        if self._clock() > self._until_ms - _HELD_MS + _RENEWED_MS:
            self.renew()

    def renew(self) -> None:
        """Extend the deadline in the `_meta` of the copy.

        Raises:
            MigrationFailed: Another process declared this migration abandoned.
        """
        found = self._client.indices.get_mapping(index=self._copy)
        if found[self._copy]["mappings"].get("_meta", {}).get(_UNTIL) != self._until_ms:
            raise _TakenOver(f"{self._copy} was given up while it was made; migrate again")
        self._until_ms = self._clock() + _HELD_MS
        self._client.indices.put_mapping(index=self._copy, body={"_meta": self.meta})


def _copies(client: OpenSearch, name: str) -> dict[str, dict[str, Any]]:
    """Return the `_meta` of unfinished copies by index name.

    Args:
        client: Client of OpenSearch.
        name: Index name of a day; `ALIAS` for all days.
    """
    found = client.indices.get(
        index=f"{MIGRATED}{name}-*",
        params={"allow_no_indices": "true", "ignore_unavailable": "true"},
    )
    return {
        copy: index.get("mappings", {}).get("_meta", {})
        for copy, index in found.items()
        if ALIAS not in index.get("aliases", {})
    }


def give_up_abandoned(client: OpenSearch, *, now_ms: int) -> list[str]:
    """Unblock the indexes whose migration was killed.

    The unfinished copies stay, invisible to searches, until the next migration of their day.

    Args:
        client: Client of OpenSearch.
        now_ms: Time now, UTC epoch milliseconds.

    Returns:
        Index names of the unblocked days.

    Raises:
        TransportError: OpenSearch cannot be reached or refused a request.
    """
    freed = []
    for copy, meta in _copies(client, ALIAS).items():
        day = day_of(copy)
        if day is None or not 0 < meta.get(_UNTIL, 0) < now_ms:
            continue
        # Unblock first: if the indexer is killed in between, the next call does both again.
        name = index_name_of(day)
        client.indices.put_settings(
            index=name, body={"index.blocks.write": None}, params={"ignore_unavailable": "true"}
        )
        client.indices.put_mapping(index=copy, body={"_meta": meta | {_UNTIL: 0}})
        _log.warning(
            "indexer.migration_abandoned",
            index=name,
            copy=copy,
            command="fraudstream index migrate",
        )
        freed.append(name)
    return freed


def due(client: OpenSearch, *, clear: bool, everything: bool = False) -> list[Due]:
    """Return the indexes of days that need a migration, oldest first.

    Args:
        client: Client of OpenSearch.
        clear: Whether personal values may stay in clear text.
        everything: Return all indexes of days, even those that are up to date.

    Raises:
        TransportError: OpenSearch cannot be reached or refused a request.
    """
    found = client.indices.get_mapping(index=f"{ALIAS}-*", params={"allow_no_indices": "true"})
    indexes = []
    for name in sorted(found):
        if day_of(name) is None:
            continue
        meta = found[name]["mappings"].get("_meta", {})
        version = int(meta.get("version", 1))
        if version > VERSION:
            continue
        if version < VERSION:
            why = f"version {version}, this one is {VERSION}"
        elif meta.get("personal_fields") == "clear" and not clear:
            why = "personal values in clear"
        elif everything:
            why = "asked for"
        else:
            continue
        count = client.count(index=name)["count"]
        indexes.append(Due(name, version, int(count), why))
    return indexes


def upgraded(body: dict[str, Any], pseudonyms: Pseudonyms) -> dict[str, Any]:
    """Return a document as the current version would write it: personal values are hashed.

    They stay in clear text if `pseudonyms` allows that. Existing hashes are kept, so a second call
    changes nothing.
    """
    body = dict(body)
    email = body.get("email_address")
    if isinstance(email, str) and not is_pseudonym(email) and (domain := email_domain(email)):
        body[EMAIL_DOMAIN] = domain
    for name in PERSONAL_FIELDS & body.keys():
        value = body[name]
        if isinstance(value, str) and not is_pseudonym(value):
            body[name] = pseudonyms.indexed(name, value)
    place(body, clear=pseudonyms.clear)
    decision = body.get(DECISION_FIELD)
    if isinstance(decision, dict) and not pseudonyms.clear:
        reasons = [
            reason | {"text": mask(reason["text"])} if reason.get("text") else reason
            for reason in decision.get("reasons", [])
        ]
        body[DECISION_FIELD] = decision | {"reasons": reasons}
    return body


def migrate(
    client: OpenSearch,
    index: str,
    *,
    pseudonyms: Pseudonyms,
    template: dict[str, Any],
    bulk: Bulk,
    clock: Clock,
    progress: Callable[[int], object] = lambda _: None,
) -> str:
    """Replace the index of a day by one with the current template.

    Args:
        client: Client of OpenSearch.
        index: Name of the index itself, not of an alias; see `due`.
        pseudonyms: Hashes personal values, unless clear text is allowed.
        template: Index template of the days.
        bulk: Writes the copy. Backpressure is not waited out: it ends the migration.
        clock: Returns the time now.
        progress: Called with the number of documents just copied.

    Returns:
        Name of the new index.

    Raises:
        MigrationFailed: Documents are missing in the copy, OpenSearch is down or busy, or another
            process migrates the index.
        TransportError: OpenSearch refused a step.
    """
    day = day_of(index)
    if day is None:
        raise MigrationFailed(f"{index} is not the index of a day")
    name = index_name_of(day)
    for left, meta in _copies(client, name).items():
        if (left_ms := meta.get(_UNTIL, 0) - clock()) > 0:
            raise MigrationFailed(
                f"{index} is being migrated, or was by a process that was killed; "
                f"try again in {left_ms / 1000:.0f} s"
            )
        client.indices.delete(index=left)
    copy = f"{MIGRATED}{name}-v{VERSION}-{clock()}"
    inner = template["template"]
    mappings = inner["mappings"]
    hold = _Hold(client, copy, mappings["_meta"], clock)
    try:
        # Create the copy before the block: a blocked index always has a copy with a deadline.
        client.indices.create(
            index=copy,
            body={"settings": inner["settings"], "mappings": mappings | {"_meta": hold.meta}},
        )
        if _copies(client, name).keys() - {copy}:
            raise _TakenOver(f"{index} is being migrated by another process")
        # add_block returns once all writes in progress are done.
        client.indices.add_block(index=index, block="write")
        client.indices.refresh(index=index)
        copied = 0
        for batch in _batches(client, index):
            written = bulk.write(
                [
                    Write(copy, document.id, upgraded(document.body, pseudonyms))
                    for document in batch
                ]
            )
            copied += len(batch) - len(written.refused)
            hold.renew_if_due()
            progress(len(batch))
        client.indices.refresh(index=copy)
        wanted = client.count(index=index)["count"]
        found = client.count(index=copy)["count"]
        if found != wanted:
            raise MigrationFailed(f"{index}: {found} of {wanted} documents could be copied")
        # A last check, right before the index is replaced, that nobody took over.
        hold.renew()
        client.indices.update_aliases(
            body={
                "actions": [
                    {"remove_index": {"index": index}},
                    {"add": {"index": copy, "alias": ALIAS}},
                    {"add": {"index": copy, "alias": name}},
                ]
            }
        )
    except _TakenOver:
        client.indices.delete(index=copy, params={"ignore_unavailable": "true"})
        raise
    except Backpressure as verdict:
        _undo(client, index, copy)
        raise MigrationFailed(f"{index}: {verdict}") from verdict
    except BaseException:
        _undo(client, index, copy)
        raise
    client.indices.put_mapping(index=copy, body={"_meta": mappings["_meta"]})
    _log.info("indexer.index_migrated", index=index, copy=copy, documents=copied)
    return copy


def _batches(client: OpenSearch, index: str) -> Iterator[list[Document]]:
    batch: list[Document] = []
    for hit in scan(client, index=index, size=_BATCH, scroll="10m"):
        batch.append(Document(index, hit["_id"], hit["_source"]))
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _undo(client: OpenSearch, index: str, copy: str) -> None:
    """Unblock the old index and delete the copy; if this fails, `give_up_abandoned` unblocks it."""
    client.indices.put_settings(
        index=index, body={"index.blocks.write": None}, params={"ignore_unavailable": "true"}
    )
    client.indices.delete(index=copy, params={"ignore_unavailable": "true"})
