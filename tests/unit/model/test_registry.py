"""The registry: a version means one model, and only one that fits is ever loaded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from fraud.contracts.versions import shown
from fraud.decision.scale import ScoreScale
from fraud.features.vector import FEATURE_NAMES
from model import registry as registry_module
from model.registry import (
    BOOSTER_FILE,
    CHAMPION_FILE,
    MANIFEST_FILE,
    Manifest,
    ModelAltered,
    ModelError,
    ModelMismatch,
    NoSuchModel,
    Registry,
)
from tests.support.boosters import rows, train_booster


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    hours = iter(range(1000))
    return Registry(
        tmp_path / "models", lambda: datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=next(hours))
    )


def add(registry: Registry, booster: bytes, scale: ScoreScale, **metrics: Any) -> Manifest:
    return registry.add("fraud", booster, scale, metrics=metrics, training={"seed": 7})


def change_manifest(registry: Registry, model: Manifest, **values: Any) -> None:
    path = registry.folder / model.name / model.version / MANIFEST_FILE
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | values))


def test_a_model_comes_back_as_it_was_added(
    registry: Registry, booster: bytes, scale: ScoreScale
) -> None:
    model = add(registry, booster, scale, auc=0.9)
    scorer = registry.load("fraud", model.version)
    assert (scorer.ref.name, scorer.ref.version) == ("fraud", model.version)
    assert scorer.scale.probabilities.tolist() == [0.0, 0.5, 1.0]
    assert len(scorer.predict(rows(3, seed=1))) == 3
    assert registry.manifest("fraud", model.version).metrics == {"auc": 0.9}
    assert model.features == list(FEATURE_NAMES)


def test_the_version_is_the_content(registry: Registry, booster: bytes, scale: ScoreScale) -> None:
    """The same model added later is the same version; any other content is another."""
    model = add(registry, booster, scale, auc=0.9)
    assert add(registry, booster, scale, auc=0.9) == model
    other_scale = ScoreScale([0.0, 0.4, 1.0], [0.0, 950.0, 1000.0])
    others = {
        add(registry, booster, other_scale, auc=0.9).version,
        add(registry, booster, scale, auc=0.8).version,
        registry.add("other", booster, scale, metrics={"auc": 0.9}, training={"seed": 7}).version,
    }
    assert len(others | {model.version}) == 4


def test_altered_trees_are_refused(registry: Registry, booster: bytes, scale: ScoreScale) -> None:
    model = add(registry, booster, scale)
    path = registry.folder / "fraud" / model.version / BOOSTER_FILE
    altered = bytearray(path.read_bytes())
    altered[len(altered) // 2] ^= 1
    path.write_bytes(altered)
    with pytest.raises(ModelAltered, match=f"fraud@{shown(model.version)}: its files were changed"):
        registry.load("fraud", model.version)


def test_missing_trees_are_refused(registry: Registry, booster: bytes, scale: ScoreScale) -> None:
    model = add(registry, booster, scale)
    (registry.folder / "fraud" / model.version / BOOSTER_FILE).unlink()
    with pytest.raises(ModelAltered, match=r"model\.ubj is missing"):
        registry.load("fraud", model.version)


@pytest.mark.parametrize(
    "values",
    [
        {"scale": {"probabilities": [0.0, 0.1, 1.0], "scores": [0.0, 950.0, 1000.0]}},
        {"metrics": {"auc": 1.0}},
        {"features": list(reversed(FEATURE_NAMES))},
        {"version": "0" * 12},
        {"more": 1},
    ],
)
def test_an_altered_manifest_is_refused(
    registry: Registry, booster: bytes, scale: ScoreScale, values: dict[str, Any]
) -> None:
    model = add(registry, booster, scale, auc=0.7)
    change_manifest(registry, model, **values)
    with pytest.raises(ModelAltered, match="its files were changed"):
        registry.load("fraud", model.version)


def test_a_damaged_manifest_is_refused(
    registry: Registry, booster: bytes, scale: ScoreScale
) -> None:
    model = add(registry, booster, scale)
    (registry.folder / "fraud" / model.version / MANIFEST_FILE).write_bytes(b'{"name": "fraud"')
    with pytest.raises(ModelAltered, match="damaged"):
        registry.load("fraud", model.version)


@pytest.mark.parametrize(
    ("names", "features_hash", "told"),
    [
        (FEATURE_NAMES[:-1], "other", f"the model lacks {FEATURE_NAMES[-1]}"),
        ((*FEATURE_NAMES, "moon_phase"), "other", "the program lacks moon_phase"),
        (
            (*FEATURE_NAMES[1:], "moon_phase"),
            "other",
            f"the model lacks {FEATURE_NAMES[0]} and the program lacks moon_phase",
        ),
        ((FEATURE_NAMES[1], FEATURE_NAMES[0], *FEATURE_NAMES[2:]), "other", "their order differs"),
        (FEATURE_NAMES, "0123456789abcdef", "their meaning is not"),
    ],
)
def test_a_model_of_other_features_is_refused_naming_the_difference(
    registry: Registry,
    booster: bytes,
    scale: ScoreScale,
    monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, ...],
    features_hash: str,
    told: str,
) -> None:
    """A model that an older or newer program trained, untouched since."""
    with monkeypatch.context() as patch:
        patch.setattr(registry_module, "FEATURE_NAMES", names)
        patch.setattr(registry_module, "FEATURES_HASH", features_hash)
        model = add(registry, booster, scale)
    with pytest.raises(ModelMismatch, match=told):
        registry.load("fraud", model.version)
    with pytest.raises(ModelMismatch):
        registry.promote("fraud", model.version)


def test_trees_of_another_width_are_refused(registry: Registry, scale: ScoreScale) -> None:
    model = add(registry, train_booster(width=10), scale)
    with pytest.raises(ModelMismatch, match="take 10 features"):
        registry.load("fraud", model.version)


def test_the_champion_is_the_model_last_promoted(
    registry: Registry, booster: bytes, scale: ScoreScale
) -> None:
    first, second = add(registry, booster, scale, auc=0.8), add(registry, booster, scale, auc=0.9)
    with pytest.raises(NoSuchModel, match="train a model first"):
        registry.champion()
    registry.promote("fraud", first.version)
    assert registry.champion().ref.version == first.version
    registry.promote("fraud", second.version)
    registry.promote("fraud", second.version)
    assert registry.champion().ref.version == second.version
    registry.rollback()
    assert registry.champion().ref.version == first.version
    with pytest.raises(NoSuchModel, match="no earlier champion"):
        registry.rollback()


def test_nothing_half_written_is_seen(
    registry: Registry, booster: bytes, scale: ScoreScale
) -> None:
    """Remains of a process killed while writing are ignored and block nothing."""
    model = add(registry, booster, scale)
    (registry.folder / "fraud" / f".{model.version}.1").mkdir()
    (registry.folder / f".{CHAMPION_FILE}.1").write_bytes(b"{")
    (registry.folder / "fraud" / "0123456789ab").mkdir()
    assert [one.version for one in registry.models()] == [model.version]
    registry.promote("fraud", model.version)
    leftovers = {path.name for path in registry.folder.iterdir()}
    assert leftovers == {"fraud", CHAMPION_FILE, f".{CHAMPION_FILE}.1"}


def test_a_model_is_found_by_name_and_start_of_version(
    registry: Registry, booster: bytes, scale: ScoreScale
) -> None:
    first, second = add(registry, booster, scale, auc=0.8), add(registry, booster, scale, auc=0.9)
    assert registry.find("fraud").version == second.version
    assert registry.find(f"fraud@{first.version}").version == first.version
    assert registry.find(f"fraud@{first.version[:6]}").version == first.version
    for unknown in ("other", "fraud@", "fraud@zzz"):
        with pytest.raises(NoSuchModel):
            registry.find(unknown)


def test_a_model_from_before_versions_were_whole_hashes_is_loaded(
    registry: Registry, booster: bytes, scale: ScoreScale
) -> None:
    """Its folder has 12 digits; champion, documents and decisions name 12, 16 or all of them."""
    full = add(registry, booster, scale, auc=0.8).version
    change_manifest(registry, registry.manifest("fraud", full), version=full[:12])
    (registry.folder / "fraud" / full).rename(registry.folder / "fraud" / full[:12])
    for named in (full, full[:16], full[:12]):
        assert registry.load("fraud", named).ref.version == full
    registry.promote("fraud", full[:12])
    assert registry.champion().ref.version == full
    assert registry.promote("fraud", full).earlier == []
    assert add(registry, booster, scale, auc=0.8).version == full[:12]
    assert len(registry.models()) == 1
    (registry.folder / "fraud" / full[:12] / BOOSTER_FILE).write_bytes(b"x" + booster)
    with pytest.raises(ModelAltered, match="its files were changed"):
        registry.load("fraud", full[:12])


@pytest.mark.parametrize(("name", "version"), [("..", "abc"), ("fraud", "../fraud"), ("a/b", "0")])
def test_names_do_not_lead_out_of_the_registry(registry: Registry, name: str, version: str) -> None:
    with pytest.raises(NoSuchModel):
        registry.load(name, version)
    with pytest.raises(ModelError, match="model name"):
        registry.add("../x", b"", ScoreScale([0, 1], [0, 1000]), metrics={}, training={})


def test_scores_survive_the_files(registry: Registry, booster: bytes) -> None:
    """The knots are kept to the last bit, so that a score never hangs on who loaded the model."""
    legitimate = np.random.default_rng(5).beta(1, 20, 5000)
    fitted = ScoreScale.fit(legitimate)
    model = add(registry, booster, fitted)
    loaded = registry.load("fraud", model.version).scale
    np.testing.assert_array_equal(loaded.probabilities, fitted.probabilities)
    np.testing.assert_array_equal(loaded.scores, fitted.scores)
