"""What the AWS CLI prints of a detector of Amazon Fraud Detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson


def write_export(folder: Path, detector: str = "payments", ips: str = "bad_ips") -> Path:
    """Write what the AWS CLI prints of a small detector."""
    rule = {"detectorId": detector, "language": "DETECTORPL", "outcomes": ["approve"]}
    answers: dict[str, Any] = {
        "variables-1": {"variables": [
            {"name": "order_price", "dataType": "FLOAT", "dataSource": "EVENT", "defaultValue": "0.0", "variableType": "PRICE"},
            {"name": "basket", "dataType": "INTEGER", "dataSource": "EVENT", "defaultValue": "0", "variableType": "NUMERIC"},
        ]},
        "outcomes-1": {"outcomes": [{"name": "deny_order"}, {"name": "approve"}]},
        "rules-1": {"ruleDetails": [
            rule | {"ruleId": "rest", "ruleVersion": "1", "expression": "$pay_insightscore >= 0"},
            rule | {"ruleId": "dear", "ruleVersion": "1", "expression": "$order_price > 100", "outcomes": ["deny_order"]},
            rule | {"ruleId": "dear", "ruleVersion": "4", "expression": "$order_price > 500 and $ip_address in @" + ips, "outcomes": ["deny_order"]},
        ]},
        "lists-1": {"lists": [{"name": ips, "variableType": "IP_ADDRESS"}]},
        f"elements-{ips}-1": {"elements": ["203.0.113.0/24"], "nextToken": "x"},
        f"elements-{ips}-2": {"elements": ["198.51.100.9"]},
        "detector-version": {
            "detectorId": detector, "detectorVersionId": "3", "status": "ACTIVE", "ruleExecutionMode": "FIRST_MATCHED",
            "rules": [
                {"detectorId": detector, "ruleId": "dear", "ruleVersion": "4"},
                {"detectorId": detector, "ruleId": "rest", "ruleVersion": "1"},
            ],
        },
    }  # fmt: skip
    for name, answer in answers.items():
        (folder / f"{name}.json").write_bytes(orjson.dumps(answer))
    return folder
