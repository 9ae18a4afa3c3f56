"""Their rules, outcomes and lists as ours. Pure; the API and `fraudstream import-afd` both use it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from pydantic import ValidationError

from fraud.contracts.decision import Outcome
from fraud.contracts.lists import ListType
from fraud.contracts.rules import RULE_ID, Rule
from fraud.decision.policy import most_severe
from fraud.decision.variables import standard_variables
from fraud.rules import ExpressionError, compile_expression

WORDS: Final[Sequence[Mapping[Outcome, frozenset[str]]]] = (
    {
        Outcome.BLOCK: frozenset({"block", "blocked", "deny", "denied", "decline", "declined", "reject", "rejected", "stop", "cancel"}),
        Outcome.REVIEW: frozenset({"review", "investigate", "verify", "verification", "manual", "challenge", "hold", "mfa", "otp", "escalate"}),
        Outcome.APPROVE: frozenset({"approve", "approved", "allow", "allowed", "accept", "accepted", "pass"}),
    },
    {
        Outcome.BLOCK: frozenset({"fraud", "fraudulent", "high"}),
        Outcome.REVIEW: frozenset({"medium", "suspicious"}),
        Outcome.APPROVE: frozenset({"low", "legit", "legitimate", "safe"}),
    },
)  # fmt: skip
"""Words in the name of an outcome, and what it means: first those that say what to do, then those
that say what to think of it."""

_NEGATIONS: Final = frozenset({"no", "not", "non", "un"})
_WORD: Final = re.compile(r"[a-z0-9]+")
_TOKEN: Final = re.compile(
    r"""(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|\$(?P<name>[A-Za-z0-9_]+)"""
)
_LIST_TYPES: Final[Mapping[str, ListType]] = MappingProxyType(
    {
        "EMAIL_ADDRESS": ListType.EMAIL,
        "IP_ADDRESS": ListType.IP,
        "CARD_BIN": ListType.BIN,
        "PHONE_NUMBER": ListType.PHONE,
        "BILLING_PHONE": ListType.PHONE,
        "SHIPPING_PHONE": ListType.PHONE,
        "FINGERPRINT": ListType.DEVICE,
    }
)


class NotTranslated(ValueError):
    """Nothing of ours is what it says; the text says why, and what to do."""


def outcome_of(name: str, chosen: Mapping[str, Outcome]) -> Outcome:
    """Describe what an outcome means.

    Args:
        name: Its name.
        chosen: What is set by hand.

    Raises:
        NotTranslated: Nothing is set, and no word of the name says it.

    Example:
        >>> outcome_of("high_risk", {}).value, outcome_of("verify-customer", {}).value
        ('block', 'review')
        >>> outcome_of("vip", {"vip": Outcome.APPROVE}).value
        'approve'
    """
    if name in chosen:
        return chosen[name]
    words = set(_WORD.findall(name.lower()))
    for known in WORDS if not words & _NEGATIONS else ():
        found = [outcome for outcome, of_it in known.items() if words & of_it]
        if len(found) == 1:
            return found[0]
        if found:
            break
    raise NotTranslated(
        f"outcome {name}: its name does not say which of approve, review and block it is; say so in AFD_OUTCOMES, as {name}=review"
    )


def read_outcomes(text: str) -> dict[str, Outcome]:
    """Read the setting AFD_OUTCOMES.

    Raises:
        ValueError: It is none.

    Example:
        >>> read_outcomes("vip=approve, call=review")["call"].value
        'review'
    """
    chosen: dict[str, Outcome] = {}
    for part in filter(None, (pair.strip() for pair in text.split(","))):
        name, equals, outcome = (side.strip() for side in part.partition("="))
        if not equals or not name or outcome not in set(Outcome):
            raise ValueError(
                f"expected name=outcome, separated by commas, each outcome one of {', '.join(Outcome)}"
            )
        chosen[name] = Outcome(outcome)
    return chosen


def list_type_of(variable_type: str | None) -> ListType:
    """Describe what a list of values of a variable's type is of; text when that says nothing.

    Example:
        >>> list_type_of("IP_ADDRESS").value, list_type_of("FREE_FORM_TEXT").value
        ('ip', 'text')
    """
    return _LIST_TYPES.get(variable_type or "", ListType.TEXT)


def expression_of(expression: str, names: Mapping[str, str]) -> str:
    """Write an expression with our fields in place of their variables; texts in it stay.

    Example:
        >>> expression_of("$price > 100 and $note != '$price'", {"price": "transaction_amt"})
        "$transaction_amt > 100 and $note != '$price'"
    """

    def ours(match: re.Match[str]) -> str:
        return match[0] if match["text"] else f"${names.get(match['name'], match['name'])}"

    return _TOKEN.sub(ours, expression)


def rule_of(
    rule_id: str,
    expression: str,
    outcomes: Sequence[str],
    description: str,
    *,
    names: Mapping[str, str],
    chosen: Mapping[str, Outcome],
    lists: Collection[str] | None,
) -> Rule:
    """Make a rule of ours, without a version: ids are those of one detector there, and of all here.

    Args:
        rule_id: Their id, and ours.
        expression: In their language, which ours contains.
        outcomes: Their names; the most severe counts.
        description: What it is for.
        names: Our field by their variable.
        chosen: What outcomes mean, set by hand.
        lists: Names of the lists that there are; None takes any.

    Raises:
        NotTranslated: See there.
    """
    if not re.fullmatch(RULE_ID.strip("^$"), rule_id):
        raise NotTranslated(f"rule {rule_id}: expected an id that begins with a letter or a digit")
    when = expression_of(expression, names)
    outcome = most_severe([outcome_of(name, chosen) for name in outcomes])
    try:
        compile_expression(when, standard_variables(), lists)
        return Rule(
            id=rule_id,
            when=when,
            outcome=outcome,
            description=description,
            reason=description,
        )
    except ExpressionError as error:
        raise NotTranslated(
            f"rule {rule_id}, line {error.line}, column {error.column}: {error.message}"
        ) from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise NotTranslated(f"rule {rule_id}, {first['loc'][0]}: {first['msg']}") from None
