"""Offline scoring: decide the rows of a file as the stream would have."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import orjson
from numpy.typing import NDArray

from fraud.decision.columns import BatchColumns
from fraud.decision.policy import RuleEvaluator
from fraud.decision.rule_sets import shipped
from fraud.decision.scorer import Scorer
from model.datasets import DatasetError
from model.examples import History

_SUFFIXES: Final = (".csv", ".jsonl", ".parquet")
COLUMNS: Final = ("event_id", "probability", "score", "outcome")


@dataclass(frozen=True, slots=True)
class OfflineDecisions:
    """Decisions on the rows of a file, in event-time order; all of length n.

    Attributes:
        event_id: Ids of the transactions.
        probability: Probabilities of fraud, 0-1.
        score: 0-1000, high = fraud.
        outcome: approve, review or block.
    """

    event_id: list[str]
    probability: list[float]
    score: list[int]
    outcome: list[str]

    def rows(self) -> Iterator[tuple[str, float, int, str]]:
        """Return the decisions one by one, as tuples in the order of `COLUMNS`."""
        return zip(self.event_id, self.probability, self.score, self.outcome, strict=True)


def decide_rows(history: History, matrix: NDArray[np.float32], scorer: Scorer) -> OfflineDecisions:
    """Score a history and apply the shipped rules.

    Args:
        history: Transactions.
        matrix: Their feature vectors, from `model.examples.feature_rows`.
        scorer: Model that scores them.
    """
    probability = scorer.predict(matrix)
    score = scorer.scale.score(probability).tolist()
    columns = BatchColumns(matrix, score, probability, _NoFields(), {}, 0)
    rulings = RuleEvaluator(shipped(), {}).evaluate(columns)
    return OfflineDecisions(
        history.event_ids, probability.tolist(), score, [ruling.outcome.value for ruling in rulings]
    )


class _NoFields:
    """Stand-in for fields, which a history does not keep: the shipped rules use features and score only."""

    def column(self, name: str) -> Sequence[object]:
        raise NotImplementedError(name)


def check_output(path: Path, inputs: Sequence[Path] = ()) -> None:
    """Check the name of an output file before its content is computed.

    Args:
        path: Output file.
        inputs: Input files, which it must not replace.

    Raises:
        DatasetError: The name does not end in `.csv`, `.jsonl` or `.parquet`, the folder is missing,
            or the file is one of the inputs.
    """
    if any(path.exists() and path.samefile(file) for file in inputs if file.exists()):
        raise DatasetError(f"{path}: is read, and would be overwritten; name another output")
    if path.suffix not in _SUFFIXES:
        raise DatasetError(f"{path.name}: expected a name ending in .csv, .jsonl or .parquet")
    if not path.absolute().parent.is_dir():
        raise DatasetError(f"{path}: no such folder")


def write_decisions(decisions: OfflineDecisions, path: Path) -> None:
    """Write decisions to a file, which appears once it is complete.

    Args:
        decisions: Decisions to write.
        path: File with a name ending in `.csv`, `.jsonl` or `.parquet`.

    Raises:
        DatasetError: The name has another ending, or the file cannot be written.
    """
    check_output(path)
    making = path.with_name(path.name + ".part")
    try:
        if path.suffix == ".csv":
            with making.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(COLUMNS)
                writer.writerows(decisions.rows())
        elif path.suffix == ".jsonl":
            with making.open("wb") as lines:
                for row in decisions.rows():
                    lines.write(orjson.dumps(dict(zip(COLUMNS, row, strict=True))) + b"\n")
        else:
            import pyarrow as pa  # takes half a second, which writers of text are spared
            from pyarrow import parquet

            values = (
                decisions.event_id,
                decisions.probability,
                decisions.score,
                decisions.outcome,
            )
            parquet.write_table(pa.table(dict(zip(COLUMNS, values, strict=True))), str(making))
        making.replace(path)
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}") from None
