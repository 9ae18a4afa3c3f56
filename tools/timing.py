"""Runs a command, once or several times, and prints the (median) time.

    python -m tools.timing --runs 3 .venv/bin/python -m pytest tests/unit

Seconds are those of the clock, and of the processors that the command and its descendants used.
The first run that fails is the last, and its exit code is returned.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from typing import NamedTuple


class Run(NamedTuple):
    """Time of one run of a command.

    Attributes:
        clock_s: Seconds that passed.
        cpu_s: Seconds that its processes, those that were waited for, spent on processors.
    """

    clock_s: float
    cpu_s: float

    def __str__(self) -> str:
        return f"{self.clock_s:.1f} s ({self.cpu_s:.1f} s of processors)"


def timed(command: list[str]) -> tuple[int, Run]:
    """Run a command once.

    Returns:
        Its exit code and its time.
    """
    cpu_s, clock_s = _children_cpu_s(), time.monotonic()
    code = subprocess.run(command, check=False).returncode
    return code, Run(time.monotonic() - clock_s, _children_cpu_s() - cpu_s)


def median(runs: list[Run]) -> Run:
    """Return the run in the middle by the clock, of an even number the slower one."""
    return sorted(runs)[len(runs) // 2]


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Run the command of the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=1, help="how often to run it")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the command and its arguments")
    arguments = parser.parse_args()
    runs: list[Run] = []
    for number in range(1, arguments.runs + 1):
        code, run = timed(arguments.command)
        runs.append(run)
        print(f"run {number} of {arguments.runs}: {run}", flush=True)
        if code:
            return code
    if len(runs) > 1:
        print(f"median of {len(runs)}: {median(runs)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
