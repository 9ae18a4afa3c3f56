"""Decides whether a model may replace the champion.

Both are measured on the same later transactions, from which neither has learnt: on those of the
candidate's test period (kept beside it in the registry) that followed the champion's training, or
on those of a given file that followed the training of both. The difference in average precision
is paired: each resample draws the same entities for both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fraud.backtest.resampling import PairedDifference, difference
from fraud.contracts.decision import ModelRef
from fraud.contracts.transaction import event_time_to_ms
from fraud.contracts.versions import same_version, shown
from model.datasets import DatasetError
from model.evaluation import MeasuredPeriod, measure
from model.registry import Manifest, ModelAltered, ModelError, Registry

WORSE_SHARE: Final = 0.8
"""Share of resamples with a lower figure from which a candidate counts as worse.

Of candidates as good as the champion it refuses one in five, of worse ones nearly all.
"""


class PromotionRefused(ModelError):
    """A model may not become the champion; the message says why."""


@dataclass(frozen=True, slots=True)
class ModelComparison:
    """Two models on the same later transactions.

    Attributes:
        champion: Model that decides now.
        rows: Labelled transactions that both were measured on.
        frauds: Number of frauds among them.
        candidate_precision: Average precision of the candidate.
        champion_precision: Average precision of the champion.
        difference: Candidate's minus champion's average precision.
    """

    champion: ModelRef
    rows: int
    frauds: int
    candidate_precision: float
    champion_precision: float
    difference: PairedDifference

    @property
    def worse(self) -> bool:
        """Whether the candidate is worse, as far as these transactions can tell."""
        return self.difference.value < 0 and self.difference.lower_share >= WORSE_SHARE

    def __str__(self) -> str:
        found = self.difference
        return (
            f"average precision {self.candidate_precision:.3f} against {self.champion_precision:.3f} of the "
            f"champion {self.champion.name}@{shown(self.champion.version)} on the same {self.rows:,} later "
            f"transactions with {self.frauds:,} frauds: difference {found.value:+.3f}, 95 % interval "
            f"{found.low:+.3f} to {found.high:+.3f}, lower in {found.lower_share:.0%} of the resamples"
        )


def compare(
    registry: Registry,
    candidate: ModelRef,
    champion: ModelRef,
    period: MeasuredPeriod | None = None,
) -> ModelComparison:
    """Measure two models on the same later transactions.

    Args:
        registry: Registry with both models.
        candidate: Model that may replace the champion.
        champion: Model that decides now.
        period: Transactions, of which those later than the training of both are measured; None
            means the candidate's test period.

    Raises:
        PromotionRefused: No later transactions exist that both can be measured on.
        ModelError: One of the models cannot be used.
    """
    scorers = [registry.load(ref.name, ref.version) for ref in (candidate, champion)]
    manifests = [registry.manifest(ref.name, ref.version) for ref in (candidate, champion)]
    if period is None:
        period = _later(registry, *manifests)
    else:
        period = period.since(max(learnt_until_ms(one, period) for one in manifests))
    try:
        new, old = (
            measure(period, scorer.predict(period.matrix), scorer.scale) for scorer in scorers
        )
    except (DatasetError, ValueError):
        raise PromotionRefused(
            f"{candidate.name}@{shown(candidate.version)} and the champion {champion.name}@{shown(champion.version)} "
            "have no later transactions, with fraud among them, from which neither has learnt; name "
            "some by --data and --mapping, or promote it all the same with --force"
        ) from None
    return ModelComparison(
        champion,
        int(new.facts["rows"]),
        int(new.facts["frauds"]),
        new.figures["average_precision",],
        old.figures["average_precision",],
        difference(new, old),
    )


def check(
    registry: Registry, candidate: ModelRef, period: MeasuredPeriod | None = None
) -> ModelComparison | None:
    """Refuse a model that is worse than the champion.

    Args:
        registry: Registry with both models.
        candidate: Model that may replace the champion.
        period: See `compare`.

    Returns:
        The comparison; None if the candidate is the champion, or if no champion exists that this
        program can use.

    Raises:
        PromotionRefused: The candidate is worse, or cannot be compared.
        ModelError: The candidate cannot be used.
    """
    registry.load(candidate.name, candidate.version)
    try:
        champion = registry.champion().ref
    except ModelError:
        return None
    if champion.name == candidate.name and same_version(champion.version, candidate.version):
        return None
    found = compare(registry, candidate, champion, period)
    if found.worse:
        raise PromotionRefused(
            f"{candidate.name}@{shown(candidate.version)} is worse: {found}; promote it all the same with --force"
        )
    return found


def refusal_of(models: Registry, manifest: Manifest) -> str:
    """Return why a new model may not become the champion, empty if it may."""
    try:
        check(models, ModelRef(name=manifest.name, version=manifest.version))
    except PromotionRefused as refused:
        return str(refused)
    return ""


def _later(registry: Registry, ours: Manifest, theirs: Manifest) -> MeasuredPeriod:
    content = registry.later(ours.name, ours.version)
    if content is None:
        raise PromotionRefused(
            f"{ours.name}@{shown(ours.version)} came without the transactions it was tested on, so it cannot be "
            "compared with the champion; name some by --data and --mapping, or promote it all the same "
            "with --force"
        )
    try:
        period = MeasuredPeriod.from_bytes(content)
    except ValueError:
        period = None
    if period is None or period.digest != ours.training.get("later_digest"):
        raise ModelAltered(
            f"model {ours.name}@{shown(ours.version)}: the transactions it was tested on were changed"
        )
    return period.since(learnt_until_ms(theirs, period))


def learnt_until_ms(model: Manifest, period: MeasuredPeriod) -> int:
    """Return the time until which a model has learnt from such transactions, UTC epoch milliseconds.

    The time is 0 if the model learnt from real transactions and these are simulated, or vice versa.
    """
    trained_at = model.training.get("trained_at")
    same_world = bool(model.training.get("has_truth")) == period.simulated
    return event_time_to_ms(trained_at) if same_world and isinstance(trained_at, str) else 0
