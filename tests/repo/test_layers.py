"""Processes are started downwards, as imports go: import-linter cannot see a `python -m`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
STARTS = re.compile(r'"-m",\s*"([\w.]+)"')


def test_no_package_starts_a_package_above_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    importlinter = project["tool"]["importlinter"]
    layers = next(one for one in importlinter["contracts"] if one["type"] == "layers")["layers"]
    level_of = {
        package: level
        for level, line in enumerate(layers)
        for package in re.split(r"[\s:|]+", line)
    }

    def level(module: str) -> int:
        parts = module.split(".")
        names = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
        # The rest of fraud is below all others.
        return next((level_of[name] for name in names if name in level_of), len(layers))

    started = {}
    for package in importlinter["root_packages"]:
        for file in (ROOT / package).rglob("*.py"):
            module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            for target in STARTS.findall(file.read_text("utf-8")):
                started[module, target] = level(target) - level(module)
    assert ("scoring_api.dry_runs", "fraud.backtest") in started
    assert {starts for starts, levels in started.items() if levels < 0} == set()
