"""The rule language: conditions on a transaction, its features, its score, and lists."""

from fraud.decision.language.errors import ExpressionError
from fraud.decision.language.expression import Expression, compile_expression
from fraud.decision.language.plan import Columns
from fraud.decision.language.variables import SCORED_AT, Type, standard_variables

__all__ = [
    "SCORED_AT",
    "Columns",
    "Expression",
    "ExpressionError",
    "Type",
    "compile_expression",
    "standard_variables",
]
