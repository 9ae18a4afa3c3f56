"""The engine in use: replaced as a whole, and only by a model that can decide."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from fraud.contracts.control import ControlDocument
from fraud.decision.scale import ScoreScale
from fraud.kit.control import Refused
from model.live import EngineInUse
from model.registry import BOOSTER_FILE, Registry


@pytest.fixture
def registry(tmp_path: Path, booster: bytes, scale: ScoreScale) -> Registry:
    """Two models; the first is the champion."""
    registry = Registry(tmp_path)
    for number in (1, 2):
        registry.add("fraud", booster, scale, metrics={"number": number}, training={})
    registry.promote("fraud", versions(registry)[0])
    return registry


def versions(registry: Registry) -> list[str]:
    return [one.version for one in sorted(registry.models(), key=lambda one: one.metrics["number"])]


def naming(version: str, name: str = "fraud") -> ControlDocument:
    return ControlDocument(
        kind="model",
        name="champion",
        version=version,
        author="ada",
        time=datetime(2026, 3, 1, tzinfo=UTC),
        content={"name": name, "version": version},
    )


def test_it_starts_with_the_registrys_champion_and_switches(registry: Registry) -> None:
    """One who took the engine for a batch keeps it to the end of the batch."""
    first, second = versions(registry)
    in_use = EngineInUse(registry, service="test")
    taken = in_use.current
    in_use.take(naming(second))
    assert taken.scorer.ref.version == first
    assert in_use.current.scorer.ref.version == second
    assert in_use.current.policy.version != taken.policy.version


def test_the_same_model_again_is_not_loaded_again(registry: Registry) -> None:
    in_use = EngineInUse(registry, service="test")
    before = in_use.current
    in_use.take(naming(versions(registry)[0]))
    assert in_use.current is before


@pytest.mark.parametrize("cause", ["missing", "altered", "features"])
def test_a_model_that_cannot_decide_is_refused(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    """The one before goes on."""
    _, second = versions(registry)
    in_use = EngineInUse(registry, service="test")
    before = in_use.current
    if cause == "missing":
        second = "abc123"
    elif cause == "altered":
        path = registry.folder / "fraud" / second / BOOSTER_FILE
        path.write_bytes(path.read_bytes() + b" ")
    else:
        monkeypatch.setattr("model.registry.FEATURES_HASH", "another program")
    with pytest.raises(Refused, match=f"model fraud@{second}"):
        in_use.take(naming(second))
    assert in_use.current is before
