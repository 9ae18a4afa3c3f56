"""Work beside the main loop, whose failure must not pass unseen."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Self


class Background:
    """Run a function in a thread, as a context manager; what it raises ends the process.

    When the function raises, `stop` is set, so that the main loop ends, and leaving the context
    raises the same again. Leaving sets `stop` and waits for the function to return.

    Args:
        name: Name of the thread.
        work: Returns soon after `stop` is set.
        stop: The event that the main loop ends by, too.
        daemon: Let the process end without waiting for it, where nobody may leave the context.
    """

    def __init__(
        self, name: str, work: Callable[[], None], stop: threading.Event, *, daemon: bool = False
    ) -> None:
        self._work = work
        self._stop = stop
        self._failure: BaseException | None = None
        # So that what is bound to log lines is bound in there, too.
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._run,), name=name, daemon=daemon
        )

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as failure:  # raised again by the main thread
            self._failure = failure
        finally:
            self._stop.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure
