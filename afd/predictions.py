"""Conversion of decisions to AFD predictions. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

MODEL_TYPE: Final = "TRANSACTION_FRAUD_INSIGHTS"
NO_RULE: Final = "no_rule_matched"
"""Id of the rule result for an outcome that no matching rule or list gave."""

LIST_RULE: Final = "list_"
"""Prefix of the id of a rule result that stands for a list; the list's name follows."""

SCORING_FAILED: Final = "scoring_failed"

_NOT_IN_IDS: Final = re.compile(r"[^0-9a-z_]")
_USES: Final[Mapping[str, str]] = {"allow": "approve", "block": "block", "watch": "review"}


@dataclass(frozen=True, slots=True)
class Names:
    """Names by which AFD clients know models and outcomes.

    Attributes:
        model_id: Id of every model; if empty, models have their own names.
        model_number: Returns a model version in AFD's form, such as `3.0`, by name and version.
        outcomes: Returns the names of a rule's outcomes, by the rule's id, its version and its
            Fraudstream outcome.
    """

    model_id: str
    model_number: Callable[[str, str], str]
    outcomes: Callable[[str, int, str], Sequence[str]]

    def model(self, name: str) -> str:
        """Return the id of a model, in the characters that AFD allows.

        Example:
            >>> Names("", lambda *_: "1.0", lambda *_: []).model("Card-fraud")
            'card_fraud'
        """
        return _NOT_IN_IDS.sub("_", (self.model_id or name).lower())[:64]

    def score(self, name: str) -> str:
        """Return the name of a model's score, which is also its variable in rules."""
        return f"{self.model(name)}_insightscore"


def prediction(decision: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """Return the answer of GetEventPrediction.

    Args:
        decision: The field `fd` of a processed transaction.
        names: Names by which the client knows models and outcomes.
    """
    return {
        "modelScores": model_scores(decision, names),
        "ruleResults": rule_results(decision, names),
        "externalModelOutputs": [],
    }


def model_scores(decision: Mapping[str, Any], names: Names) -> list[dict[str, Any]]:
    """Return the model and its score; an empty list if scoring failed."""
    if decision["score"] is None:
        return []
    model = decision["model"]
    return [
        {
            "modelVersion": {
                "modelId": names.model(model["name"]),
                "modelType": MODEL_TYPE,
                "modelVersionNumber": names.model_number(model["name"], model["version"]),
            },
            "scores": {names.score(model["name"]): float(decision["score"])},
        }
    ]


def rule_results(decision: Mapping[str, Any], names: Names) -> list[dict[str, Any]]:
    """Return the lists and rules that matched, in order of precedence; never empty.

    The decision's outcome is always among them, because clients act on these outcomes.
    """
    results: list[dict[str, Any]] = []
    ours: set[str] = set()
    for matched_list in decision.get("lists", ()):
        outcome = _USES.get(matched_list["use"])
        if outcome is not None:
            ours.add(outcome)
            results.append({"ruleId": LIST_RULE + matched_list["name"], "outcomes": [outcome]})
    for rule in decision["rules"]:
        ours.add(rule["outcome"])
        results.append(
            {
                "ruleId": rule["id"],
                "outcomes": list(names.outcomes(rule["id"], rule["version"], rule["outcome"])),
            }
        )
    outcome = decision["outcome"]
    # The score alone gave the outcome, or scoring failed.
    if outcome not in ours:
        rule_id = SCORING_FAILED if decision["score"] is None else NO_RULE
        results.append({"ruleId": rule_id, "outcomes": [outcome]})
    return results
