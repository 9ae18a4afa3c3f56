"""The model registry: trained models as plain files, versioned by a hash of their content.

    <registry>/champion.json                    the model that decides, and earlier ones
    <registry>/<name>/<version>/model.ubj       the trees, in XGBoost's own format
    <registry>/<name>/<version>/manifest.json   all else: features, scale, metrics, training
    <registry>/<name>/<version>/later.parquet   its test period: vectors and labels, no names
    <registry>/<name>/<version>/report.html     its figures, for people; report.json for machines

The version is a hash of the trees and the manifest (without `version` and `created_at`), so that a
version can never mean two things, and an altered file is noticed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fraud.contracts.decision import ModelRef
from fraud.contracts.versions import EARLIER_DIGITS, found_version, same_version, shown
from fraud.decision.scale import ScoreScale
from fraud.features.vector import FEATURE_NAMES, FEATURES_HASH
from model.scorer import XGBoostScorer

BOOSTER_FILE: Final = "model.ubj"
MANIFEST_FILE: Final = "manifest.json"
LATER_FILE: Final = "later.parquet"
CHAMPION_FILE: Final = "champion.json"

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_NOT_HASHED: Final = ("version", "created_at")


class ModelError(Exception):
    """A model cannot be used; the message says which and why."""


class NoSuchModel(ModelError):
    """The registry has no such model, or no champion yet."""


class ModelAltered(ModelError):
    """The files of a model do not match its version."""


class ModelMismatch(ModelError):
    """A model was trained on features other than those that this program computes."""


def check_name(name: str) -> None:
    """Check a model's name, before hours are spent on training it.

    Raises:
        ModelError: The name is malformed.
    """
    if not _NAME.fullmatch(name):
        raise ModelError(
            f"model name {name!r}: expected up to 64 lower-case letters, digits, _ and -"
        )


class Scale(BaseModel):
    """Knots of the score scale; see `fraud.decision.scale.ScoreScale`."""

    model_config = ConfigDict(frozen=True)

    probabilities: list[float]
    scores: list[float]


class Manifest(BaseModel):
    """Description of a model: all there is besides its trees.

    Attributes:
        name: Purpose of the model; models of one name replace each other.
        version: Content hash; of older models its first 12 digits.
        created_at: Time of training, ISO 8601, UTC.
        features_hash: `FEATURES_HASH` of the program that trained it.
        features: Names in the order of the matrix.
        scale: The score scale.
        metrics: Figures on the later period, which training did not see.
        training: Configuration, data and their hash: all that is needed to train it again.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    version: str
    created_at: str
    features_hash: str
    features: list[str]
    scale: Scale
    metrics: dict[str, Any]
    training: dict[str, Any]


