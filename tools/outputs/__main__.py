"""Writes and compares snapshots of the system's outputs.

`python -m tools.outputs write FOLDER --registry FOLDER` runs the stack of this tree on the fixed
records and the model of the registry folder, and writes what came out and what the tree declares.
Records and model are made once, when the registry folder has none. `python -m tools.outputs compare
A B` prints what differs; exit code 1 when anything does, besides prose.
"""

from __future__ import annotations

import argparse
import gzip
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import orjson

from tools.outputs.comparing import Difference, differences
from tools.outputs.declared import declared
from tools.outputs.records import make_records, read_records, write_records
from tools.outputs.running import lines, started

_RECORDS: Final = "records.jsonl"
_MODELS: Final = "models"
_HISTORY: Final = (
    *("--days", "30", "--customers", "1500", "--seed", "20260301", "--prevalence", "high"),
    *("--until", "2026-03-01T00:00:00"),
)
_SHOWN: Final = 20


def prepare(folder: Path) -> None:
    """Create the records and the model of a registry folder if they are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    history = folder / "history.jsonl"
    environment = {**os.environ, "STATE_DIR": str(folder / "state")}
    if not history.exists():
        run = [sys.executable, "-m", "producer", "history", *_HISTORY, "--output", str(history)]
        subprocess.run(run, env=environment, check=True)
    if not (folder / _MODELS).exists():
        run = [sys.executable, "-m", "model", "train", "--data", str(history), "--search", "0"]
        run += ["--registry", str(folder / _MODELS), "--offline"]
        subprocess.run(run, env=environment, check=True, stdout=subprocess.DEVNULL)
    if not (folder / _RECORDS).exists():
        write_records(make_records(history), folder / _RECORDS)


def write(folder: Path, registry: Path) -> None:
    """Write a snapshot of all outputs."""
    prepare(registry)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in declared().items():
        _write_json(folder / f"{name}.json", content)
    records = read_records(registry / _RECORDS)
    with started(registry / _MODELS) as stack:
        stack.send(records)
        outputs = stack.outputs(records)
        processed = [o for o, output in outputs.items() if "fd" in output]
        told = {"stream": [{"offset": o, **outputs[o]} for o in processed]}
        told["dead_letters"] = [
            {"offset": o, **output} for o, output in outputs.items() if "fd" not in output
        ]
        answers = list(stack.rest(records, processed))
        told["rest"] = [answer for answer in answers if "status" not in answer]
        told["rest_refused"] = [answer for answer in answers if "status" in answer]
        told["documents"] = list(stack.documents(processed))
        for name, content in stack.names().items():
            _write_json(folder / f"{name}.json", content)
        # The last: what it asks about goes down the stream.
        values = [records[o].value or b"" for o in processed[:: len(processed) // 100]]
        told["afd"] = list(stack.afd(values))
    for name, entries in told.items():
        (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(lines(entries), 3, mtime=0))
        print(f"{name}: {len(entries)}")


def _write_json(path: Path, content: Any) -> None:
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def compare(before: Path, after: Path, *, with_texts: bool) -> int:
    """Print the differences; return the exit code."""
    found: dict[str, list[Difference]] = {}
    texts = 0
    for difference in differences(before, after):
        if difference.is_text and not with_texts:
            texts += 1
        else:
            found.setdefault(difference.place.split(" ")[0], []).append(difference)
    for name, listed in found.items():
        print(f"{name}: {len(listed)} differ")
        for difference in listed[:_SHOWN]:
            print(
                f"  {difference.place}: {_short(difference.before)} -> {_short(difference.after)}"
            )
    print(f"{sum(map(len, found.values()))} differences, and {texts} of prose (--texts shows them)")
    return 1 if found else 0


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.outputs", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("write", help="write a snapshot of this tree")
    writing.add_argument("folder", type=Path)
    writing.add_argument("--registry", type=Path, required=True, help="records and model")
    comparing = commands.add_parser("compare", help="print what differs between two snapshots")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    comparing.add_argument("--texts", action="store_true", help="count and show prose, too")
    chosen = parser.parse_args(arguments)
    if chosen.command == "compare":
        return compare(chosen.before, chosen.after, with_texts=chosen.texts)
    write(chosen.folder, chosen.registry.absolute())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
