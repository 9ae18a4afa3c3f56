"""The recipe of CONTRIBUTING.md: a feature is added in one file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

# After a feature that is there: another measure of what a key does not remember yet.
ANCHOR = '    yield add(\n        "known_count"'
ADDED = """    yield add(
        "zip_distinct",
        ("billing_zip",),
        "24h",
        history.distinct("billing_zip"),
        "postal codes",
        "Different postal codes {last}.",
        "{value:.0f} different postal codes {last}.",
    )
"""

ASK = """
import json
from fraud.features.catalogue import FEATURES, KEYS, LAYOUT_ID
from fraud.features.history import Histories
from fraud.features.packing import pack
from fraud.features.vector import FEATURE_NAMES, FEATURES_HASH, feature_matrix
from tools.reference import features_page
from fraud.contracts.transaction import decode
from tests.support.builders import a_value

histories = {key.name: Histories(key) for key in KEYS}
rows = []
for number, zip_code in enumerate(("10115", "10117", "10117", "20095")):
    packed = pack([decode(a_value(event_id=f"e{number}", billing_zip=zip_code))])
    for key in KEYS:
        if packed.keys[key.name][0] is not None:
            histories[key.name].remember(packed.keys[key.name][0], packed.records[key.name].tobytes())
    rings = {
        key.name: [histories[key.name].ring(packed.keys[key.name][0] or "")] for key in KEYS
    }
    rows.append(dict(zip(FEATURE_NAMES, feature_matrix(packed, rings)[0].tolist(), strict=True)))
print(json.dumps({
    "features": len(FEATURES),
    "values": [row.get("entity_zip_distinct_24h") for row in rows],
    "layout": LAYOUT_ID,
    "hash": FEATURES_HASH,
    "documented": "entity_zip_distinct_24h" in features_page(),
}))
"""


def _ask(tree: Path) -> dict[str, object]:
    path = os.pathsep.join((str(tree), str(ROOT)))
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env={**os.environ, "PYTHONPATH": path},
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_a_feature_is_added_in_one_file(tmp_path: Path) -> None:
    """Computation, what the key remembers, the vector's place and the documents follow."""
    before = _ask(ROOT)
    shutil.copytree(ROOT / "fraud", tmp_path / "fraud")
    catalogue = tmp_path / "fraud" / "features" / "catalogue.py"
    text = catalogue.read_text("utf-8")
    assert text.count(ANCHOR) == 1
    catalogue.write_text(text.replace(ANCHOR, ADDED + ANCHOR), "utf-8")
    after = _ask(tmp_path)
    assert before["values"] == [None] * 4
    assert after["values"] == [1.0, 2.0, 2.0, 3.0]
    assert after["features"] == int(str(before["features"])) + 1
    assert after["documented"]
    assert after["layout"] != before["layout"], "state of the old layout must not be read"
    assert after["hash"] != before["hash"], "a model of the old features must be refused"
