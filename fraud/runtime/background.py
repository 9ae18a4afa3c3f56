"""Run work beside the main loop, and end the process if it fails."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Self


class Background:
    """Run a function in a thread, as a context manager that re-raises its exception.

    When the function returns or raises, `stop` is set, so that the main loop ends. Leaving the
    context sets `stop`, waits for the function, and raises its exception again.

    Args:
        name: Name of the thread.
        work: The function; it must return soon after `stop` is set.
        stop: Event that ends the main loop, too.
        daemon: Whether the process may end without waiting for the thread, for callers that may
            never leave the context.
    """

    def __init__(
        self, name: str, work: Callable[[], None], stop: threading.Event, *, daemon: bool = False
    ) -> None:
        self._work = work
        self._stop = stop
        self._failure: BaseException | None = None
        # Values bound to log lines are context variables, which threads do not inherit.
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
