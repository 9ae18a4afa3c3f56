"""Remembers in the state folder that control documents were published.

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
        self._is_set = False

    def check(self, documents: int) -> str | None:
        """Compare a topic that was read to its end with the mark, and set the mark.

        Args:
            documents: Number of documents that were read.

        Returns:
            One line on what is missing, None if nothing is.
        """
        if documents:
            self._set()
            return None
        if self._topic not in self._read():
            return None
        return (
            f"the control documents: topic {self._topic} is empty, and documents were published; restore "
            f"it, or remove {self._path} to begin with the shipped rules"
        )

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

    def _set(self) -> None:
        if self._is_set:
            return
        try:
            with locked(self._path.with_suffix(".lock")):
                marks = self._read()
                if self._topic not in marks:
                    replace_private(self._path, orjson.dumps(marks | {self._topic: {}}))
        except OSError as problem:
            _log.error("control.mark_not_written", file=str(self._path), detail=str(problem))
            return
        self._is_set = True
