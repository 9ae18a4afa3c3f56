"""Translation of AFD rules, outcomes and lists, for the API and `fraudstream import-afd`. Pure."""

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
"""Words in outcome names and what they mean; words for actions count before words for risks."""

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
    """A definition has no equivalent in Fraudstream; the message says why, and what to do."""


def outcome_of(name: str, chosen: Mapping[str, Outcome]) -> Outcome:
    """Return the Fraudstream outcome for an AFD outcome, by its name.

    Args:
        name: Name of the AFD outcome.
        chosen: Outcomes by name that the user set; they count before words.

    Raises:
        NotTranslated: The outcome is not set, and its name's words mean nothing or several things.

    Example:
        >>> outcome_of("high_risk", {}).value, outcome_of("verify-customer", {}).value
        ('block', 'review')
        >>> outcome_of("vip", {"vip": Outcome.APPROVE}).value
        'approve'
    """
    if name in chosen:
        return chosen[name]
    words = set(_WORD.findall(name.lower()))
    # A negation, as in "not_fraud", leaves the meaning open.
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
    """Parse the setting AFD_OUTCOMES.

    Raises:
        ValueError: A part is not of the form `name=outcome`.

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
    """Return the list type for values of a variable type; `text` if no other one fits.

    Example:
        >>> list_type_of("IP_ADDRESS").value, list_type_of("FREE_FORM_TEXT").value
        ('ip', 'text')
    """
    return _LIST_TYPES.get(variable_type or "", ListType.TEXT)


def expression_of(expression: str, names: Mapping[str, str]) -> str:
    """Replace variables in an expression by transaction fields, except in quoted texts.

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
    """Translate a rule, leaving out its version: ids are unique per detector in AFD, globally here.

    Args:
        rule_id: Id of the rule, which stays the same.
        expression: Expression in AFD's rule language, a subset of Fraudstream's.
        outcomes: Names of AFD outcomes; the most severe counts.
        description: Description of the rule, and its reason.
        names: Transaction fields by variable.
        chosen: Fraudstream outcomes by outcome name, set by the user.
        lists: Names of the lists that exist; None allows any.

    Raises:
        NotTranslated: The id, the expression or an outcome has no equivalent.
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
