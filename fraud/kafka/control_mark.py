"""Remembers in the state folder the highest number of a control document.

Without it, a control topic that was lost or emptied would look like that of a first start, and the
shipped rules would decide in place of the published ones.
"""

from __future__ import annotations

from typing import Final

import orjson
import structlog

from fraud.contracts.topics import Topic
from fraud.runtime.files import locked, replace_private
from fraud.runtime.settings import KafkaSettings

FILE: Final = "control-mark.json"

_log = structlog.get_logger("fraud.kafka.control")


class ControlMark:
    """The mark of one control topic, which the processes that share a state folder share.

    Args:
        settings: Physical name of the topic, and the state folder.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._path = settings.state_dir / FILE
        self._topic = settings.topic(Topic.CONTROL)
        self._seen = 0

    def missing(self, number: int) -> str | None:
        """Return one line on what a topic that was read to its end lacks, None if nothing.

        Args:
            number: Highest number of its documents; 0 if none is signed.
        """
        before = self.number()
        if number >= before:
            return None
        if not number:
            return f"topic {self._topic} has no document signed with this control key, and {before} were"
        return f"topic {self._topic} ends at document {number}, and {before} were published"

    def number(self) -> int:
        """Return the highest number that any process has seen on the topic, 0 if none."""
        found = self._read().get(self._topic)
        return found if isinstance(found, int) else 0

    def set(self, number: int) -> None:
        """Note the highest number that was seen on the topic; a lower one than before is ignored."""
        if number <= self._seen:
            return
        try:
            with locked(self._path.with_suffix(".lock")):
                if number > self.number():
                    marks = self._read() | {self._topic: number}
                    replace_private(self._path, orjson.dumps(marks))
        except OSError as problem:
            _log.error("control.mark_not_written", file=str(self._path), detail=str(problem))
            return
        self._seen = number

    def _read(self) -> dict[str, object]:
        try:
            marks = orjson.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, orjson.JSONDecodeError) as problem:
            # A damaged mark must not stop what is in order; the next document writes it anew.
            _log.error("control.mark_unreadable", file=str(self._path), detail=str(problem))
            return {}
        return marks if isinstance(marks, dict) else {}