class Champion(BaseModel):
    """The model that decides.

    Attributes:
        name: Name of the model.
        version: Version of the model.
        promoted_at: Time of its promotion, ISO 8601, UTC.
        earlier: Earlier champions, the latest last, for rollbacks.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    version: str
    promoted_at: str
    earlier: Annotated[list[ModelRef], Field(default_factory=list)]

    @property
    def ref(self) -> ModelRef:
        """Name and version of the model, as they were promoted."""
        return ModelRef(name=self.name, version=self.version)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Registry:
    """Models in one folder.

    Args:
        folder: Folder of the models; created when the first one is added.
        clock: Time now, timezone-aware, for `created_at` and `promoted_at`.
    """

    def __init__(self, folder: Path, clock: Callable[[], datetime] = _utc_now) -> None:
        self.folder = folder
        self._clock = clock

    def make(self) -> None:
        """Create the folder, before hours are spent on training.

        Raises:
            ModelError: The folder cannot be created or is not writable.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ModelError(f"model registry {self.folder}: {error.strerror}") from None
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise ModelError(f"model registry {self.folder}: not writable")

    def add(
        self,
        name: str,
        booster: bytes,
        scale: ScoreScale,
        *,
        metrics: dict[str, Any],
        training: dict[str, Any],
        later: bytes | None = None,
    ) -> Manifest:
        """Store a model trained on this program's features; it decides nothing until promoted.

        Adding the same model again changes nothing.

        Args:
            name: Lower-case letters, digits, `_` and `-`.
            booster: Trees, from `Booster.save_raw("ubj")`.
            scale: Score scale.
            metrics: JSON values that the same data and seed reproduce (no durations).
            training: JSON values that the same data and seed reproduce.
            later: Transactions it was tested on, to compare later models with it
                (`model.evaluation.MeasuredPeriod.to_bytes`).

        Raises:
            ModelError: The name is malformed.
        """
        check_name(name)
        manifest: dict[str, Any] = {
            "name": name,
            "version": "",
            "created_at": self._clock().isoformat(timespec="seconds"),
            "features_hash": FEATURES_HASH,
            "features": list(FEATURE_NAMES),
            "scale": {
                "probabilities": scale.probabilities.tolist(),
                "scores": scale.scores.tolist(),
            },
            "metrics": metrics,
            "training": training,
        }
        manifest["version"] = version = _version_of(manifest, booster)
        folder = self._place(name, version)
        if not folder.exists():
            # Renamed when complete: a reader never sees a model without its manifest.
            making = self.folder / name / f".{version}.{os.getpid()}"
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir(parents=True)
            _write(making / BOOSTER_FILE, booster)
            if later is not None:
                _write(making / LATER_FILE, later)
            _write(making / MANIFEST_FILE, orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
            try:
                making.rename(folder)
            except OSError:
                # Another process added the same model meanwhile.
                shutil.rmtree(making)
                if not folder.exists():
                    raise
        return self.manifest(name, version)

    def manifest(self, name: str, version: str) -> Manifest:
        """Read the manifest of a model, without checking its files.

        Raises:
            NoSuchModel: The registry does not have the model.
            ModelAltered: The manifest cannot be read.
        """
        return _checked(self._manifest_bytes(name, version), f"{name}@{shown(version)}")

    def later(self, name: str, version: str) -> bytes | None:
        """Read the transactions that a model was tested on, None if they were not kept."""
        try:
            return (self._place(name, version) / LATER_FILE).read_bytes()
        except FileNotFoundError:
            return None

    def keep(self, name: str, version: str, file: str, content: bytes) -> Path:
        """Store a report beside a model; the version does not cover it."""
        path = self._place(name, version) / file
        making = path.with_name(f".{file}.{os.getpid()}")
        _write(making, content)
        return making.replace(path)

    def load(self, name: str, version: str) -> XGBoostScorer:
        """Load a model after checking that its files match the version; its `ref` names it in full.

        Raises:
            NoSuchModel: The registry does not have the model.
            ModelAltered: A file was changed.
            ModelMismatch: The model was trained on other features.
        """
        raw = self._manifest_bytes(name, version)
        manifest = _checked(raw, f"{name}@{shown(version)}")
        try:
            booster = (self._place(name, version) / BOOSTER_FILE).read_bytes()
        except FileNotFoundError:
            raise ModelAltered(
                f"model {name}@{shown(version)}: {BOOSTER_FILE} is missing"
            ) from None
        found = _version_of(orjson.loads(raw), booster)
        is_named = same_version(found, version) and same_version(found, manifest.version)
        if not is_named or manifest.name != name:
            raise ModelAltered(
                f"model {name}@{shown(version)}: its files were changed, they are of version {shown(found)}; "
                "train it again or take another version"
            )
        difference = _features_difference(manifest)
        if difference:
            raise ModelMismatch(
                f"model {name}@{shown(version)} does not match the features of this program: "
                f"{difference}; train it again"
            )
        scorer = XGBoostScorer(
            booster,
            ModelRef(name=name, version=found),
            ScoreScale(manifest.scale.probabilities, manifest.scale.scores),
        )
        if scorer.width != len(FEATURE_NAMES):
            raise ModelMismatch(
                f"model {name}@{shown(version)} does not match its manifest: its trees take "
                f"{scorer.width} features, not {len(FEATURE_NAMES)}"
            )
        return scorer

    def champion_ref(self) -> ModelRef:
        """Return the name and version of the model that decides.

        Raises:
            NoSuchModel: No model was promoted yet.
        """
        champion = self._champion()
        if champion is None:
            raise NoSuchModel(
                f"no champion in the model registry {self.folder}: train a model first "
                "(fraudstream train)"
            )
        return champion.ref

    def champion(self) -> XGBoostScorer:
        """Load the model that decides.

        Raises:
            NoSuchModel: No model was promoted yet.
            ModelAltered: A file of the model was changed.
            ModelMismatch: The model was trained on other features.
        """
        ref = self.champion_ref()
        return self.load(ref.name, ref.version)

    def promote(self, name: str, version: str, *, force: bool = False) -> Champion:
        """Make a model the champion after checking that it loads; see also `model.promotion.check`.

        Args:
            name: Name of the model.
            version: Version of the model.
            force: Whether to promote a model trained on other features, for a program that computes
                these.

        Raises:
            NoSuchModel: The registry does not have the model.
            ModelAltered: A file of the model was changed.
            ModelMismatch: The model was trained on other features.
        """
        try:
            self.load(name, version)
        except ModelMismatch:
            if not force:
                raise
        now = self._champion()
        if now is not None and now.name == name and same_version(now.version, version):
            return now
        earlier = [] if now is None else [*now.earlier, now.ref]
        return self._point(name, version, earlier)

    def rollback(self) -> Champion:
        """Make the previous champion the champion again.

        Raises:
            NoSuchModel: The registry has no earlier champion.
            ModelAltered: A file of the model was changed.
            ModelMismatch: The model was trained on other features.
        """
        *earlier, last = self._earlier()
        self.load(last.name, last.version)
        return self._point(last.name, last.version, earlier)

    def earlier_ref(self) -> ModelRef:
        """Return the name and version of the previous champion.

        Raises:
            NoSuchModel: The registry has no earlier champion.
        """
        return self._earlier()[-1]

    def _earlier(self) -> list[ModelRef]:
        now = self._champion()
        if now is None or not now.earlier:
            raise NoSuchModel("the registry has no earlier champion to go back to")
        return now.earlier

    def latest(self, name: str) -> ModelRef:
        """Return the newest model of a name, by `created_at`.

        Raises:
            NoSuchModel: The registry has no model of this name.
        """
        models = [manifest for manifest in self.models() if manifest.name == name]
        if not models:
            raise NoSuchModel(f"no model {name} in the model registry {self.folder}")
        return ModelRef(name=name, version=models[-1].version)

    def find(self, text: str) -> ModelRef:
        """Find a model by `NAME` (its newest version) or `NAME@VERSION` (a unique prefix is enough).

        Raises:
            NoSuchModel: No model matches, or several do.
        """
        name, at, start = text.partition("@")
        if not at:
            return self.latest(name)
        found = [
            manifest.version
            for manifest in self.models()
            if manifest.name == name and start and manifest.version.startswith(start)
        ]
        if len(found) != 1:
            known = ", ".join(f"{model.name}@{shown(model.version)}" for model in self.models())
            raise NoSuchModel(
                f"{'no' if not found else 'more than one'} model {text} in the model registry "
                f"{self.folder}, which holds: {known or 'none'}"
            )
        return ModelRef(name=name, version=found[0])

    def models(self) -> list[Manifest]:
        """Return all manifests, oldest first; invalid ones are skipped."""
        manifests = []
        for path in self.folder.glob(f"[!.]*/[!.]*/{MANIFEST_FILE}"):
            try:
                manifests.append(Manifest.model_validate_json(path.read_bytes()))
            except ValidationError:
                continue
        return sorted(
            manifests, key=lambda manifest: (manifest.created_at, manifest.name, manifest.version)
        )

    def _manifest_bytes(self, name: str, version: str) -> bytes:
        # Names come from files and command lines: they must not lead out of the registry.
        if not _NAME.fullmatch(name) or not re.fullmatch(r"[0-9a-f]+", version):
            raise NoSuchModel(f"no model {name}@{shown(version)}: expected a name and a version")
        try:
            return (self._place(name, version) / MANIFEST_FILE).read_bytes()
        except FileNotFoundError:
            raise NoSuchModel(
                f"no model {name}@{shown(version)} in the model registry {self.folder}"
            ) from None

    def _place(self, name: str, version: str) -> Path:
        """Return the folder of a model; that of an older one has the first digits of its version."""
        folder = self.folder / name / version
        if not folder.exists() and len(version) >= EARLIER_DIGITS:
            known = (other.name for other in folder.parent.glob(f"{version[:EARLIER_DIGITS]}*"))
            found = found_version(version, known)
            return folder if found is None else folder.with_name(found)
        return folder

    def _champion(self) -> Champion | None:
        path = self.folder / CHAMPION_FILE
        try:
            return Champion.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            raise ModelAltered(f"{path}: expected the name and version of a model") from None

    def _point(self, name: str, version: str, earlier: list[ModelRef]) -> Champion:
        champion = Champion(
            name=name,
            version=version,
            promoted_at=self._clock().isoformat(timespec="seconds"),
            earlier=earlier,
        )
        making = self.folder / f".{CHAMPION_FILE}.{os.getpid()}"
        _write(making, orjson.dumps(champion.model_dump(), option=orjson.OPT_INDENT_2))
        making.replace(self.folder / CHAMPION_FILE)
        return champion


def _version_of(manifest: dict[str, Any], booster: bytes) -> str:
    told = {key: value for key, value in manifest.items() if key not in _NOT_HASHED}
    digest = hashlib.sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS))
    digest.update(hashlib.sha256(booster).digest())
    return digest.hexdigest()


def _checked(raw: bytes, model: str) -> Manifest:
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        fields = sorted(
            {".".join(str(part) for part in problem["loc"]) for problem in error.errors()}
        )
        raise ModelAltered(
            f"model {model}: {MANIFEST_FILE} is damaged ({', '.join(fields) or 'not JSON'})"
        ) from None


def _features_difference(manifest: Manifest) -> str:
    """Return how a model's features differ from this program's, empty if they do not."""
    theirs, ours = manifest.features, list(FEATURE_NAMES)
    if theirs != ours:
        lacking = _listed(name for name in ours if name not in theirs)
        unknown = _listed(name for name in theirs if name not in ours)
        parts = [
            f"the model lacks {lacking}" if lacking else "",
            f"the program lacks {unknown}" if unknown else "",
        ]
        return " and ".join(part for part in parts if part) or "their order differs"
    if manifest.features_hash != FEATURES_HASH:
        return (
            f"the names are the same, but their meaning is not (features {manifest.features_hash} "
            f"in the model, {FEATURES_HASH} in the program)"
        )
    return ""


def _listed(names: Iterable[str], most: int = 5) -> str:
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def _write(path: Path, content: bytes) -> None:
    """Write a file and flush it to disk, before anything points to it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
