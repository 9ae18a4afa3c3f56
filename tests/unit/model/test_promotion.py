"""Promotion: a model that is worse on the same later transactions does not decide."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fraud.contracts.decision import ModelRef
from fraud.contracts.times import DAY_MS
from model import registry as registry_module
from model.examples import History
from model.promotion import PromotionRefused, check
from model.registry import LATER_FILE, ModelAltered, ModelMismatch, Registry
from model.training import Trained, TrainingConfig, measurable, period_of, train
from tests.support.histories import labelled_rows, read_rows

CONFIG = TrainingConfig(
    min_rounds=20, max_rounds=40, patience=15, search=0, baseline=False, resamples=40
)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return read_rows(tmp_path_factory.mktemp("history"), labelled_rows())


@pytest.fixture(scope="module")
def matrix(history: History) -> NDArray[np.float32]:
    from model.examples import feature_rows

    return feature_rows(history)


@pytest.fixture(scope="module")
def good(history: History, matrix: NDArray[np.float32]) -> Trained:
    return train(history, matrix, CONFIG)


@pytest.fixture(scope="module")
def bad(history: History, matrix: NDArray[np.float32]) -> Trained:
    """A model that learnt from labels of which most were somebody else's."""
    label = history.label.copy()
    before = int(len(label) * 0.8)
    label[:before] = np.random.default_rng(1).permutation(label[:before])
    return train(replace(history, label=label), matrix, CONFIG)


def add(models: Registry, trained: Trained, **training: Any) -> ModelRef:
    manifest = models.add(
        "fraud",
        trained.booster,
        trained.scale,
        metrics=trained.metrics,
        training={**trained.training, **training},
        later=trained.later.to_bytes(),
    )
    return ModelRef(name=manifest.name, version=manifest.version)


def test_a_worse_model_is_refused_and_a_better_one_is_not(
    tmp_path: Path, good: Trained, bad: Trained
) -> None:
    models = Registry(tmp_path)
    best, worst = add(models, good), add(models, bad)
    assert check(models, best) is None
    models.promote(best.name, best.version)
    with pytest.raises(PromotionRefused, match=r"is worse: average precision .* on the same"):
        check(models, worst)
    assert check(models, best) is None
    models.promote(worst.name, worst.version)
    compared = check(models, best)
    assert compared is not None
    assert compared.difference.value > 0


def test_a_period_of_ones_own_decides(
    tmp_path: Path, good: Trained, bad: Trained, history: History, matrix: NDArray[np.float32]
) -> None:
    models = Registry(tmp_path)
    best, worst = add(models, good), add(models, bad)
    models.promote(best.name, best.version)
    (models.folder / "fraud" / worst.version / LATER_FILE).unlink()
    with pytest.raises(PromotionRefused, match="came without the transactions"):
        check(models, worst)
    period = period_of(history, matrix, measurable(history))
    frauds = int((bad.later.label == 1).sum())
    assert 0 < frauds < int((history.label == 1).sum())
    # Of the whole file what came after both were trained: the period that both were tested on.
    with pytest.raises(PromotionRefused, match=f"with {frauds} frauds"):
        check(models, worst, period)


def test_what_the_candidate_has_learnt_from_proves_nothing(
    tmp_path: Path, good: Trained, bad: Trained, history: History, matrix: NDArray[np.float32]
) -> None:
    """Nor what the champion has; a named file without anything later compares nothing."""
    period = period_of(history, matrix, measurable(history))
    later = "2030-01-01T00:00:00.000Z"
    for name, (champion_at, candidate_at) in {"a": (later, None), "b": (None, later)}.items():
        models = Registry(tmp_path / name)
        champion = add(models, good, **({"trained_at": champion_at} if champion_at else {}))
        candidate = add(models, bad, **({"trained_at": candidate_at} if candidate_at else {}))
        models.promote(champion.name, champion.version)
        with pytest.raises(PromotionRefused, match="no later transactions"):
            check(models, candidate, period)


def test_what_the_champion_has_learnt_from_proves_nothing(
    tmp_path: Path, good: Trained, bad: Trained
) -> None:
    """Of the candidate's test period only what came after the champion's training counts."""
    models = Registry(tmp_path)
    later = "2030-01-01T00:00:00.000Z"
    champion, candidate = add(models, good, trained_at=later), add(models, bad)
    models.promote(champion.name, champion.version)
    with pytest.raises(PromotionRefused, match="no later transactions"):
        check(models, candidate)


def test_simulated_and_real_transactions_never_overlap(
    tmp_path: Path, good: Trained, bad: Trained
) -> None:
    """So that a first real model can replace the simulated one whenever its data are from."""
    models = Registry(tmp_path)
    later = "2030-01-01T00:00:00.000Z"
    champion = add(models, bad, trained_at=later, has_truth=True)
    models.promote(champion.name, champion.version)
    compared = check(models, add(models, good))
    assert compared is not None
    assert compared.rows == good.metrics["rows"]


def test_altered_test_transactions_are_refused(tmp_path: Path, good: Trained, bad: Trained) -> None:
    models = Registry(tmp_path)
    best, worst = add(models, good), add(models, bad)
    models.promote(best.name, best.version)
    shifted = replace(bad.later, event_time_ms=bad.later.event_time_ms + DAY_MS)
    models.keep(worst.name, worst.version, LATER_FILE, shifted.to_bytes())
    with pytest.raises(ModelAltered, match="tested on were changed"):
        check(models, worst)


def test_other_features_are_refused_unless_forced(
    tmp_path: Path, good: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = Registry(tmp_path)
    with monkeypatch.context() as older:
        older.setattr(registry_module, "FEATURES_HASH", "an older program")
        other = add(models, good)
    with pytest.raises(ModelMismatch):
        check(models, other)
    with pytest.raises(ModelMismatch):
        models.promote(other.name, other.version)
    assert models.promote(other.name, other.version, force=True).ref == other
