"""Declarations of this tree: names and documents that users rely on.

Committed files that `make docs` writes are read as they are, because a test compares them with the
code. Declarations that only the code has are imported by `LOCATIONS`, which follows moves.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import orjson
import typer
import yaml

from tools.house import House, read_house

ROOT: Final = Path(__file__).parents[2]

LOCATIONS: Final = {
    "layout_id": "fraud.features.catalogue:LAYOUT_ID",
    "keys": "fraud.features.catalogue:KEYS",
    "index_templates": "indexer.template:templates",
    "error_codes": "fraud.contracts.errors:ErrorCode",
    "job_settings": "flink_job.settings:JobSettings",
    "source_ddl": "flink_job.tables:source_ddl",
    "sink_ddl": "flink_job.tables:sink_ddl",
    "commands": "fraudstream.cli:app",
}
"""Places of declarations that no committed file has, `module:name`."""

_LOG_METHODS: Final = frozenset({"debug", "info", "warning", "error", "exception", "critical"})
_LOG_EVENT: Final = re.compile(r"[a-z_]+(?:\.[a-z_]+)+")
# Texts of code that name a file, folder or key which is kept.
_FILE_NAME: Final = re.compile(
    r"[\w.{}-]*\.(?:sqlite|db|json|jsonl|lock|snapshot|ubj|parquet|toml|ndjson)|[a-z-]+-key"
)


def declared() -> dict[str, Any]:
    """Return everything by the name of its file in the snapshot."""
    house = read_house()
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    return {
        "schemas": {
            path.name: orjson.loads(path.read_bytes()) for path in _tracked("*/schemas/*.json")
        },
        "monitoring": {
            str(path.relative_to(ROOT)): yaml.safe_load(path.read_text("utf-8"))
            for path in _tracked("monitoring/*")
        },
        "saved_objects": [
            orjson.loads(line)
            for path in _tracked("dashboards/*.ndjson")
            for line in path.read_bytes().splitlines()
        ],
        "default_rules": [path.read_text("utf-8") for path in _tracked("*/default_rules.toml")],
        "settings": dict(
            re.findall(r"^#(\w+)=(.*)$", (ROOT / ".env.example").read_text("utf-8"), re.MULTILINE)
        ),
        "metrics": [row[:3] for row in _table("docs/metrics.md")],
        "features": [row[:2] for row in _table("docs/features.md")],
        "topics": [[row[0], *row[2:]] for row in _table("docs/topics.md") if len(row) == 8],
        "dead_letter_headers": [row[0] for row in _table("docs/topics.md") if len(row) == 2],
        "rule_language": [row[0] for row in _table("docs/rule-reference.md")],
        "log_events": sorted(_log_events(house)),
        "job_counters": sorted(
            name
            for text in house.product.values()
            for name in re.findall(r'\.counter\("(\w+)"\)', text)
        ),
        "file_names": sorted(_file_names(house)),
        "layout_id": _imported("layout_id"),
        "keys": [
            [key.name, key.field, key.rows, str(key.dtype.descr)] for key in _imported("keys")
        ],
        "index_templates": _imported("index_templates")(shards=1, replicas=0),
        "error_codes": [str(code) for code in _imported("error_codes")],
        "flink_tables": _flink_tables(house),
        "compose": {
            "services": {
                name: {
                    "volumes": service.get("volumes", []),
                    "ports": service.get("ports", []),
                    "environment": sorted(service.get("environment") or ()),
                    "depends_on": service.get("depends_on", {}),
                }
                for name, service in compose["services"].items()
            },
            "volumes": compose.get("volumes", {}),
            "networks": compose.get("networks", {}),
        },
        "commands": dict(_commands()),
    }


def _tracked(*patterns: str) -> list[Path]:
    command = ["git", "-C", str(ROOT), "ls-files", "--", *patterns]
    listed = subprocess.check_output(command, text=True).splitlines()
    return sorted(ROOT / name for name in listed if not name.startswith("tests/"))


def _imported(name: str) -> Any:
    module, attribute = LOCATIONS[name].split(":")
    return getattr(import_module(module), attribute)


def _table(page: str) -> list[list[str]]:
    """Return the rows of a page's tables, without their heads."""
    rows = []
    for line in (ROOT / page).read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and cells[0].startswith("`"):
            rows.append(cells)
    return rows


def _log_events(house: House) -> Iterator[str]:
    """Return level, event and keys of each log call."""
    for path in house.product:
        for node in ast.walk(house.tree(path)):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr=level), args=[ast.Constant(value=str(event)), *_]
                ) if level in _LOG_METHODS and _LOG_EVENT.fullmatch(event):
                    keys = sorted(keyword.arg or "**" for keyword in node.keywords)
                    yield f"{level} {event} {' '.join(keys)}".strip()


def _file_names(house: House) -> set[str]:
    return {
        node.value
        for path in house.product
        for node in ast.walk(house.tree(path))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and _FILE_NAME.fullmatch(node.value)
    }


def _flink_tables(house: House) -> dict[str, Any]:
    settings = _imported("job_settings")(_env_file=None)
    functions = {
        name
        for path, text in house.product.items()
        if path.startswith("flink_job/")
        for name in re.findall(r'create_temporary_system_function\(\s*"(\w+)"', text)
    }
    return {
        "source": _imported("source_ddl")(settings),
        "source from the earliest": _imported("source_ddl")(settings, from_earliest=True),
        "sink": _imported("sink_ddl")(settings),
        "functions": sorted(functions),
    }


def _commands() -> Iterator[tuple[str, list[str]]]:
    """Return each command with its parameters: names, defaults, whether required or repeatable."""
    app = _imported("commands")
    root = app if hasattr(app, "params") else typer.main.get_command(app)
    waiting: list[tuple[str, Any]] = [("fraudstream", root)]
    while waiting:
        name, command = waiting.pop(0)
        yield name, sorted(map(_option, command.params))
        if hasattr(command, "list_commands"):
            load = getattr(command, "load", partial(command.get_command, None))
            waiting += [(f"{name} {inner}", load(inner)) for inner in command.list_commands(None)]


def _option(option: Any) -> str:
    names = "/".join([*option.opts, *option.secondary_opts])
    default = option.default if isinstance(option.default, (str, int, float, Path)) else ""
    marks = [mark for mark in ("required", "multiple") if getattr(option, mark, False)]
    return " ".join([names, str(default), *marks])
