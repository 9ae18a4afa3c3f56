"""Bring the indexes of past days to the settings and templates of now.

An index of a day that was made by an earlier template, or while personal values were in clear, is
copied document by document into a new one, and then replaced by it in one step. Its name is an alias
of the new one from then on, so that nobody who reads or writes notices; searches see each document
once at any time. While it is copied nothing is written to it: the indexer waits and catches up. An
interruption leaves the old index as it was.

The copy says in its `_meta` until when it is being made, which is put off as long as it is. When that
time is over, its maker was killed: the indexer says so in there, lets the old index be written again
(`give_up_abandoned`), and a maker that was only asleep finds out before it replaces anything.
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
"""How long a killed migration keeps an index from being written; longer than any batch takes."""
_RENEWED_MS: Final = 30_000
_UNTIL: Final = "copying_until_ms"
_log = structlog.get_logger("indexer")


@dataclass(frozen=True, slots=True)
class Due:
    """An index to migrate.

    Attributes:
        name: Of the index.
        version: Of its mapping.
        documents: How many it holds.
        why: In words.
    """

    name: str
    version: int
    documents: int
    why: str


class MigrationFailed(Exception):
    """An index could not be migrated, and is as it was."""


class _TakenOver(MigrationFailed):
    """The old index is not ours to touch: somebody gave it up for us, or migrates it, too."""


class _Hold:
    """The time until which a copy is being made, in its `_meta`."""

    def __init__(self, client: OpenSearch, copy: str, meta: dict[str, Any], clock: Clock) -> None:
        self._client = client
        self._copy = copy
        self._meta = meta
        self._clock = clock
        self._until_ms = clock() + _HELD_MS

    @property
    def meta(self) -> dict[str, Any]:
        """What the copy says of itself meanwhile."""
        return self._meta | {_UNTIL: self._until_ms}

    def renew_if_due(self) -> None:
        """Put the time off when a part of it has passed."""
        if self._clock() > self._until_ms - _HELD_MS + _RENEWED_MS:
            self.renew()

    def renew(self) -> None:
        """Extend the time that the migration has left, in the `_meta` of the copy.

        Raises:
            MigrationFailed: Another process declared this migration abandoned.
        """
        found = self._client.indices.get_mapping(index=self._copy)
        if found[self._copy]["mappings"].get("_meta", {}).get(_UNTIL) != self._until_ms:
            raise _TakenOver(f"{self._copy} was given up while it was made; migrate again")
        self._until_ms = self._clock() + _HELD_MS
        self._client.indices.put_mapping(index=self._copy, body={"_meta": self.meta})


def _copies(client: OpenSearch, name: str) -> dict[str, dict[str, Any]]:
    """Return the `_meta` of copies that replaced nothing yet, of days by this name or pattern."""
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

    Copies stay, for nobody to see, until the next migration of their day.

    Args:
        client: Of OpenSearch.
        now_ms: Time now, UTC epoch milliseconds.

    Returns:
        The names of the days' indexes.

    Raises:
        TransportError: OpenSearch is not there.
    """
    freed = []
    for copy, meta in _copies(client, ALIAS).items():
        day = day_of(copy)
        if day is None or not 0 < meta.get(_UNTIL, 0) < now_ms:
            continue
        # In this order: killed in between, the next look does it again.
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
    """Return which indexes of days are to be migrated, oldest first.

    Args:
        client: Of OpenSearch.
        clear: Whether personal values may stay in clear.
        everything: All of them, whatever they say of themselves.

    Raises:
        TransportError: OpenSearch is not there.
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
    """Return a document with its personal values as hashes, unless they may be clear.

    Hashes stay as they are: doing it again changes nothing.
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
    """Replace the index of a day by one of this version.

    Args:
        client: Of OpenSearch.
        index: Its real name, see `due`.
        pseudonyms: How personal values are written.
        template: Of the indexes of days.
        bulk: Writes; waiting is not its business, so an outage ends the migration.
        clock: Time now.
        progress: Called with the number of documents just copied.

    Returns:
        The name of the new index.

    Raises:
        MigrationFailed: Documents are missing in the copy, or OpenSearch went away.
        TransportError: OpenSearch refused a step.
    """
    day = day_of(index)
    if day is None:
        raise MigrationFailed(f"{index} is no index of a day")
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
        # The copy first: an index that is held always has one that says until when.
        client.indices.create(
            index=copy,
            body={"settings": inner["settings"], "mappings": mappings | {"_meta": hold.meta}},
        )
        if _copies(client, name).keys() - {copy}:
            raise _TakenOver(f"{index} is being migrated by another process")
        # Returns when no write is under way any more.
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
    """Unblock the old index. Should that fail, the next migration does it."""
    client.indices.put_settings(
        index=index, body={"index.blocks.write": None}, params={"ignore_unavailable": "true"}
    )
    client.indices.delete(index=copy, params={"ignore_unavailable": "true"})
